-- name: promote
-- Moves due rows of owned links from deferred to ready. $1 links, $2 epochs, $3 at most. Returns where and which, and whether
-- an operator had it sent again.
-- Locks: key share on the link rows (the fence); the rows moved, skip locked. Index: deferred's primary key.
with due as materialized (
    select d.ctid as place, d.link from tocsin.deferred d
    where d.due_at <= now() and d.link = any ($1::text::text[])
    order by d.due_at limit $3::int for update skip locked
), fence as materialized (                               -- not asked when nothing is due: an idle turn writes no WAL
    select l.name from unnest($1::text::text[], $2::text::bigint[]) e (name, epoch)
    join tocsin.link l on l.name = e.name and l.epoch = e.epoch
    where exists (select from due)
    for key share of l
), gone as (
    delete from tocsin.deferred d
    where d.ctid = any (array(select u.place from due u join fence f on f.name = u.link)) returning d.*
), into_ready as (
    insert into tocsin.ready (link, lane, id, app, client_ref, recipient, sender, body, category, flash, options, enqueued_at, due_at,
                              expires_at, cancel_group, attempt, resends, parts, done, first_wire_at)
    select link, lane, id, app, client_ref, recipient, sender, body, category, flash, options, enqueued_at, due_at, expires_at,
           cancel_group, attempt, resends, parts, done, first_wire_at
    from gone
), queued as (                                          -- of categories of which each state is told
    select g.id, g.app, g.client_ref, g.category from gone g
    where g.category in (select c.name from tocsin.category c where c.job_states)
), into_events as (
    insert into tocsin.event_log (at, seq, xid, app, type, subject, client_ref, category)
    select now(), b.base + row_number() over () - 1, pg_current_xact_id(), q.app, 'job.queued', q.id::text, q.client_ref, q.category
    from (select tocsin.event_seq(count(*)) as base from queued having count(*) > 0) b, queued q
)
select link, lane, id, coalesce(reason = 'REQUEUED', false) as requeued from gone;

-- name: expire
-- Ends rows whose time ran out while nobody claimed them; one that was to be sent again after doubt is in doubt again, and ends
-- as doubt under `hold` does. $1 link, $2 lane, $3 after, $4 rows looked at, $5 ids to leave alone.
-- The journal is asked in a new statement (`named`); a row that it names is put back by rolling back.
-- Locks: the rows ended. Index: ready's primary key. Returns the ids ended.
with slice as materialized (
    select r.ctid as place, r.id, r.expires_at from tocsin.ready r where r.link = $1 and r.lane = $2 and r.id > $3 order by r.id limit $4::int
), gone as (
    delete from tocsin.ready r
    where r.ctid = any (array(select s.place from slice s
                              where s.expires_at <= now() and s.id not in (select unnest($5::text::bigint[]))))
      and r.expires_at <= now()
    returning r.*
), into_closed as (
    insert into tocsin.closed (closed_at, job_id, app, client_ref, recipient, sender, category, lane, link, state, reason, parts,
                               attempt, enqueued_at)
    select now(), g.id, g.app, g.client_ref, g.recipient, g.sender, g.category, g.lane, g.link,
           case when g.done is null then 'expired' else 'failed' end, case when g.done is null then 'EXPIRED' else 'PARTIAL' end,
           g.parts, g.attempt, g.enqueued_at
    from gone g where g.resends = 0
), into_uncertain as (
    insert into tocsin.uncertain (id, link, lane, app, client_ref, recipient, sender, body, category, flash, options, enqueued_at,
                                  due_at, expires_at, cancel_group, attempt, resends, parts, done, first_wire_at, doubt)
    select g.id, g.link, g.lane, g.app, g.client_ref, g.recipient, g.sender, g.body, g.category, g.flash, g.options, g.enqueued_at,
           g.due_at, g.expires_at, g.cancel_group, g.attempt, g.resends, g.parts, g.done, g.first_wire_at,
           ~coalesce(g.done, repeat('0', g.parts)::varbit)
    from gone g where g.resends > 0
), into_events as (
    insert into tocsin.event_log (at, seq, xid, app, type, subject, client_ref, category, reason)
    select now(), b.base + row_number() over () - 1, pg_current_xact_id(), g.app,
           case when g.resends > 0 then 'job.uncertain' when g.done is null then 'job.expired' else 'job.failed' end, g.id::text,
           g.client_ref, g.category, case when g.resends > 0 then 'UNANSWERED' when g.done is null then 'EXPIRED' else 'PARTIAL' end
    from (select tocsin.event_seq(count(*)) as base from gone having count(*) > 0) b, gone g
)
select (select max(id) from slice) as upto, (select count(*) from slice)::int as looked, array(select id from gone)::text as ids,
       array(select category from gone where done is null and resends = 0)::text as categories;

-- name: named
-- Which of the ids $3 of link $1 and lane $2 a journal names.
select i.id from tocsin.claim c, unnest(c.ids) i (id) where c.link = $1 and c.lane = $2 and (i.id in (select unnest($3::text::bigint[]))) is true;

-- name: give_up_receipts
-- Segments whose receipt never came: unknown, once validity and $2 seconds have passed. $1 links, $3 the longest validity in seconds,
-- $4 rows at most. One event for each job whose last part this was; returns those jobs. Reads the partitions of the two days
-- in which that happens. Locks: the rows of sent that it updates. Index: sent (job_id) for the other parts; once an hour.
with late as (
    select s.ctid as place, s.tableoid as child
    from tocsin.sent s join tocsin.category c on c.name = s.category join tocsin.link l on l.name = s.link and l.receipts = 'all'
    where s.link = any ($1::text::text[]) and s.receipt_state is null and s.message_id is not null
      and s.submitted_at < now() - make_interval(secs => $2::float8)
      and s.submitted_at > now() - make_interval(secs => $2::float8 + $3::float8 + 172800)
      and s.enqueued_at + c.time_to_live < now() - make_interval(secs => $2::float8)
    limit $4::int
), given_up as (
    update tocsin.sent s set receipt_state = 20, receipt_at = now()
    from late where s.ctid = late.place and s.tableoid = late.child and s.receipt_state is null
      and s.submitted_at > now() - make_interval(secs => $2::float8 + $3::float8 + 172800)
    returning s.job_id, s.part
), part as (                                             -- this snapshot shows `sent` as it was before
    select s.job_id, s.part, max(s.parts) as parts, max(s.app) as app, max(s.client_ref) as client_ref, max(s.category) as category,
           max(coalesce(s.receipt_state, 10)) as rank_before,
           max(case when g.part is not null then greatest(s.receipt_state, 20) else coalesce(s.receipt_state, 10) end) as rank
    from (select distinct job_id from given_up) j
    join tocsin.sent s on s.job_id = j.job_id and s.submitted_at > now() - make_interval(secs => $2::float8 + $3::float8 + 172800)
    left join (select distinct job_id, part from given_up) g on g.job_id = s.job_id and g.part = s.part
    group by s.job_id, s.part
), job as (                                              -- unknown is the worst that a part can end in
    select job_id, max(app) as app, max(client_ref) as client_ref, max(category) as category
    from part group by job_id
    having count(*) = max(parts) and min(rank) > 10 and min(rank_before) = 10
), into_events as (
    insert into tocsin.event_log (at, seq, xid, app, type, subject, client_ref, category)
    select now(), b.base + row_number() over () - 1, pg_current_xact_id(), j.app, 'job.unknown', j.job_id::text, j.client_ref, j.category
    from (select tocsin.event_seq(count(*)) as base from job having count(*) > 0) b, job j
)
select job_id, category from job;

-- name: depth
-- Waiting jobs a lane of link $1 with ids above $2, one a lane from 0, an array literal in text: count up to 10,000 and the age of the
-- oldest, in seconds. Index: ready's primary key.
select (n - 1)::int as lane,
       (select count(*) from (select from tocsin.ready r where r.link = $1 and r.lane = n - 1 and r.id > after limit 10000) x)::int as jobs,
       coalesce((select extract(epoch from now() - r.due_at) from tocsin.ready r where r.link = $1 and r.lane = n - 1 and r.id > after
                 order by r.id limit 1), 0)::float8 as oldest_s
from unnest($2::text::bigint[]) with ordinality a (after, n);

-- name: prune_keys
-- Drops idempotency keys of 7 days ago, and texts and messages that count no more. Locks: their rows. Index: (until) of both tables.
with texts as (
    delete from tocsin.recent_text t using (select r.digest from tocsin.recent_text r where r.until < now() limit 10000 for update skip locked) o
    where t.digest = o.digest
), counts as (
    delete from tocsin.cap_count t
    using (select c.recipient, c.category from tocsin.cap_count c where c.until < now() limit 10000 for update skip locked) o
    where (t.recipient, t.category) = (o.recipient, o.category)
)
delete from tocsin.idempotency where (app, key) in (select i.app, i.key from tocsin.idempotency i where i.at < now() - interval '7 days' limit 10000);

-- name: take_repeated
-- How many texts were refused as repeated, by category: rows that enqueues left, $1 at most, and drops them. No row: no WAL.
-- Locks: the rows, skip locked: each is counted by one instance. Index: repeated_texts' primary key.
with taken as (
    delete from tocsin.repeated_texts t
    where t.id = any (array(select r.id from tocsin.repeated_texts r order by r.id limit $1::int for update skip locked))
    returning t.category, t.texts
)
select category, sum(texts)::bigint as texts, count(*)::int as rows from taken group by category;

-- name: end_expectations
-- Questions whose deadline has passed, $1 at most: forgotten, and told where no answer came; not of those that never left, whose end was
-- told. Locks: the rows, skip locked. Index: expectation (deadline); sent and closed (job_id). Returns how many.
with over as (
    delete from tocsin.expectation e
    where e.ctid = any (array(select x.ctid from tocsin.expectation x where x.deadline <= now() order by x.deadline limit $1::int
                              for update skip locked))
    returning e.*
), unanswered as (
    select o.* from over o
    where o.answer is null and (tocsin.was_asked(o.job_id) or not exists (select from tocsin.closed c where c.job_id = o.job_id))
), into_events as (
    insert into tocsin.event_log (at, seq, xid, app, type, subject, client_ref, category)
    select now(), b.base + row_number() over (order by u.job_id) - 1, pg_current_xact_id(), u.app, 'reply.timeout', u.job_id::text, u.client_ref,
           u.category
    from (select tocsin.event_seq(count(*)) as base from unanswered having count(*) > 0) b, unanswered u
)
select count(*)::int as ended from over;

-- name: prune_automatic_replies
-- A closed period whose end is known lasts 14 days at most. Locks: the rows. Index: automatic_reply (at).
delete from tocsin.automatic_reply where inbound_id in (select a.inbound_id from tocsin.automatic_reply a where a.at < now() - interval '15 days' limit 10000);

-- name: categories
-- What the journey needs to know of each category. The table is small.
select name, lane, max_parts, stop = 'applies' as stop_applies, paused, consent from tocsin.category;

-- name: paused_links
-- Links that an operator paused. The table is small.
select name from tocsin.link where paused and enabled;

-- name: prune_journal
-- Journals of this owner ($1 links, $2 epochs) whose batch it does not know ($3): a claim's commit was not seen. A minute old at least.
delete from tocsin.claim c using unnest($1::text::text[], $2::text::bigint[]) e (link, epoch)
where c.link = e.link and c.epoch = e.epoch and c.at < now() - interval '1 minute' and c.batch not in (select unnest($3::text::bigint[]));
