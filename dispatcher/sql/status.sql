-- name: status_links
-- Who owns each link and what it is doing; links that left the file are named while jobs wait on them. state_for_s in seconds.
-- Locks: none. Index: ready's primary key, for links that left the file.
select l.name, coalesce(l.owner, '') as owner, l.epoch, l.beat, l.enabled, l.paused, l.state,
       extract(epoch from now() - l.state_since)::float8 as state_for_s
from tocsin.link l
where l.enabled or exists (select from tocsin.ready r where r.link = l.name)
order by l.position, l.name;

-- name: status_categories
-- Which categories share a lane, and which are paused. The table is small. Locks: none.
select name, lane, paused from tocsin.category order by lane, name;

-- name: status_events
-- The last $1 events: no text, no number, no client_ref. age_s in seconds. Locks: none. Index: seq of yesterday's and today's
-- partition, read backwards; every row of the two qualifies, so no more than $1 of each are read.
select type, subject, category, reason, extract(epoch from now() - at)::float8 as age_s
from tocsin.event_log
where at >= (date_trunc('day', now() at time zone 'UTC') - interval '1 day') at time zone 'UTC'
  and at < (date_trunc('day', now() at time zone 'UTC') + interval '1 day') at time zone 'UTC'
order by seq desc limit $1::int;
