-- What an operator has an SMSC asked: whether it cancels a message, or what it knows of it. The daemon that owns the link asks, once.
create table tocsin.inquiry (
    inquiry_id    bigint generated always as identity primary key,
    asked_at      timestamptz not null default now(),
    kind          text not null check (kind in ('query', 'cancel')),
    job_id        bigint not null,
    part          smallint not null,
    link          text not null,
    message_id    text not null,
    sender        text not null,
    recipient     text not null,
    sent_at       timestamptz,                           -- taken by the owner of the link: it is asked after this commit, and never again
    answered_at   timestamptz,
    outcome       text,                                  -- answered, unanswered, session_lost, unsupported, busy
    command_status bigint,                              -- 32 bits without a sign
    message_state text,
    error_code    int,
    final_date    text
);
create index inquiry_open on tocsin.inquiry (link) where sent_at is null;
create index on tocsin.inquiry (asked_at);

alter table tocsin.operator_log drop constraint operator_log_verb_check;
alter table tocsin.operator_log add constraint operator_log_verb_check check (verb in ('pause', 'resume', 'requeue', 'cancel', 'query'));

-- Asks about every accepted part of a job that has no final receipt; returns the inquiries' ids. Locks: none that others wait for.
create function tocsin.ask_about(wanted bigint, asked text, why text, who text) returns setof bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    return query
        insert into tocsin.inquiry (kind, job_id, part, link, message_id, sender, recipient)
        select asked, s.job_id, s.part, s.link, s.message_id, s.sender, s.destination
        from tocsin.sent s
        where s.job_id = wanted and s.message_id <> '' and s.receipt_state is null
        order by s.part
        returning inquiry_id;
    if found then
        perform tocsin.audit(asked, 'job', wanted::text, why, who);
    end if;
end $$;

revoke execute on all functions in schema tocsin from public;
