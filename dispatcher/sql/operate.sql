-- name: set_paused
-- $1 link or category, $2 its name, $3 paused, $4 why, $5 who. Returns changed, unchanged or unknown. Locks: that row.
select tocsin.set_paused($1::text, $2::text, $3::bool, $4::text, $5::text) as outcome;

-- name: lane_of_category
-- Index: category's primary key. Locks: none.
select lane from tocsin.category where name = $1::text;

-- name: requeue
-- $1 a job's id, $2 why, $3 who. Returns requeued, too_late or unknown. Locks: the job's row of uncertain.
select tocsin.requeue($1::bigint, $2::text, $3::text) as outcome;

-- name: uncertain_of_link
-- Jobs in doubt on link $1 that may still be sent, oldest first, after job $2, at most 1,000. Reads uncertain, a window's worth of
-- rows an incident. Locks: none.
select u.id from tocsin.uncertain u
where u.link = $1::text and u.id > $2::bigint and u.expires_at > now() order by u.id limit 1000;

-- name: count_doubt
-- How many jobs (and segments) on link $1 are in doubt and may still be sent. Locks: none.
select count(*)::int as jobs, coalesce(sum(length(replace(u.doubt::text, '0', ''))), 0)::int as segments
from tocsin.uncertain u where u.link = $1::text and u.expires_at > now();
