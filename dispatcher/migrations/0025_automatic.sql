-- What is answered by itself to texts that ask for nothing, what a STOP comes to where messages go on, and no conversation of two machines.
--
--   received, closed   a free text is acknowledged, by our opening hours
--   staff_stop         STOP to a number of which a STOP reaches no category
--   inbound.loop       an answer that was held back: it would have gone to a machine, or on and on

alter table tocsin.auto_reply drop constraint auto_reply_kind_check;
alter table tocsin.auto_reply add constraint auto_reply_kind_check
    check (kind in ('stop', 'staff_stop', 'start', 'help', 'emergency', 'ambiguous', 'received', 'closed'));

-- Who sends us one of these sends our own text back. What is filled in ({answers}, {opens}) differs each time, and is sent once by its own rule.
alter table tocsin.auto_reply add column echo text not null generated always as (tocsin.normal_form(body)) stored;
alter table tocsin.keyword add column echo text not null generated always as (tocsin.normal_form(body)) stored;

alter table tocsin.automatic_reply add column opening text;    -- of `closed`: when it opens next, which names the closed period
create index on tocsin.automatic_reply (peer, at);

-- As before; of a STOP in a handset's text that only the ledger heeds, the event says so.
create or replace function tocsin.note_suppression(number text, of_scope text, of_value text, what text, why text, known_by text, inbound bigint,
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
                jsonb_strip_nulls(jsonb_build_object('scope', of_scope, 'value', nullif(of_value, ''), 'inbound_id', inbound,
                                                     'recorded_only', case known_by when 'reply' then proof -> 'recorded_only' end)));
        -- daemons take back what waits in memory, or let it go again
        perform pg_notify('tocsin_suppressed', concat_ws('|', number, of_scope, of_value, why, what));
    end if;
    return case when changed then noted end;
end $$;

-- Whether a STOP to a number of ours ends nothing: it reaches none of the categories that go from it, the answer to it aside.
create function tocsin.goes_on(own tocsin.sender) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
    select coalesce(bool_and(c.stop <> 'applies'), false) from tocsin.category c where c.name = any (own.categories) and c.name <> 'reply'
$$;

-- Whether an answer would go to a machine, or on and on. It alone is held back, never what the message asks for.
-- Index: suppression's primary key; automatic_reply (peer, at). The callers hold the number's advisory lock.
create function tocsin.is_loop(own text, number text, of_kind text, of_class text, said text) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    asked   constant boolean := of_kind in ('stop', 'staff_stop', 'start', 'help', 'emergency');
    whole   constant text := tocsin.normal_form(said);
    answers int;
    again   boolean;
begin
    -- 60 s: a machine's answer comes within seconds, and who asks twice in a minute has the answer already
    select count(*), bool_or((a.sender, a.kind) = (own, of_kind) and a.at > now() - interval '60 s') into answers, again
    from tocsin.automatic_reply a
    where a.peer = number and (a.peer, a.at) > (number, now() - interval '24 hours');   -- a pair: the index on `at` alone must not serve it
    return asked and coalesce(again, false)
        -- 5: more than a person needs in a day who writes to a clinic, and a loop that costs no more than that
        or answers >= 5 and (not asked or of_class = 'auto_responder')
        or of_class = 'auto_responder' and of_kind in ('received', 'closed')
        or exists (select from tocsin.sender s where ltrim(s.address, '+') = number)
        or exists (select from tocsin.suppression s where s.recipient = number and s.reason in ('INVALID', 'LANDLINE'))
        or whole <> '' and (exists (select from tocsin.auto_reply r where r.echo = whole) or exists (select from tocsin.keyword k where k.echo = whole));
end $$;

drop function tocsin.answer_with(bigint, text, tocsin.sender, text, text, text);
-- Answers a message by itself, from the number that it was sent to and over the link by which it came; returns the job.
-- Null where nothing is sent: it was answered already, or the text does not fit.
create function tocsin.answer_with(inbound bigint, over_link text, own tocsin.sender, number text, of_kind text, words text, opening text) returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    job bigint;
begin
    if exists (select from tocsin.automatic_reply a where a.inbound_id = inbound) then
        return null;
    end if;
    perform pg_current_xact_id();                        -- before the id, as admit
    job := nextval('tocsin.job_id');
    insert into tocsin.ready (link, lane, id, app, client_ref, recipient, sender, body, category, flash, enqueued_at, due_at, expires_at, parts)
    select over_link, c.lane, job, session_user, 'inbound ' || inbound, number, own.address, words, c.name, false, now(), now(),
           now() + c.time_to_live, tocsin.parts_on(words, c.name, over_link)
    from tocsin.category c where c.name = 'reply' and tocsin.parts_on(words, c.name, over_link) is not null;
    if not found then
        return null;
    end if;
    insert into tocsin.automatic_reply (inbound_id, kind, sender, peer, job_id, opening)
    values (inbound, of_kind, ltrim(own.address, '+'), number, job, case of_kind when 'closed' then opening end);
    return job;
end $$;

drop function tocsin.heed(bigint, text, text, text, text, text, text, text, text);
-- Does what a message from a handset asks for, in the transaction that stores it, and answers it. Never raises for anything that it says.
-- In this order: STOP, START, HELP; what it answers; a keyword; what is left, which is acknowledged, by `opening`: when we open next as the
-- text shows it, '' where that is not soon, null while it is open. Of several the first alone counts, words of danger aside.
-- Gives its class, where it is another than `as_class`, and the job of the answer; null where there is none.
create function tocsin.heed(inbound bigint, over_link text, from_number text, to_number text, as_class text, wish text, spoken text,
                            danger text, said text, opening text default null, out class text, out answer bigint)
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    number   constant text := ltrim(from_number, '+');
    own      tocsin.sender;
    of_scope text;
    of_value text;
    stays    boolean;
    changed  bigint;
    of_kind  text;
    words    text;
    clear    text;
    whole    text;                                       -- the normal form of what was said
    known    tocsin.keyword;
begin
    class := as_class;
    if as_class in ('binary', 'undecodable') or tocsin.is_number(number) is not true then
        return;                                          -- a short code or a name neither refuses nor is answered
    end if;
    select * into own from tocsin.sender s where ltrim(s.address, '+') = ltrim(to_number, '+') order by s.position limit 1;
    of_scope := case when own.address is null then 'everything' else 'sender' end;
    of_value := coalesce(ltrim(own.address, '+'), '');
    if wish = 'stop' then
        stays := tocsin.goes_on(own);
        changed := tocsin.note_suppression(number, of_scope, of_value, 'added', 'OPT_OUT', 'reply', inbound,
                                           case when stays then '{"recorded_only": true}' else '{}' end::jsonb, true);
        of_kind := case when changed is not null then case when stays then 'staff_stop' else 'stop' end end;
    elsif wish = 'start' then
        changed := tocsin.note_suppression(number, of_scope, of_value, 'lifted', 'OPT_OUT', 'reply', inbound, '{}', false);
        changed := coalesce(tocsin.note_suppression(number, 'category', 'marketing', 'lifted', 'SOFT_HOLD', 'reply', inbound, '{}', false), changed);
        of_kind := case when changed is not null then 'start' else 'help' end;
    elsif wish = 'help' then
        of_kind := 'help';
    elsif wish = 'wrong_person' then
        perform tocsin.note_suppression(number, 'everything', '', 'added', 'WRONG_PERSON', 'reply', inbound, '{}', false);
    else
        select t.class, t.clear into class, clear from tocsin.take_answer(inbound, of_value, number, said) t;
        if class = 'ambiguous' and clear is not null then
            of_kind := 'ambiguous';
        elsif class is null then
            class := as_class;
            if exists (select from tocsin.keyword) then
                whole := tocsin.normal_form(said);
                select * into known from tocsin.keyword k
                where k.form in (whole, tocsin.without_politeness(whole)) and k.sender in ('', own.address)
                order by k.form = whole desc, k.sender <> '' desc limit 1;
            end if;
            if known.name is not null then
                class := 'keyword';
                of_kind := 'keyword';
                insert into tocsin.event_log (at, seq, xid, app, type, subject, detail)
                values (now(), tocsin.event_seq(1), pg_current_xact_id(), '', 'inbound.keyword', inbound::text,
                        jsonb_build_object('keyword', known.name, 'link', over_link));
            else
                if wish = 'soft_stop' then
                    perform tocsin.note_suppression(number, 'category', 'marketing', 'added', 'SOFT_HOLD', 'reply', inbound, '{}', false);
                end if;
                of_kind := case when opening is null then 'received' else 'closed' end;
            end if;
        end if;
    end if;
    if danger is not null then
        insert into tocsin.event_log (at, seq, xid, app, type, subject, detail)
        values (now(), tocsin.event_seq(1), pg_current_xact_id(), '', 'inbound.emergency', inbound::text, jsonb_build_object('link', over_link));
        of_kind := case when of_kind = 'stop' then 'stop' else 'emergency' end;
    end if;
    if of_kind is null or own.address is null or own.links is not null and over_link <> all (own.links) then
        return;
    end if;
    words := case of_kind
        when 'keyword' then nullif(known.body, '')
        when 'ambiguous' then replace(tocsin.reply_text(of_kind, own.address, ''), '{answers}', clear)
        when 'emergency' then tocsin.reply_text(of_kind, own.address, danger)
        else tocsin.reply_text(of_kind, own.address, spoken)
    end;
    if of_kind = 'closed' and strpos(words, '{opens}') > 0 then
        words := replace(words, '{opens}', nullif(opening, ''));     -- null: nobody is told half of it
    end if;
    if words is null then
        return;
    end if;
    perform pg_advisory_xact_lock(hashtextextended('tocsin.suppression ' || number, 0));
    if of_kind in ('received', 'closed')
       and exists (select from tocsin.automatic_reply a
                   where (a.peer, a.sender, a.kind) = (number, of_value, of_kind)
                     -- 4 hours: who writes several texts about one thing is told once, and who writes after lunch is told again
                     and (a.kind = 'received' and a.at > now() - interval '4 hours' or a.kind = 'closed' and a.opening = heed.opening)) then
        return;
    end if;
    if tocsin.is_loop(of_value, number, of_kind, class, said) then
        insert into tocsin.event_log (at, seq, xid, app, type, subject, reason, detail)
        values (now(), tocsin.event_seq(1), pg_current_xact_id(), '', 'inbound.loop', inbound::text, 'AUTOREPLY_LOOP',
                jsonb_build_object('link', over_link, 'kind', of_kind));
        return;
    end if;
    answer := tocsin.answer_with(inbound, over_link, own, number, of_kind, words, opening);
end $$;

-- Every app may need to know of what people refuse and ask for: it concerns the person, not the job.
create or replace view tocsin.event with (security_barrier) as
    select seq, type, subject,
           jsonb_strip_nulls(jsonb_build_object('client_ref', client_ref, 'category', category, 'reason', reason))
               || coalesce(detail, '{}') as data, at
    from tocsin.event_log
    where xid < pg_snapshot_xmin(pg_current_snapshot())
      and (app = session_user or type in ('inbound.received', 'inbound.emergency', 'inbound.keyword', 'inbound.loop', 'suppression.added',
                                          'suppression.lifted')
           or (select tocsin.sees_all()));

revoke execute on all functions in schema tocsin from public;
