-- name: links
-- The links of the file with their owners. Locks: none.
select name, coalesce(owner, '') as owner, epoch, beat from tocsin.link where enabled order by position, name;

-- name: lock_link
-- Begins a take-over: nobody claims or settles on this link until this transaction ends. $1 name.
select coalesce(owner, '') as owner, coalesce(accounted_by, '') as accounted_by, epoch, beat from tocsin.link where name = $1 for update;

-- name: own_link
-- $1 name, $2 owner. The new epoch fences every earlier owner. Returns it.
update tocsin.link set owner = $2, epoch = epoch + 1, beat = beat + 1, state = 'binding', state_since = now() where name = $1 returning epoch;

-- name: journalled
-- Jobs that an earlier owner of link $1, before epoch $2, may have written: named by a journal and still in ready.
select r.lane, r.id, r.category, r.parts, coalesce(r.done::text, '') as done, r.attempt,
       (extract(epoch from r.enqueued_at) * 1000000)::bigint as enqueued_us
from (select distinct c.lane, i.id from tocsin.claim c, unnest(c.ids) i (id) where c.link = $1 and c.epoch < $2) j
cross join lateral (select r.* from tocsin.ready r where r.link = $1 and r.lane = j.lane and r.id = j.id limit 1) r;

-- name: forget_journal
-- $1 link, whose journals from before epoch $2 are all accounted for, unless another one has taken it since: it reads them now.
-- Locks: the link's row, its journals.
with accounted as (
    update tocsin.link set accounted_by = owner where name = $1 and epoch = $2 returning name
)
delete from tocsin.claim c using accounted a where c.link = a.name and c.epoch < $2;

-- name: instances
-- Instances that beat, and what they would carry. The table has a row for each. Locks: none.
select owner, beat, links from tocsin.instance;

-- name: beat
-- $1 links, $2 epochs, $3 owner, $4 states, $5 links that it would carry: an instance's sign of life, and that of each link
-- it owns. Drops instances that were silent for a day. Returns the links that are still its own.
-- Locks: the rows of its links and its own; rows of instances long gone. Index: primary keys; the tables are small.
with alive as (
    insert into tocsin.instance as i (owner, links, beat) values ($3, $5::text::text[], 1)
    on conflict (owner) do update set beat = i.beat + 1, links = excluded.links, at = now()
), long_gone as (
    delete from tocsin.instance where at < now() - interval '1 day' and owner <> $3
)
update tocsin.link l set beat = l.beat + 1, state = b.state, state_since = case when l.state = b.state then l.state_since else now() end
from unnest($1::text::text[], $2::text::bigint[], $4::text::text[]) b (name, epoch, state)
where l.name = b.name and l.epoch = b.epoch and l.owner = $3
returning l.name;

-- name: disown
-- $1 name, $2 epoch, $3 owner: an orderly end, after lock_link in the same transaction, once the owner's memory holds no job of
-- the link. What its journals still name was settled, released, or never handed out. The epoch rises so that a claim on its
-- way is fenced. Locks: the link's row, its journals.
with unwritten as (
    delete from tocsin.claim c using tocsin.link l where c.link = $1 and c.epoch = $2 and l.name = c.link and l.epoch = $2 and l.owner = $3
)
update tocsin.link set owner = null, accounted_by = null, epoch = epoch + 1, state = 'unbound', state_since = now() where name = $1 and epoch = $2 and owner = $3;

-- name: leave
-- $1 owner: an instance ends in order and counts no longer. Locks: its row. Index: the primary key.
delete from tocsin.instance where owner = $1;
