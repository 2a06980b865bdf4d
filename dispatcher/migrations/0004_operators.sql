-- What operators do by hand: pause and resume a link or a category, send what is in doubt again. Each is one row of
-- operator_log, which is appended to and never changed. And apps are told of replies.

create table tocsin.operator_log (
    at       timestamptz not null default clock_timestamp(),
    by_user  text not null default session_user,         -- who the database knows
    person   text not null,                              -- who says to be at the keyboard
    verb     text not null check (verb in ('pause', 'resume', 'requeue')),
    kind     text not null check (kind in ('link', 'category', 'job')),
    subject  text not null,                              -- name of the link or category, id of the job
    reason   text not null check (length(reason) <= 500),
    primary key (at, verb, kind, subject)
);

create function tocsin.keep_operator_log() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    raise exception 'operator_log is appended to, never changed';
end $$;

create trigger appended_only before update or delete or truncate on tocsin.operator_log
    for each statement execute function tocsin.keep_operator_log();

create function tocsin.audit(verb text, kind text, subject text, reason text, person text) returns void
language sql volatile set search_path = pg_catalog, pg_temp as $$
    insert into tocsin.operator_log (verb, kind, subject, reason, person) values (verb, kind, subject, reason, person);
    insert into tocsin.event_log (at, seq, xid, app, type, subject, detail)
    values (now(), tocsin.event_seq(1), pg_current_xact_id(), '', 'operator.' || verb, subject, jsonb_build_object('kind', kind));
$$;

-- Pauses or resumes a link or a category; daemons obey at the notification, within a second without it.
-- Returns changed, unchanged or unknown. Locks: the row of the link (no key update: no fence waits for it) or category.
create function tocsin.set_paused(kind text, name text, paused boolean, reason text, person text) returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp set lock_timeout = '5s' as $$
declare
    was boolean;
begin
    if kind = 'link' then
        select l.paused into was from tocsin.link l where l.name = set_paused.name and l.enabled for no key update;
        update tocsin.link l set paused = set_paused.paused where l.name = set_paused.name and was <> set_paused.paused;
    else
        select c.paused into was from tocsin.category c where c.name = set_paused.name for no key update;
        update tocsin.category c set paused = set_paused.paused where c.name = set_paused.name and was <> set_paused.paused;
    end if;
    if was is null then
        return 'unknown';
    elsif was = paused then
        return 'unchanged';
    end if;
    perform tocsin.audit(case when paused then 'pause' else 'resume' end, kind, name, reason, person);
    perform pg_notify('tocsin_control', '');
    return 'changed';
end $$;

-- Sends the parts of a job that are in doubt once more, though the SMSC may have taken them: an operator's decision.
-- Returns requeued, too_late (its time is over, or it is in doubt no more) or unknown. Locks: the row of uncertain.
create function tocsin.requeue(wanted bigint, reason text, person text) returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp set lock_timeout = '5s' as $$
declare
    u tocsin.uncertain;
begin
    delete from tocsin.uncertain t where t.id = wanted and t.expires_at > now() returning * into u;
    if not found then
        return case when exists (select from tocsin.job_status(wanted)) then 'too_late' else 'unknown' end;
    end if;
    insert into tocsin.deferred (due_at, id, link, lane, app, client_ref, recipient, sender, body, category, flash, options, enqueued_at,
                                 expires_at, cancel_group, attempt, resends, parts, done, first_wire_at, reason)
    values (now(), u.id, u.link, u.lane, u.app, u.client_ref, u.recipient, u.sender, u.body, u.category, u.flash, u.options,
            u.enqueued_at, u.expires_at, u.cancel_group, u.attempt, u.resends + 1, u.parts, u.done, u.first_wire_at, 'REQUEUED');
    perform tocsin.audit('requeue', 'job', wanted::text, reason, person);
    return 'requeued';
end $$;

-- A reply belongs to no app, as its row in the inbox does: every app is told.
create or replace view tocsin.event with (security_barrier) as
    select seq, type, subject,
           jsonb_strip_nulls(jsonb_build_object('client_ref', client_ref, 'category', category, 'reason', reason))
               || coalesce(detail, '{}') as data, at
    from tocsin.event_log
    where xid < pg_snapshot_xmin(pg_current_snapshot())
      and (app = session_user or type = 'inbound.received' or (select tocsin.sees_all()));

revoke execute on all functions in schema tocsin from public;
