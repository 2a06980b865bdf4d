-- What the demonstration asks of the database: as an app, through the functions and views that every app uses.

-- name: demo_enqueue_many
-- $1 an array of requests as JSON. Returns an outcome for each, in their order. Locks: the new rows.
select r.job_id, r.outcome, r.reason from tocsin.enqueue_many($1::text::jsonb) r order by r.item;

-- name: demo_enqueue
-- One request, as SQL is written by hand. $1 recipient, $2 body, $3 category, $4 flash. Locks: the new row.
select r.job_id, r.outcome, r.reason from tocsin.enqueue($1::text, $2::text, category => $3::text, flash => $4::boolean) r;

-- name: demo_events
-- Events after $1, by cursor, but for those of automatic replies. Locks: none. Index: event_log (seq).
select e.seq, e.type, e.subject from tocsin.event e where e.seq > $1 and e.data ->> 'category' is distinct from 'reply' order by e.seq;

-- name: demo_jobs
-- Where the jobs $1 (array literal in text) stand. Reads all of job_status: once, at the end. Locks: none.
select s.job_id, s.state from tocsin.job_status s where s.job_id = any ($1::text::bigint[]);

-- name: demo_inbox
-- What came in, oldest first. Locks: none.
select i.source, i.text from tocsin.inbox i order by i.inbound_id;
