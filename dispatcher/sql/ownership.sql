-- name: links
-- The links of the file with their owners. Locks: none.
select name, coalesce(owner, '') as owner, epoch, beat from tocsin.link where enabled order by position, name;

-- name: lock_link
-- Begins a take-over: nobody claims or settles on this link until this transaction ends. $1 name.
select coalesce(owner, '') as owner, epoch, beat from tocsin.link where name = $1 for update;

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
-- $1 link, whose journals from before epoch $2 are all accounted for.
delete from tocsin.claim where link = $1 and epoch < $2;

-- name: beat
-- $1 links, $2 epochs, $3 owner, $4 states: the owner's sign of life. Returns the links that are still its own.
update tocsin.link l set beat = l.beat + 1, state = b.state, state_since = case when l.state = b.state then l.state_since else now() end
from unnest($1::text::text[], $2::text::bigint[], $4::text::text[]) b (name, epoch, state)
where l.name = b.name and l.epoch = b.epoch and l.owner = $3
returning l.name;

-- name: disown
-- $1 links, $2 epochs, $3 owner: an orderly end; the next owner need not wait.
update tocsin.link l set owner = null, state = 'unbound', state_since = now()
from unnest($1::text::text[], $2::text::bigint[]) b (name, epoch)
where l.name = b.name and l.epoch = b.epoch and l.owner = $3;
