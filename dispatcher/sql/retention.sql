-- name: make_partitions
-- Makes the partitions of $1 days ahead. Locks: share update exclusive on the tables that get one. Returns how many.
select tocsin.make_partitions($1::int) as made;

-- name: drop_partition
-- Drops the oldest partition older than $1 days, of sent_text one whose day is past. Locks: access exclusive on its table, waited for
-- 0.1 s at most. Returns its name, or null.
select tocsin.drop_partition($1::int) as dropped;

-- name: partition_days
-- Days ahead for which every table has its partition, and days back to the oldest one. Reads the catalogue. Locks: none.
select min(t.ahead)::int as ahead, max(t.kept)::int as kept
from (select p.parent, max(p.day) filter (where p.parent <> 'sent_text') - (now() at time zone 'UTC')::date as ahead,
             (now() at time zone 'UTC')::date - min(p.day) as kept
      from tocsin.partition p group by p.parent) t;
