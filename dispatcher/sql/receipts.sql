-- name: apply_receipts
-- Raises the state of segments that receipts name exactly, and tells what rose: one event a job whose state did.
-- $1 n, $2 message id, $3 error, $4 and $8 the last 8 digits of the receipt's two addresses ('' when absent), array literals in text.
-- Most receipts say delivered, without a reason, of the link $5 and with one number: this is all of those. The others stand first; of these alone:
-- $6 link, $7 state (20, 30, 40), $8 the second number, $9 reason ('' when absent). $10 and $11 oldest submitted_at, as ages in seconds: of the
-- segments named, and of other parts of their jobs.
-- A receipt whose addresses are both other numbers than the job's raises nothing. One that fits two segments undoes it all: TC300.
-- Returns what rose by category, link and state, as arrays (a row a segment costs the daemon 2 us more): n of the segments and their
-- ages in seconds, and how many of them are whole jobs; apart from them, jobs of several parts, or sent again, whose own state rose.
-- One with the reason OPTED_OUT suppresses the number for its sender, as CARRIER_BLOCK.
-- Locks: the rows of sent that it updates. Indexes: sent (message_id, link) and (job_id), in partitions newer than $10 and $11.
with rise as (
    update tocsin.sent s
    set receipt_state = o.state, receipt_error = nullif(o.error, ''), receipt_at = now(), receipt_reason = nullif(o.reason, '')
    from (select o.n, o.message_id, o.error, o.one, coalesce(o.link, $5::text) as link, coalesce(o.state, 40::smallint) as state,
                 coalesce(o.other, '') as other, coalesce(o.reason, '') as reason
          from unnest($1::text::int[], $2::text::text[], $3::text::text[], $4::text::text[], $6::text::text[], $7::text::smallint[],
                      $8::text::text[], $9::text::text[])
               o (n, message_id, error, one, link, state, other, reason)) o
    where s.link = o.link and s.message_id = o.message_id
      and s.submitted_at > now() - make_interval(secs => $10::float8) and s.submitted_at < now() + interval '1 minute'
      and coalesce(s.receipt_state, 0) < o.state
      and (o.one = '' and o.other = '' or right(s.destination, 8) in (o.one, o.other)
           or (o.one = '' or o.other = '') and right(s.sender, 8) in (o.one, o.other))
    -- a job that was sent again may have two rows of its one part: the better one counts, as it does among several parts
    returning o.n, s.job_id, s.part, case when s.attempt > 1 or s.reason is not null then greatest(s.parts, 2) else s.parts end as parts, s.app, s.client_ref, s.category, s.link, s.enqueued_at, s.receipt_state as rank, s.receipt_error as error,
              s.receipt_reason as reason, date_part('epoch', now() - s.submitted_at) as age,
              -- the carrier knows of a STOP that never came to us
              case when o.reason = 'OPTED_OUT'
                   then tocsin.note_suppression(s.destination, 'sender', ltrim(s.sender, '+'), 'added', 'CARRIER_BLOCK', 'carrier', null,
                                                jsonb_build_object('job_id', s.job_id), false) end as noted
), checked as (
    select case when count(*) > count(distinct n) then tocsin.refuse_ambiguity() end as ambiguous from rise
), raised as materialized (
    select job_id, part, rank, reason, error, enqueued_at from rise where parts > 1
), before as (                                           -- this snapshot shows `sent` as it was before the rise
    select s.job_id, s.part, s.parts, s.app, s.client_ref, s.category, s.reason as mark, s.receipt_reason, s.receipt_error, s.receipt_state,
           -- elsewhere a part that no receipt named has no say
           coalesce(s.receipt_state, case when s.link = any ((select array_agg(l.name) from tocsin.link l where l.receipts = 'all')::text[])
                                          then 10 end) as rank
    -- a job's segments are no older than the job: fewer partitions to probe
    from (select job_id, min(enqueued_at) - interval '1 hour' as since from raised group by job_id) j
    join tocsin.sent s on s.job_id = j.job_id and s.submitted_at > j.since and s.submitted_at > now() - make_interval(secs => $11::float8)
     and s.submitted_at < now() + interval '1 minute'
), part as (
    select b.job_id, b.part, max(b.parts) as parts, max(b.app) as app, max(b.client_ref) as client_ref, max(b.category) as category,
           max(b.ending) as ending, max(b.rank) filter (where not b.risen) as rank_before, max(b.rank) as rank
    from (select false as risen, job_id, part, parts, app, client_ref, category, rank,
                 case when receipt_state < 40 then tocsin.receipt_ending(receipt_state, receipt_reason, receipt_error, mark) end as ending
          from before
          union all                                      -- not a join of the two: it would compare each with each
          select true, job_id, part, null, null, null, null, rank,
                 case when rank < 40 then tocsin.receipt_ending(rank, reason, error, null) end
          from raised) b
    group by b.job_id, b.part
), job as (                                              -- the worst of its parts, once each has an end
    select job_id, max(app) as app, max(client_ref) as client_ref, max(category) as category,
           min(ending) filter (where rank < 40) as ending, min(rank) as rank
    from part group by job_id
    having count(*) = max(parts) and min(rank) > 10 and min(rank) > coalesce(min(rank_before), 10)
), into_events as (                                   -- numbered by n, which is below 1,000; those of the other jobs after them
    insert into tocsin.event_log (at, seq, xid, app, type, subject, client_ref, category, reason, detail)
    select now(), b.base + t.n, pg_current_xact_id(), t.app, 'job.' || tocsin.state_name(t.rank), t.job_id::text,
           t.client_ref, t.category, case when t.rank < 40 then t.reason end, tocsin.receipt_detail(t.rank, t.reason, t.error)
    from (select tocsin.event_seq(2001) as base) b cross join (
        select n, job_id, app, client_ref, category, coalesce(reason, error) as reason, error, rank from rise where parts = 1
        union all
        select 1000 + row_number() over (), job_id, app, client_ref, category, ending[3], ending[4], rank from job) t
)
select array_agg(n) as numbers, array_agg(age) as ages, category, link, rank, count(*) filter (where parts = 1) as jobs
from rise where (select ambiguous from checked) is null group by category, link, rank
union all
select '{}', '{}', category, null, rank, count(*) from job group by category, rank;

-- name: find_receipts
-- Candidates for receipts that no segment answered to exactly. $1 n, $2 link, $3 form of the id, $4 rank of the form (0 is exact),
-- array literals in text; $5 oldest submitted_at, as age in seconds. Locks: none. Index: sent (message_id, link).
select o.n, o.rank, s.link, s.message_id, s.destination, s.sender, coalesce(s.receipt_state, 0) as receipt_state
from unnest($1::text::int[], $2::text::text[], $3::text::text[], $4::text::smallint[]) o (n, link, form, rank)
join tocsin.sent s on s.link = o.link and s.message_id = o.form
 and s.submitted_at > now() - make_interval(secs => $5::float8) and s.submitted_at < now() + interval '1 minute';

-- name: park_receipts
-- Keeps receipts that nobody could match. $1 link, $2 message id, $3 forms (array literals again), $4 state, $5 error, $6 source,
-- $7 destination, $8 submitted_on, $9 reason, array literals in text. Returns their ids in order.
insert into tocsin.receipt_wait (received_at, id, link, message_id, forms, state, error, source, destination, submitted_on, reason)
select now(), nextval('tocsin.receipt_wait_id'), o.link, o.message_id, o.forms::text[], o.state, nullif(o.error, ''), o.source, o.destination,
       o.submitted_on, nullif(o.reason, '')
from unnest($1::text::text[], $2::text::text[], $3::text::text[], $4::text::smallint[], $5::text::text[], $6::text::text[], $7::text::text[],
            $8::text::text[], $9::text::text[])
     with ordinality o (link, message_id, forms, state, error, source, destination, submitted_on, reason, n)
order by o.n
returning id;

-- name: parked_receipts
-- Receipts still waiting for their segment. $1 links, $2 age in seconds at most. Read once, when a link is taken.
select id, link, message_id, forms, state, coalesce(error, '') as error, source, destination, submitted_on, counted,
       coalesce(reason, '') as reason, extract(epoch from now() - received_at)::float8 as age
from tocsin.receipt_wait
where link = any ($1::text::text[]) and matched_at is null and received_at > now() - make_interval(secs => $2::float8)
order by id limit 10000;

-- name: receipts_matched
-- $1 ids of parked receipts that found their segment.
update tocsin.receipt_wait set matched_at = now() where id = any ($1::text::bigint[]) and matched_at is null;

-- name: receipts_unmatched
-- $1 ids of parked receipts that are told as unmatched.
update tocsin.receipt_wait set counted = true where id = any ($1::text::bigint[]) and not counted;
