-- What happened to one message, in the order in which it happened: tocsin.job_evidence, with the rules in force at each of its steps.
-- And cancel_sm for what the SMSC has of a message that the person refuses meanwhile.

-- When the answer to the segment was written down, in milliseconds after the segment was: the answer had come by then.
-- Null: it came late, or a version without this column wrote the row.
alter table tocsin.sent add column answered_ms int;

-- A digest of the rules that decide about messages: categories, senders, routes, policy, keywords and automatic replies, with every column but `paused`,
-- which operator_log has. Not in it: links, which say how a message is written; suppressions and consents, which have ledgers of their own.
create function tocsin.policy_digest() returns text
language sql stable set search_path = pg_catalog, pg_temp set intervalstyle = 'iso_8601' as $$
    select left(encode(sha256(convert_to(jsonb_build_array(
        (select jsonb_agg(to_jsonb(c) - 'paused' order by c.name collate "C") from tocsin.category c),
        (select jsonb_agg(to_jsonb(s) order by s.address collate "C") from tocsin.sender s),
        (select jsonb_agg(to_jsonb(r) order by r.prefix collate "C", r.category collate "C") from tocsin.route r),
        (select to_jsonb(p) from tocsin.policy p),
        (select jsonb_agg(to_jsonb(k) order by k.form collate "C", k.sender collate "C") from tocsin.keyword k),
        (select jsonb_agg(to_jsonb(a) order by a.kind collate "C", a.sender collate "C", a.language collate "C")
         from tocsin.auto_reply a))::text, 'UTF8')), 'hex'), 16)
$$;

alter table tocsin.applied add column policy text;        -- null: applied by a version without it

-- The rules in force at an instant: the digest that was noted last before it. Null: none was.
create function tocsin.policy_at(instant timestamptz) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select a.policy from tocsin.applied a where a.at <= instant order by a.at desc limit 1
$$;

-- Of the events of a job those that no row of another table tells. Few jobs have one: it costs the others nothing.
create index on tocsin.event_log (subject) where type in ('job.uncertain', 'job.resent', 'job.deferred');
create index on tocsin.inquiry (job_id);

-- ---------------------------------------------------------------- what is refused while parts of it are at the SMSC

alter table tocsin.inquiry add column cause text not null default 'operator' check (cause in ('operator', 'refusal'));

-- Asks about every accepted part of a job that has no final receipt; returns the inquiries' ids. Locks: none that others wait for.
create function tocsin.ask_parts(wanted bigint, asked text, of_cause text) returns setof bigint
language sql volatile set search_path = pg_catalog, pg_temp as $$
    insert into tocsin.inquiry (kind, job_id, part, link, message_id, sender, recipient, cause)
    select asked, s.job_id, s.part, s.link, s.message_id, s.sender, s.destination, of_cause
    from tocsin.sent s
    where s.job_id = wanted and s.message_id <> '' and s.receipt_state is null
    order by s.part
    returning inquiry_id
$$;

-- The same by an operator's hand, and its row in operator_log.
create or replace function tocsin.ask_about(wanted bigint, asked text, why text, who text) returns setof bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    return query select * from tocsin.ask_parts(wanted, asked, 'operator');
    if found then
        perform tocsin.audit(asked, 'job', wanted::text, why, who);
    end if;
end $$;

-- ---------------------------------------------------------------- evidence

-- The ledger's entry by which a job was blocked: the first that said so and was not lifted before. A STOP holds in memory a moment before
-- it is committed, so one that stands shortly after the end counts, too. Null: there is none.
create function tocsin.entry_behind(number text, of_sender text, of_category text, refusal text, ended_at timestamptz) returns bigint
language sql stable set search_path = pg_catalog, pg_temp as $$
    select e.id from tocsin.suppression_event e
    where e.recipient = number and e.action = 'added' and 'SUPPRESSED_' || e.reason = refusal
      and (e.scope = 'everything' or e.scope = 'sender' and e.value = ltrim(of_sender, '+') or e.scope = 'category' and e.value = of_category)
      and e.at <= ended_at + interval '10 s'
      and not exists (select from tocsin.suppression_event l
                      where (l.recipient, l.scope, l.value, l.reason) = (e.recipient, e.scope, e.value, e.reason) and l.action = 'lifted'
                        and l.id > e.id and l.at <= ended_at)
    order by e.id limit 1
$$;

-- For apps and auditors: all that is known of how one job came to its state, oldest first; of an app's own jobs alone. No text; the
-- number shows its last two digits. `policy`: the rules in force then (policy_digest). Nothing is raised: an unknown job has no rows.
-- Index: primary keys, (job_id) of each partition, the ledgers by number. Locks: none.
create function tocsin.job_evidence(job_id bigint)
    returns table (at timestamptz, what text, part smallint, link text, reason text, policy text, detail jsonb)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off as $$
declare
    wanted   constant bigint := job_id;
    everyone constant boolean := tocsin.sees_all();
    j        record;
    upto     timestamptz;                                -- until when the ledgers concern it
    entry    bigint;
    consent  bigint;
begin
    select * into j from (
        select 1 as place, c.app, c.recipient, c.sender, c.category, c.lane, c.link, c.client_ref, c.enqueued_at, c.parts, c.state, c.reason,
               c.closed_at as moment
        from tocsin.closed c where c.job_id = wanted
        union all
        select 2, d.app, d.recipient, d.sender, d.category, d.lane, d.link, d.client_ref, d.enqueued_at, d.parts, 'deferred', d.reason, d.due_at
        from tocsin.deferred d where d.id = wanted
        union all
        select 3, u.app, u.recipient, u.sender, u.category, u.lane, u.link, u.client_ref, u.enqueued_at, u.parts, 'uncertain', null, null
        from tocsin.uncertain u where u.id = wanted
        union all
        select 4, r.app, r.recipient, r.sender, r.category, r.lane, r.link, r.client_ref, r.enqueued_at, r.parts, 'queued', null, null
        from tocsin.find_ready(wanted) r
        union all
        select 5, s.app, s.destination, s.sender, s.category, s.lane, s.link, s.client_ref, s.enqueued_at, s.parts, 'sent', null, null
        from tocsin.sent s where s.job_id = wanted) it
    where it.app = session_user or everyone
    order by it.place, it.app = '' limit 1;
    if not found then
        return;
    end if;
    upto := interval '10 s' + case j.place
        when 1 then j.moment
        when 5 then (select max(coalesce(s.receipt_at, s.submitted_at)) from tocsin.sent s where s.job_id = wanted)
        else now() end;
    if j.place = 1 then
        entry := tocsin.entry_behind(j.recipient, j.sender, j.category, j.reason, j.moment);
    end if;
    consent := (select e.id from tocsin.consent_event e
                where e.recipient = j.recipient and e.category = j.category and e.at <= upto
                order by e.captured_at desc, e.action = 'revoked' desc, e.id desc limit 1);

    return query
    select e.at, e.what, e.part, e.link, e.reason, tocsin.policy_at(e.at), jsonb_strip_nulls(e.detail)
    from (
        select 1 as place, j.enqueued_at as at, 'enqueued' as what, null::smallint as part, j.link, null::text as reason,
               jsonb_build_object('app', j.app, 'category', j.category, 'lane', j.lane, 'sender', j.sender,
                                  'recipient', '***' || right(j.recipient, 2), 'parts', j.parts, 'client_ref', j.client_ref) as detail
        union all
        select 2, s.at, 'suppression_' || s.action, null, null, s.reason,
               jsonb_build_object('suppression_event', s.id, 'scope', s.scope, 'value', nullif(s.value, ''), 'source', s.source,
                                  'by', s.by_user, 'inbound_id', s.inbound_id)
        from tocsin.suppression_event s
        where s.recipient = j.recipient
          and (s.scope = 'everything' or s.scope = 'sender' and s.value = ltrim(j.sender, '+') or s.scope = 'category' and s.value = j.category)
          and (s.at between j.enqueued_at and upto or s.id = entry)
        union all
        select 2, c.at, 'consent_' || c.action, null, null, null,
               jsonb_build_object('consent_event', c.id, 'captured_at', c.captured_at, 'method', c.method, 'by', c.by_user)
        from tocsin.consent_event c
        where c.recipient = j.recipient and c.category = j.category and (c.at between j.enqueued_at and upto or c.id = consent)
        union all
        select 3, s.submitted_at, case when s.message_id is null then 'part_unanswered' else 'part_submitted' end, s.part, s.link, s.reason,
               jsonb_build_object('attempt', s.attempt, 'parts', s.parts, 'message_id', s.message_id, 'resends', s.resends,
                                  'answered_at', s.submitted_at + s.answered_ms * interval '1 ms')
        from tocsin.sent s where s.job_id = wanted
        union all
        select 4, s.receipt_at, 'part_' || tocsin.state_name(s.receipt_state), s.part, s.link, s.receipt_reason,
               jsonb_build_object('error', s.receipt_error)
        from tocsin.sent s where s.job_id = wanted and s.receipt_state is not null
        union all
        select 5, v.at, replace(v.type, '.', '_'), null, null, v.reason, coalesce(v.detail, '{}')
        from tocsin.event_log v
        where v.subject = wanted::text and v.type in ('job.uncertain', 'job.resent', 'job.deferred') and v.app = j.app
        union all
        select 7, i.asked_at, 'smsc_' || i.kind || '_asked', i.part, i.link, null, jsonb_build_object('inquiry', i.inquiry_id, 'cause', i.cause)
        from tocsin.inquiry i where i.job_id = wanted
        union all
        select 8, i.answered_at, 'smsc_' || i.kind || '_answered', i.part, i.link, null,
               jsonb_build_object('inquiry', i.inquiry_id, 'outcome', i.outcome, 'command_status', i.command_status, 'state', i.message_state)
        from tocsin.inquiry i where i.job_id = wanted and i.answered_at is not null
        union all
        select 9, o.at, 'operator_' || o.verb, null, null, null,
               case when everyone then jsonb_build_object('person', o.person, 'by', o.by_user, 'why', nullif(o.reason, '')) else '{}' end
        from tocsin.operator_log o where o.kind = 'job' and o.subject = wanted::text
        union all
        select 6, j.moment, 'job_' || j.state, null, j.link, j.reason,
               case j.place when 1 then jsonb_build_object(
                        'suppression_event', entry,
                        'consent_event', case when j.reason in ('CONSENT_MISSING', 'CONSENT_REVOKED') then consent end)
                    else '{}' end
        where j.place = 1
        union all
        select 10, j.moment, 'due', null, j.link, j.reason, '{}' where j.place = 2
    ) e
    order by e.at, e.place, e.part;
end $$;

-- ---------------------------------------------------------------- events of each state

alter table tocsin.category add column job_states boolean not null default false;

-- One part of a job in doubt was answered. Returns doubtful (other parts still are), resolved (none is, the parts not
-- accepted go now) or submitted (every part was accepted). The caller holds the row of uncertain.
create or replace function tocsin.settle_doubt(u tocsin.uncertain, which int, accepted boolean) returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    zero constant varbit := repeat('0', u.parts)::varbit;
begin
    u.doubt := set_bit(u.doubt, which - 1, 0);
    if accepted then
        u.done := set_bit(coalesce(u.done, zero), which - 1, 1);
    end if;
    if u.doubt <> zero then
        update tocsin.uncertain t set done = u.done, doubt = u.doubt where t.id = u.id;
        return 'doubtful';
    end if;
    delete from tocsin.uncertain t where t.id = u.id;
    if u.done is null or position('0' in u.done::text) > 0 then     -- parts remain: they are in no doubt, send them
        perform tocsin.defer(u, 'RETRY_LATE_ANSWER');
        perform tocsin.tell(u.app, 'job.deferred', u.id, u.client_ref, u.category, 'RETRY_LATE_ANSWER')
        from tocsin.category c where c.name = u.category and c.job_states;
        return 'resolved';
    end if;
    perform tocsin.keep_text(u.id, u.category, u.body);
    return 'submitted';
end $$;

revoke execute on all functions in schema tocsin from public;
