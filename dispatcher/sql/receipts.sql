-- name: apply_receipts
-- Raises the state of segments that receipts name exactly. $1 n, $2 link, $3 message id, $4 state (20, 30, 40), $5 error,
-- $6 and $7 the last 8 digits of the receipt's two addresses ('' when absent), array literals in text; $8 oldest submitted_at, as age in seconds.
-- A receipt whose addresses are both other numbers than the job's raises nothing.
-- Locks: the rows of sent that it updates. Index: sent (link, message_id), partitions newer than $8.
with rise as (
    update tocsin.sent s
    set receipt_before = s.receipt_state, receipt_state = o.state, receipt_error = nullif(o.error, ''), receipt_at = now()
    from unnest($1::text::int[], $2::text::text[], $3::text::text[], $4::text::smallint[], $5::text::text[], $6::text::text[], $7::text::text[])
         o (n, link, message_id, state, error, one, other)
    where s.link = o.link and s.message_id = o.message_id
      and s.submitted_at > now() - make_interval(secs => $8::float8) and s.submitted_at < now() + interval '1 minute'
      and coalesce(s.receipt_state, 0) < o.state
      and (o.one = '' and o.other = '' or right(s.destination, 8) in (o.one, o.other)
           or (o.one = '' or o.other = '') and right(s.sender, 8) in (o.one, o.other))
    returning o.n, s.job_id, s.parts, s.app, s.client_ref, s.category, s.link, s.receipt_state, s.receipt_error,
              extract(epoch from now() - s.submitted_at)::float8 as age
), into_events as (
    insert into tocsin.event_log (at, seq, xid, app, type, subject, data)
    select now(), b.base + row_number() over () - 1, pg_current_xact_id(), r.app, 'job.' || tocsin.state_name(r.receipt_state),
           r.job_id::text, jsonb_build_object('client_ref', r.client_ref, 'category', r.category, 'reason', r.receipt_error)
    from (select tocsin.event_seq(count(*)) as base from rise where parts = 1 having count(*) > 0) b, rise r
    where r.parts = 1
)
select n, job_id, parts, category, link, receipt_state, age from rise;

-- name: tell_multipart
-- Events of jobs of several parts, of which a part rose in this transaction: one when the job's own state rose.
-- $1 job ids, $2 oldest submitted_at, as age in seconds. Returns job_id, category and the new rank (20, 30, 40). Index: sent (job_id).
with part as (
    select s.job_id, s.part, max(s.parts) as parts, max(s.app) as app, max(s.client_ref) as client_ref, max(s.category) as category,
           max(s.receipt_error) as error, max(coalesce(s.receipt_state, 10)) as rank,
           max(coalesce(case when s.receipt_at = now() then s.receipt_before else s.receipt_state end, 10)) as rank_before
    from tocsin.sent s
    where s.job_id = any ($1::text::bigint[]) and s.submitted_at > now() - make_interval(secs => $2::float8)
    group by s.job_id, s.part
), job as (
    select job_id, max(app) as app, max(client_ref) as client_ref, max(category) as category, max(error) as error, min(rank)::int as rank
    from part group by job_id
    having count(*) = max(parts) and min(rank) > 10 and min(rank) > min(rank_before)
), into_events as (
    insert into tocsin.event_log (at, seq, xid, app, type, subject, data)
    select now(), b.base + row_number() over () - 1, pg_current_xact_id(), j.app, 'job.' || tocsin.state_name(j.rank), j.job_id::text,
           jsonb_build_object('client_ref', j.client_ref, 'category', j.category, 'reason', j.error)
    from (select tocsin.event_seq(count(*)) as base from job having count(*) > 0) b, job j
)
select job_id, category, rank from job;

-- name: find_receipts
-- Candidates for receipts that no segment answered to exactly. $1 n, $2 link, $3 form of the id, $4 rank of the form (0 is exact),
-- array literals in text; $5 oldest submitted_at, as age in seconds. Locks: none. Index: sent (link, message_id).
select o.n, o.rank, s.link, s.message_id, s.destination, s.sender, coalesce(s.receipt_state, 0) as receipt_state
from unnest($1::text::int[], $2::text::text[], $3::text::text[], $4::text::smallint[]) o (n, link, form, rank)
join tocsin.sent s on s.link = o.link and s.message_id = o.form
 and s.submitted_at > now() - make_interval(secs => $5::float8) and s.submitted_at < now() + interval '1 minute';

-- name: park_receipts
-- Keeps receipts that nobody could match. $1 link, $2 message id, $3 forms (array literals again), $4 state, $5 error, $6 source,
-- $7 destination, $8 submitted_on, array literals in text. Returns their ids in order.
insert into tocsin.receipt_wait (received_at, id, link, message_id, forms, state, error, source, destination, submitted_on)
select now(), nextval('tocsin.receipt_wait_id'), o.link, o.message_id, o.forms::text[], o.state, nullif(o.error, ''), o.source, o.destination, o.submitted_on
from unnest($1::text::text[], $2::text::text[], $3::text::text[], $4::text::smallint[], $5::text::text[], $6::text::text[], $7::text::text[],
            $8::text::text[]) with ordinality o (link, message_id, forms, state, error, source, destination, submitted_on, n)
order by o.n
returning id;

-- name: parked_receipts
-- Receipts still waiting for their segment. $1 links, $2 age in seconds at most. Read once, when a link is taken.
select id, link, message_id, forms, state, coalesce(error, '') as error, source, destination, submitted_on, counted,
       extract(epoch from now() - received_at)::float8 as age
from tocsin.receipt_wait
where link = any ($1::text::text[]) and matched_at is null and received_at > now() - make_interval(secs => $2::float8)
order by id limit 10000;

-- name: receipts_matched
-- $1 ids of parked receipts that found their segment.
update tocsin.receipt_wait set matched_at = now() where id = any ($1::text::bigint[]) and matched_at is null;

-- name: receipts_unmatched
-- $1 ids of parked receipts that are told as unmatched.
update tocsin.receipt_wait set counted = true where id = any ($1::text::bigint[]) and not counted;
