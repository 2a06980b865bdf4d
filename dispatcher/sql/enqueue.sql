-- name: enqueue
-- One request through tocsin.enqueue_many, which gives a bad one as an outcome (invalid, conflict) instead of raising.
-- $1 recipient, $2 body, $3 category, $4 sender, $5 idempotency key, $6 not before, $7 expires at, $8 expires in: seconds
-- from the later of now and $6, on the database's clock; $9 flash, $10 client_ref, $11 options as JSON. Null: not given.
-- The object is built as tocsin.enqueue builds it, so that a key means the same request to both.
-- Locks: the new row; a key waits for another transaction that holds it (lock_timeout).
select r.job_id, r.outcome, r.reason
from tocsin.enqueue_many(jsonb_build_array(jsonb_strip_nulls(jsonb_build_object(
    'recipient', $1::text, 'body', $2::text, 'category', coalesce($3::text, 'transactional'), 'sender', $4::text,
    'idempotency_key', $5::text, 'not_before', $6::timestamptz,
    'expires_at', coalesce($7::timestamptz, greatest(now(), $6::timestamptz) + make_interval(secs => $8::float8)),
    'flash', $9::bool, 'client_ref', $10::text))
    || case when $11::text is null then '{}'::jsonb else jsonb_build_object('options', $11::text::jsonb) end)) r;

-- name: job
-- One job as its app may see it. $1 its id. Index: primary keys, (job_id) of each partition. Locks: none.
select job_id, client_ref, category, lane, state, reason, link, parts, attempts, resends, enqueued_at, submitted_at, final_at, retry
from tocsin.job_status($1::bigint);

-- name: may_read_evidence
-- Whether this user reads tocsin.sent: daemons, auditors and owners do, apps do not.
select has_table_privilege('tocsin.sent', 'select') as allowed;

-- name: job_parts
-- The evidence of one job: each submit_sm that was accepted or whose doubt ended. $1 its id. The number shows its last two digits.
-- Index: (job_id) of each partition. Locks: none.
select s.part, s.attempt, s.link, '***' || right(s.destination, 2) as destination, s.message_id, s.reason, s.resends, s.submitted_at,
       case when s.receipt_state is not null then tocsin.state_name(s.receipt_state) end as receipt, s.receipt_reason,
       s.receipt_error, s.receipt_at
from tocsin.sent s
where s.job_id = $1::bigint and (s.app = session_user or tocsin.sees_all())
order by s.part, s.submitted_at;

-- name: job_evidence
-- How one job came to its state, oldest first. $1 its id. Index: primary keys, (job_id) of each partition. Locks: none.
select at, what, part, link, reason, policy, detail from tocsin.job_evidence($1::bigint);

-- name: cancel
-- $1 the job's id. Returns cancelled, too_late or unknown. Locks: the job's row. Needs read committed.
select tocsin.cancel($1::bigint) as outcome;
