-- name: settle
-- One flush of outcomes, fenced: what lost its owner changes nothing and is not returned.
-- $1 links, $2 epochs: owned links, counted from 1 by link_no. One element a job, array literals in text:
-- $3 id, $4 link_no, $5 lane; of the parts accepted since the last flush the first: $6 message id, $7 age in microseconds (null: none).
-- Of most jobs this is all there is to say: of one part, taken at the first attempt. What is not so stands first; of these alone:
-- $8 what (0 stays: a part was answered, others remain; 1 submitted; 2 deferred; 3 closed; 4 uncertain), $9 state of closed, $10 reason
-- (of uncertain SESSION_LOST: no answer can come any more), $11 delay_s: of deferred until it is due, of uncertain since its last part in
-- doubt was written (0: not known); $12 attempt, $13 done and $14 doubt as bits; $15 which part was accepted (null: none), $16 its parts as
-- its link cuts them; the other parts accepted, array literals again: $17 parts, $18 message ids, $19 ages (null: none; a function scan a
-- job is dear). (Each list less is 1 % of the whole statement.)
-- $20: batches of the journal that are over; $21 whether any what is 2, 3 or 4: else nobody looks for those.
-- One that failed as OPTED_OUT suppresses the number for its sender, as CARRIER_BLOCK.
-- Locks: key share on the link rows (the fence), the rows of ready that it deletes or updates, its journal rows; of OPTED_OUT an advisory lock on the number.
-- Index: ready's primary key, one probe a job. A retry is due at the end of the job's time at the latest: there it expires.
with fence as materialized (
    select e.n, l.name, l.epoch, l.receipts
    from unnest($1::text::text[], $2::text::bigint[]) with ordinality e (name, epoch, n)
    join tocsin.link l on l.name = e.name and l.epoch = e.epoch
    for key share of l
), outcome as materialized (
    select o.id, o.lane, o.message_id, o.age, coalesce(o.what, 1::smallint) as what, o.state, o.reason, o.delay_s,
           coalesce(o.attempt, 1::smallint) as attempt, o.done, o.doubt, case when o.what is null then 1::smallint else o.part end as part,
           coalesce(o.parts, 1::smallint) as parts, o.more_parts, o.more_ids, o.more_ages, f.name as link, f.receipts
    from unnest($3::text::bigint[], $4::text::smallint[], $5::text::smallint[], $6::text::text[], $7::text::bigint[], $8::text::smallint[],
                $9::text::text[], $10::text::text[], $11::text::float8[], $12::text::smallint[], $13::text::text[], $14::text::text[],
                $15::text::smallint[], $16::text::smallint[], $17::text::text[], $18::text::text[], $19::text::text[])
         o (id, link_no, lane, message_id, age, what, state, reason, delay_s, attempt, done, doubt, part, parts, more_parts, more_ids, more_ages)
    join fence f on f.n = o.link_no
), gone as (
    delete from tocsin.ready r using outcome o
    where r.link = o.link and r.lane = o.lane and r.id = o.id and o.what > 0
    -- what is asked of each row stands first: a row is unpacked up to the last column that is read
    returning o.what, o.receipts, r.resends, o.more_parts, o.part, r.id, r.link, r.lane, r.app, r.client_ref, r.recipient, r.sender,
              r.category, r.enqueued_at, o.attempt, o.parts, o.message_id, o.age, o.more_ids, o.more_ages,
              r.body, r.flash, r.options, r.due_at, r.expires_at, r.cancel_group, o.done::varbit as done,
              coalesce(r.first_wire_at, now()) as first_wire_at, o.state, o.reason, o.delay_s, o.doubt
), stays as (
    update tocsin.ready r set done = o.done::varbit, attempt = o.attempt, parts = o.parts, first_wire_at = coalesce(r.first_wire_at, now())
    from outcome o
    where r.link = o.link and r.lane = o.lane and r.id = o.id and o.what = 0
    returning r.link, r.lane, r.id, r.app, r.client_ref, r.recipient, r.sender, r.category, r.enqueued_at, o.attempt, r.resends, o.parts,
              o.part, o.message_id, o.age, o.more_parts, o.more_ids, o.more_ages
), accepted as not materialized (
    select more_parts, part, id, resends, link, lane, app, client_ref, recipient, sender, category, enqueued_at, attempt, parts, message_id,
           age, more_ids, more_ages from gone
    union all
    select more_parts, part, id, resends, link, lane, app, client_ref, recipient, sender, category, enqueued_at, attempt, parts, message_id,
           age, more_ids, more_ages from stays
), answer as (
    select a.id, a.part, a.message_id, a.age, a.parts, a.attempt, a.link, a.recipient, a.sender, a.category, a.lane, a.client_ref,
           a.enqueued_at, a.app, a.resends
    from accepted a where a.part is not null
    union all
    select a.id, m.part, m.message_id, m.age, a.parts, a.attempt, a.link, a.recipient, a.sender, a.category, a.lane, a.client_ref,
           a.enqueued_at, a.app, a.resends
    from accepted a, unnest(a.more_parts::smallint[], a.more_ids::text[], a.more_ages::bigint[]) m (part, message_id, age)
    where a.more_parts is not null
), into_sent as (
    insert into tocsin.sent (submitted_at, job_id, part, parts, attempt, link, destination, sender, category, lane, client_ref,
                             enqueued_at, app, message_id, reason, resends, answered_ms)
    select now() - make_interval(secs => a.age / 1e6::float8), a.id, a.part, a.parts, a.attempt, a.link, a.recipient, a.sender, a.category, a.lane,
           a.client_ref, a.enqueued_at, a.app, a.message_id, case when a.resends > 0 then 'POSSIBLE_DUPLICATE' end, nullif(a.resends, 0),
           least(a.age / 1000, 2147483647)::int
    from answer a
), special as materialized (                           -- categories whose texts are kept, or of which each state is told
    select name, keep_text_days, job_states from tocsin.category where keep_text_days > 0 or job_states
), into_text as (
    insert into tocsin.sent_text (drop_on, job_id, body)
    select tocsin.text_drop_on(c.keep_text_days), g.id, g.body
    from gone g join special c on c.name = g.category and c.keep_text_days > 0
    where g.what = 1 and (select count(*) from special) > 0
), into_deferred as (
    insert into tocsin.deferred (due_at, id, link, lane, app, client_ref, recipient, sender, body, category, flash, options,
                                 enqueued_at, expires_at, cancel_group, attempt, resends, parts, done, first_wire_at, reason)
    select least(now() + make_interval(secs => g.delay_s), g.expires_at), g.id, g.link, g.lane, g.app, g.client_ref, g.recipient, g.sender, g.body, g.category,
           g.flash, g.options, g.enqueued_at, g.expires_at, g.cancel_group, g.attempt, g.resends, g.parts, g.done, g.first_wire_at, g.reason
    from gone g where g.what = 2 and $21::boolean
), into_closed as (
    insert into tocsin.closed (closed_at, job_id, app, client_ref, recipient, sender, category, lane, link, state, reason, parts,
                               attempt, enqueued_at)
    select now(), g.id, g.app, g.client_ref, g.recipient, g.sender, g.category, g.lane, g.link, g.state, g.reason, g.parts,
           g.attempt, g.enqueued_at
    from gone g where g.what = 3 and $21::boolean
), into_uncertain as (
    insert into tocsin.uncertain (id, link, lane, app, client_ref, recipient, sender, body, category, flash, options, enqueued_at,
                                  due_at, expires_at, cancel_group, attempt, resends, parts, done, first_wire_at, doubt, session_over,
                                  written_at)
    select g.id, g.link, g.lane, g.app, g.client_ref, g.recipient, g.sender, g.body, g.category, g.flash, g.options, g.enqueued_at,
           g.due_at, g.expires_at, g.cancel_group, g.attempt, g.resends, g.parts, g.done, g.first_wire_at, g.doubt::varbit,
           g.reason = 'SESSION_LOST', case when g.delay_s > 0 then now() - make_interval(secs => g.delay_s) end
    from gone g where g.what = 4 and $21::boolean
), journal as (
    -- an epoch that has passed leaves its journals to the new owner, who accounts for them
    delete from tocsin.claim c using fence f where c.batch = any ($20::text::bigint[]) and c.link = f.name and c.epoch = f.epoch
), told as (
    select g.id, g.app, g.client_ref, g.category, nullif(g.reason, '') as reason,
           case g.what when 1 then 'job.submitted' when 2 then 'job.deferred' when 3 then 'job.' || g.state else 'job.uncertain' end as type,
           case g.what when 2 then jsonb_build_object('until', to_char(least(now() + make_interval(secs => g.delay_s), g.expires_at)
                                                                       at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')) end as detail
    from gone g where g.what in (3, 4) or g.what = 1 and (g.receipts = 'none' or g.resends > 0)   -- an app that was told of doubt hears how it ended
        or g.what = 2 and g.reason in ('WINDOW_CLOSED', 'FREQ_CAP') or g.what in (1, 2) and g.category in (select c.name from special c where c.job_states)
), into_events as (
    insert into tocsin.event_log (at, seq, xid, app, type, subject, client_ref, category, reason, detail)
    select now(), b.base + row_number() over () - 1, pg_current_xact_id(), t.app, t.type, t.id::text,
           t.client_ref, t.category, t.reason, t.detail
    from (select tocsin.event_seq(count(*)) as base from told having count(*) > 0) b, told t
)
select array_agg(id) as ids from accepted            -- one row, since a row a job costs more than the array
where (select count(tocsin.note_suppression(g.recipient, 'sender', ltrim(g.sender, '+'), 'added', 'CARRIER_BLOCK', 'carrier', null,
                                            jsonb_build_object('job_id', g.id), false))
       from gone g where g.what = 3 and g.reason = 'OPTED_OUT' and $21::boolean) >= 0;

-- name: parts_sent
-- Which parts of the jobs $1 stand in sent: asked after a flush whose commit was not seen. Index: sent (job_id).
select job_id, part, message_id from tocsin.sent where job_id = any ($1::text::bigint[]) and message_id is not null;
