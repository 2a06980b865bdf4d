-- name: lineage
-- Which cluster answers, on which timeline, and whether it takes writes; the timeline is '' on a standby. Locks: none.
select c.system_identifier::text as system,
       case when pg_is_in_recovery() then '' else substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) end as timeline,
       current_setting('transaction_read_only') = 'on' as read_only
from pg_control_system() c;

-- name: sent_known
-- What sent holds of the jobs $1, none of them enqueued before $2 (microseconds since 1970): one row a part with a message id.
-- An hour's margin, since submitted_at is an age taken off the database's clock. Locks: none. Index: sent (job_id).
select s.job_id, s.part, (extract(epoch from s.enqueued_at) * 1000000)::bigint as enqueued_us, s.message_id
from unnest($1::text::bigint[]) i (id)
cross join lateral (
    select s.* from tocsin.sent s
    where s.job_id = i.id and s.message_id is not null
      and s.submitted_at >= to_timestamp($2::bigint / 1000000.0) - interval '1 hour'
    offset 0) s;                                         -- a subselect of its own: else the planner reads all of sent once

-- name: deferred_known
-- Rows of link $1 in deferred that are the jobs $2 with enqueued_us $3. Locks: none. Index: deferred (id), one probe a job.
select d.id, d.lane, d.category, d.parts, coalesce(d.done::text, '') as done, d.attempt, i.enqueued_us
from unnest($2::text::bigint[], $3::text::bigint[]) i (id, enqueued_us)
cross join lateral (select d.* from tocsin.deferred d where d.id = i.id limit 1) d
where d.link = $1 and (extract(epoch from d.enqueued_at) * 1000000)::bigint = i.enqueued_us;

-- name: recall_deferred
-- Back to ready with the jobs $2 of link $1, whose promotion was lost. The caller holds the link's row for update, so
-- nobody promotes meanwhile. Locks: the rows moved. Index: deferred (id).
with found as materialized (
    select d.place from unnest($2::text::bigint[]) i (id)
    cross join lateral (select d.ctid as place, d.link from tocsin.deferred d where d.id = i.id limit 1 for update) d
    where d.link = $1
), gone as (
    delete from tocsin.deferred d where d.ctid = any (array(select f.place from found f)) returning d.*
)
insert into tocsin.ready (link, lane, id, app, client_ref, recipient, sender, body, category, flash, options, enqueued_at, due_at,
                          expires_at, cancel_group, attempt, resends, parts, done, first_wire_at)
select link, lane, id, app, client_ref, recipient, sender, body, category, flash, options, enqueued_at, due_at, expires_at,
       cancel_group, attempt, resends, parts, done, first_wire_at
from gone;

-- name: journal_known
-- Writes those of the jobs $2 with enqueued_us $3 that stand in ready under link $1 into a journal of epoch $4, so that they
-- are accounted for as if their claim had not been lost. The caller holds the link's row for update. Returns how many.
-- Index: ready's primary key, one probe a job and lane.
with found as materialized (
    select r.lane, r.id
    from unnest($2::text::bigint[], $3::text::bigint[]) i (id, enqueued_us)
    cross join unnest(array[0, 1, 2, 3, 4, 5]::smallint[]) l (lane)
    cross join lateral (select r.* from tocsin.ready r where r.link = $1 and r.lane = l.lane and r.id = i.id limit 1) r
    where (extract(epoch from r.enqueued_at) * 1000000)::bigint = i.enqueued_us
), batch as materialized (
    select nextval('tocsin.batch_id') as number from (select from found limit 1) f
), journal as (
    insert into tocsin.claim (batch, link, lane, epoch, ids)
    select b.number, $1, f.lane, $4, array_agg(f.id) from found f cross join batch b group by b.number, f.lane
)
select count(*) as jobs from found;

-- name: uncertain_known
-- Rows of link $1 in uncertain that are the jobs $2 with enqueued_us $3. Locks: none. Index: uncertain's primary key.
select u.id, u.lane, u.category, u.parts, u.doubt::text as doubt, u.attempt, u.recipient, u.sender, i.enqueued_us
from unnest($2::text::bigint[], $3::text::bigint[]) i (id, enqueued_us)
cross join lateral (select u.* from tocsin.uncertain u where u.id = i.id limit 1) u
where u.link = $1 and (extract(epoch from u.enqueued_at) * 1000000)::bigint = i.enqueued_us;

-- name: closed_known
-- What closed says of the jobs $1 with enqueued_us $2, none of them enqueued before $3. Locks: none. Index: closed (job_id).
select c.job_id as id, c.lane, c.category, c.parts, c.attempt, coalesce(c.link, '') as link, c.recipient,
       coalesce(c.sender, '') as sender, i.enqueued_us
from unnest($1::text::bigint[], $2::text::bigint[]) i (id, enqueued_us)
cross join lateral (
    select c.* from tocsin.closed c
    where c.job_id = i.id and c.closed_at >= to_timestamp($3::bigint / 1000000.0) - interval '1 hour' limit 1) c
where (extract(epoch from c.enqueued_at) * 1000000)::bigint = i.enqueued_us;

-- name: queued_known
-- Which of the jobs $1 with enqueued_us $2 are still open, under whatever link: in ready, deferred or uncertain. Locks: none.
-- Index: ready's primary key, one probe a job, link and lane; deferred (id); uncertain's primary key.
select i.id
from unnest($1::text::bigint[], $2::text::bigint[]) i (id, enqueued_us)
cross join lateral (
    select r.enqueued_at from tocsin.link l cross join unnest(array[0, 1, 2, 3, 4, 5]::smallint[]) n (lane)
    cross join lateral (select r.* from tocsin.ready r where r.link = l.name and r.lane = n.lane and r.id = i.id limit 1) r
    union all
    select d.enqueued_at from tocsin.deferred d where d.id = i.id
    union all
    select u.enqueued_at from tocsin.uncertain u where u.id = i.id) found
where (extract(epoch from found.enqueued_at) * 1000000)::bigint = i.enqueued_us;
