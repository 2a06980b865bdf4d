-- What people refuse, and the answer to STOP, START and HELP: a ledger that is only added to, and the state that it gives.
--
--   suppression_event   the ledger: who refuses what, why, and how that became known; evidence, never changed
--   suppression         the state, as the claim reads it: suppression_by_events says what it must be
--   auto_reply          texts by kind, sender and language; '' as the sender: any, as the language: any
--
-- A scope is everything, one category, or one sender: the number that a STOP was sent to. Numbers stand without a plus.
-- Digits of an E.164 number, without a plus.
create function tocsin.is_number(number text) returns boolean
language sql immutable strict parallel safe as $$ select number ~ '^[1-9][0-9]{6,14}$' $$;

create function tocsin.suppression_reasons() returns text[]
language sql immutable parallel safe as $$
    select array['OPT_OUT', 'SOFT_HOLD', 'WRONG_PERSON', 'REASSIGNED', 'INVALID', 'LANDLINE', 'DECEASED', 'CARRIER_BLOCK', 'OTHER_CHANNEL', 'ABUSE']
$$;

-- What an app's malformed call raises: TC400, with the field's name before the colon. Null: nothing is wrong.
create function tocsin.complain(wrong text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    if wrong is not null then
        raise exception '%', wrong using errcode = 'TC400', column = split_part(wrong, ':', 1);
    end if;
end $$;

create table tocsin.suppression_event (
    id          bigint generated always as identity primary key,
    at          timestamptz not null default now(),
    recipient   text not null check (tocsin.is_number(recipient)),
    scope       text not null check (scope in ('everything', 'category', 'sender')),
    value       text not null,                           -- of everything: ''
    action      text not null check (action in ('added', 'lifted')),
    reason      text not null check (reason = any (tocsin.suppression_reasons())),
    source      text not null check (source in ('reply', 'app', 'operator', 'carrier', 'import')),
    by_user     text not null default session_user,
    inbound_id  bigint,                                  -- of the reply that said so
    evidence    jsonb not null default '{}',
    check ((scope = 'everything') = (value = ''))
);
create index on tocsin.suppression_event (recipient, id);

insert into tocsin.suppression_event (recipient, scope, value, action, reason, source, at, evidence)
select recipient, case sender when '' then 'everything' else 'sender' end, ltrim(sender, '+'), 'added', 'OPT_OUT', 'import', at,
       evidence || jsonb_build_object('reason', reason)
from tocsin.suppression where tocsin.is_number(recipient) order by at;

create view tocsin.suppression_by_events as
    select e.recipient, e.scope, e.value, e.reason, min(e.at) as at     -- what was said again changes nothing
    from tocsin.suppression_event e
    where e.action = 'added'
      and not exists (select from tocsin.suppression_event l
                      where (l.recipient, l.scope, l.value, l.reason) = (e.recipient, e.scope, e.value, e.reason) and l.action = 'lifted'
                        and l.id > e.id)
    group by e.recipient, e.scope, e.value, e.reason;

drop table tocsin.suppression;
create table tocsin.suppression (
    recipient  text not null,
    scope      text not null,
    value      text not null,
    reason     text not null,
    at         timestamptz not null,                     -- since when it holds
    primary key (recipient, scope, value, reason)
);
insert into tocsin.suppression select * from tocsin.suppression_by_events;

-- Reasons that bind every category, those that a STOP does not reach too: nobody is there, or it is somebody else.
create function tocsin.binds_all(reason text) returns boolean
language sql immutable parallel safe as $$
    select reason in ('WRONG_PERSON', 'REASSIGNED', 'INVALID', 'LANDLINE', 'DECEASED', 'CARRIER_BLOCK')
$$;

-- Notes that something is refused, or no more; returns the ledger's id, null where nothing changed by it and `always` is false.
-- Locks: an advisory one on the number, until the transaction ends.
create function tocsin.note_suppression(number text, of_scope text, of_value text, what text, why text, known_by text, inbound bigint,
                                        proof jsonb, always boolean) returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    changed boolean;
    noted   bigint;
begin
    perform pg_advisory_xact_lock(hashtextextended('tocsin.suppression ' || number, 0));
    if what = 'added' then
        insert into tocsin.suppression (recipient, scope, value, reason, at) values (number, of_scope, of_value, why, now())
        on conflict do nothing;
    else
        delete from tocsin.suppression s where (s.recipient, s.scope, s.value, s.reason) = (number, of_scope, of_value, why);
    end if;
    changed := found;
    if changed or always then
        insert into tocsin.suppression_event (recipient, scope, value, action, reason, source, inbound_id, evidence)
        values (number, of_scope, of_value, what, why, known_by, inbound, proof) returning id into noted;
    end if;
    if changed then
        insert into tocsin.event_log (at, seq, xid, app, type, subject, reason, detail)
        values (now(), tocsin.event_seq(1), pg_current_xact_id(), '', 'suppression.' || what, noted::text, why,
                jsonb_strip_nulls(jsonb_build_object('scope', of_scope, 'value', nullif(of_value, ''), 'inbound_id', inbound)));
        -- daemons take back what waits in memory, or let it go again
        perform pg_notify('tocsin_suppressed', concat_ws('|', number, of_scope, of_value, why, what));
    end if;
    return case when changed then noted end;
end $$;

-- What an app says of a number: added, or lifted. Returns whether that changed anything. Raises TC400.
create function tocsin.say_suppression(what text, recipient text, reason text, scope text, value text, evidence jsonb) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    perform tocsin.complain(case
        when tocsin.is_number(ltrim(recipient, '+')) is not true then 'recipient: not an E.164 number'
        when scope is null or scope not in ('everything', 'category', 'sender') then 'scope: everything, category or sender'
        when (scope = 'everything') <> (coalesce(value, '') = '') then 'value: the category or the sender, none for everything'
        when reason is null or reason <> all (tocsin.suppression_reasons()) then 'reason: unknown'
    end);
    return tocsin.note_suppression(ltrim(recipient, '+'), scope, case scope when 'sender' then ltrim(value, '+') else value end, what, reason,
                                   'app', null, coalesce(evidence, '{}'), true) is not null;
end $$;

-- For apps: nothing of this scope goes to the number any more. True where that is new. Raises TC400 with the field's name.
create function tocsin.suppress(recipient text, reason text, scope text default 'everything', value text default '',
                                evidence jsonb default '{}') returns boolean
language sql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '2s' as $$
    select tocsin.say_suppression('added', recipient, reason, scope, value, evidence)
$$;

-- For apps: it goes again, as far as this reason and scope held it. True where something was lifted. Raises TC400.
create function tocsin.lift(recipient text, reason text, scope text default 'everything', value text default '',
                            evidence jsonb default '{}') returns boolean
language sql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '2s' as $$
    select tocsin.say_suppression('lifted', recipient, reason, scope, value, evidence)
$$;

create table tocsin.auto_reply (                          -- as the file has them
    kind      text not null check (kind in ('stop', 'start', 'help', 'emergency')),
    sender    text not null default '',
    language  text not null default '',
    body      text not null,                             -- '': none is sent
    primary key (kind, sender, language)
);

-- Does what a reply asks for, in the transaction that stores it. Never raises for anything that it says.
-- Returns the id of the answer's job; null where there is none.
create function tocsin.heed(inbound bigint, over_link text, from_number text, to_number text, wish text, spoken text, danger text)
returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    number   constant text := ltrim(from_number, '+');
    own      tocsin.sender;
    of_scope text;
    of_value text;
    changed  bigint;
    answer   text;
    words    text;
    job      bigint;
begin
    if tocsin.is_number(number) is not true then               -- a short code or a name: neither refuses nor is answered
        return null;
    end if;
    select * into own from tocsin.sender s where ltrim(s.address, '+') = ltrim(to_number, '+') order by s.position limit 1;
    of_scope := case when own.address is null then 'everything' else 'sender' end;
    of_value := coalesce(ltrim(own.address, '+'), '');
    if wish = 'stop' then
        changed := tocsin.note_suppression(number, of_scope, of_value, 'added', 'OPT_OUT', 'reply', inbound, '{}', true);
        answer := case when changed is not null then 'stop' end;
    elsif wish = 'start' then
        changed := tocsin.note_suppression(number, of_scope, of_value, 'lifted', 'OPT_OUT', 'reply', inbound, '{}', false);
        changed := coalesce(tocsin.note_suppression(number, 'category', 'marketing', 'lifted', 'SOFT_HOLD', 'reply', inbound, '{}', false), changed);
        answer := case when changed is not null then 'start' else 'help' end;
    elsif wish = 'help' then
        answer := 'help';
    elsif wish = 'soft_stop' then
        perform tocsin.note_suppression(number, 'category', 'marketing', 'added', 'SOFT_HOLD', 'reply', inbound, '{}', false);
    elsif wish = 'wrong_person' then
        perform tocsin.note_suppression(number, 'everything', '', 'added', 'WRONG_PERSON', 'reply', inbound, '{}', false);
    end if;
    if danger is not null then
        insert into tocsin.event_log (at, seq, xid, app, type, subject, detail)
        values (now(), tocsin.event_seq(1), pg_current_xact_id(), '', 'inbound.emergency', inbound::text, jsonb_build_object('link', over_link));
        answer := case when answer = 'stop' then 'stop' else 'emergency' end;
    end if;
    if answer is null or own.address is null or own.links is not null and over_link <> all (own.links) then
        return null;
    end if;
    select r.body into words from tocsin.auto_reply r
    where r.kind = answer and r.sender in ('', own.address)
    order by r.language = coalesce(nullif(case answer when 'emergency' then danger else spoken end, ''), 'none') desc, r.language = '' desc,
             r.language = 'en' desc, r.sender <> '' desc
    limit 1;
    if coalesce(words, '') = '' then
        return null;
    end if;
    job := nextval('tocsin.job_id');                     -- note_suppression, or the row of inbound, has drawn the xid before
    insert into tocsin.ready (link, lane, id, app, client_ref, recipient, sender, body, category, flash, enqueued_at, due_at, expires_at, parts)
    select over_link, c.lane, job, session_user, 'inbound ' || inbound, number, own.address, words, c.name, false, now(), now(),
           now() + c.time_to_live, tocsin.parts_on(words, c.name, over_link)
    from tocsin.category c where c.name = 'reply' and tocsin.parts_on(words, c.name, over_link) is not null;
    return case when found then job end;
end $$;

-- Every app may need to know of what is refused: it concerns the person, not the job.
create or replace view tocsin.event with (security_barrier) as
    select seq, type, subject,
           jsonb_strip_nulls(jsonb_build_object('client_ref', client_ref, 'category', category, 'reason', reason))
               || coalesce(detail, '{}') as data, at
    from tocsin.event_log
    where xid < pg_snapshot_xmin(pg_current_snapshot())
      and (app = session_user or type in ('inbound.received', 'inbound.emergency', 'suppression.added', 'suppression.lifted')
           or (select tocsin.sees_all()));

revoke execute on all functions in schema tocsin from public;
