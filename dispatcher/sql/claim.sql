-- name: claim
-- Takes jobs into the journal and returns what the wire needs. Commit, and only then write to the socket.
-- $1 links, $2 epochs: owned links. $3 link, $4 lane, $5 after, $6 upto, $7 n: windows, in the order wanted.
-- $8: ids that memory already holds. $9: categories that ask for consent. All are array literals in text.
-- (`not in` of a subselect is hashed once; `<> all` of a parameter is compared element by element.)
-- Locks: key share on the link rows (the fence); no key update, skip locked, on the rows taken; rows are not updated.
-- Index: ready's primary key, one range scan a window. Units: seconds, microseconds since 1970 for enqueued_us.
-- (date_part gives float8, which holds a microsecond until 2106; extract gives numeric, which costs a microsecond a value.)
with picked as materialized (
    select r.*
    from unnest($3::text::text[], $4::text::smallint[], $5::text::bigint[], $6::text::bigint[], $7::text::int[])
         w (link, lane, after, upto, n)
    cross join lateral (
        select r.* from tocsin.ready r
        where r.link = w.link and r.lane = w.lane and r.id > w.after and r.id <= w.upto
          and r.id not in (select unnest($8::text::bigint[]))
        order by r.id limit w.n
        for no key update skip locked) r
), fence as materialized (                               -- not asked when there is nothing: an idle claim writes no WAL
    select l.name, l.epoch
    from unnest($1::text::text[], $2::text::bigint[]) e (name, epoch)
    join tocsin.link l on l.name = e.name and l.epoch = e.epoch
    where exists (select from picked)
    for key share of l
), batch as materialized (
    select nextval('tocsin.batch_id') as number, pg_current_xact_id()::text::bigint as xid
    where exists (select from picked p join fence f on f.name = p.link)
), journal as (
    insert into tocsin.claim (batch, link, lane, epoch, ids)
    select b.number, p.link, p.lane, f.epoch, array_agg(p.id) from picked p join fence f on f.name = p.link cross join batch b
    group by b.number, p.link, p.lane, f.epoch
)
select b.number, b.xid, p.link, p.lane, p.id, p.recipient, p.sender, p.body, p.category, p.flash, p.options, p.attempt, p.resends,
       p.parts, p.done::text, (date_part('epoch', p.enqueued_at) * 1000000)::bigint as enqueued_us,
       date_part('epoch', p.expires_at - now()) as life_s, date_part('epoch', now() - p.due_at) as waited_s,
       coalesce((select s.reason from tocsin.suppression s
        where s.recipient = p.recipient
          and (s.scope = 'everything' or s.scope = 'sender' and s.value = ltrim(p.sender, '+') or s.scope = 'category' and s.value = p.category)
        order by tocsin.binds_all(s.reason) desc, s.reason limit 1),
        case when p.category = any ($9::text::text[])
             then coalesce((select case when not c.is_granted then 'CONSENT_REVOKED' else '' end from tocsin.consent c
                            where c.recipient = p.recipient and c.category = p.category), 'CONSENT_MISSING') end) as suppressed
from picked p join fence f on f.name = p.link cross join batch b;

-- name: probe
-- Which ids stand in a range of a lane: finds rows whose transaction committed after a higher id was read.
-- $1 link, $2 lane, $3 after, $4 upto: windows, array literals in text. Locks: none. Index: ready's primary key.
-- One row a window: its number from 1, its ids, and the snapshot's xmin (below it no transaction is running).
select w.n, array(select r.id from tocsin.ready r
                  where r.link = w.link and r.lane = w.lane and r.id > w.after and r.id <= w.upto)::text as ids,
       pg_snapshot_xmin(pg_current_snapshot())::text::bigint as xmin
from unnest($1::text::text[], $2::text::smallint[], $3::text::bigint[], $4::text::bigint[]) with ordinality w (link, lane, after, upto, n);

-- name: oldest_enqueue
-- The xid below which no transaction runs that may have drawn a job's id: each has the sequence locked from before it
-- drew one until its end, after it has become visible, prepared ones and rolled-back savepoints included. Of the xids
-- that this statement's snapshot knows; a later snapshot sees whatever is not named here.
-- Where the sequence is locked and no xid beside it (one that ends, or is being prepared) this is the snapshot's xmin.
-- Locks: none; but pg_locks holds each partition of the lock table shared for as long as it copies it, so: seldom.
-- pg_locks knows the lower 32 bits of an xid alone; `behind` are xids from it to the snapshot's end, below 0 for one
-- that was drawn since.
with horizon as materialized (
    select pg_snapshot_xmin(s)::text::bigint as xmin, pg_snapshot_xmax(s)::text::bigint as xmax from pg_current_snapshot() s
), enqueuing as materialized (
    select max((h.xmax - l.transactionid::text::bigint + 2147483648 & 4294967295) - 2147483648) as behind
    from horizon h cross join pg_locks l
    where l.locktype = 'transactionid' and l.mode = 'ExclusiveLock' and l.granted
       or l.locktype = 'relation' and l.mode = 'RowExclusiveLock' and l.relation = 'tocsin.job_id'::regclass
          and l.database = (select d.oid from pg_database d where d.datname = current_database())
    group by l.virtualtransaction
    having bool_or(l.locktype = 'relation')
)
select case when exists (select from enqueuing where behind is null) then h.xmin
            else h.xmax - greatest((select max(behind) from enqueuing), 0) end as oldest
from horizon h;

-- name: release
-- Ends batches of the journal whose every id is settled or back in the queue. $1 batches. Those of an epoch that has
-- passed are left to the link's new owner.
delete from tocsin.claim c using tocsin.link l where c.batch = any ($1::text::bigint[]) and l.name = c.link and l.epoch = c.epoch;
