-- name: store_inbound
-- Keeps MO messages before their deliver_sm_resp, fenced: what came over a link that another instance, or the next process
-- of this one, has taken since is not stored, for its owner gets it again from the SMSC. Undecodable ones are kept anyhow.
-- $1 link, $2 source, $3 destination, $4 text, $5 class, $6 octets (hex), $7 data_coding, $8 esm_class, $9 digest (hex);
-- $10 links, $11 epochs: owned links; $12 parts, $13 numbers of those that never came (an array literal again; null: none);
-- $14 what it asks for (null: nothing), $15 in which language, $16 language of its words of emergency (null: none).
-- All are array literals in text; but $17 when we open next, by our own wall clock ('': not soon; null: it is open).
-- Returns the inbound ids in order, with their links and the class that each has now.
-- Locks: key share on the link rows (the fence); of one that asks for or answers something, or is answered by itself, an advisory lock on
-- its number: in the order of the numbers, so that two instances never wait for each other.
with fence as materialized (
    select l.name from unnest($10::text::text[], $11::text::bigint[]) e (name, epoch)
    join tocsin.link l on l.name = e.name and l.epoch = e.epoch
    for key share of l
), given as materialized (
    select o.*, nextval('tocsin.inbound_id') as inbound_id
    from unnest($1::text::text[], $2::text::text[], $3::text::text[], $4::text::text[], $5::text::text[], $6::text::text[],
                $7::text::smallint[], $8::text::smallint[], $9::text::text[], $12::text::smallint[], $13::text::text[],
                $14::text::text[], $15::text::text[], $16::text::text[])
         with ordinality o (link, source, destination, text, class, octets, data_coding, esm_class, digest, parts, missing,
                            wish, language, danger, n)
    where o.class = 'undecodable' or o.link in (select f.name from fence f)
), heard as materialized (
    select g.inbound_id, h.class, h.answer
    from (select * from given o order by ltrim(o.source, '+') collate "C", o.n) g
    cross join lateral tocsin.heed(g.inbound_id, g.link, g.source, g.destination, g.class, g.wish, g.language, g.danger, g.text, $17::text) h
), stored as (
    insert into tocsin.inbound (received_at, inbound_id, link, source, destination, text, class, octets, data_coding, esm_class, digest,
                                parts, missing)
    select now(), o.inbound_id, o.link, o.source, o.destination, o.text, h.class, decode(o.octets, 'hex'), o.data_coding,
           o.esm_class, decode(o.digest, 'hex'), o.parts, o.missing::smallint[]
    from given o join heard h using (inbound_id)
    returning inbound_id, link, class, missing
), into_events as (
    insert into tocsin.event_log (at, seq, xid, app, type, subject, detail)
    select now(), b.base + row_number() over (order by s.inbound_id) - 1, pg_current_xact_id(), '', 'inbound.received', s.inbound_id::text,
           jsonb_build_object('link', s.link, 'class', s.class)
               || case when s.missing is null then '{}' else jsonb_build_object('missing', cardinality(s.missing)) end
    from (select tocsin.event_seq(count(*)) as base from stored having count(*) > 0) b, stored s
)
select s.inbound_id, s.link, s.class, h.answer
from stored s join heard h using (inbound_id) order by s.inbound_id;

-- name: recent_inbound
-- MO messages of the last $2 seconds of the links $1: which of them were answered is in the local record.
select inbound_id, encode(digest, 'hex') as digest, extract(epoch from now() - received_at)::float8 as age
from tocsin.inbound where link = any ($1::text::text[]) and received_at > now() - make_interval(secs => $2::float8);

-- name: known_parts
-- Parts that may be those that come now: of the same message and octets, open, or closed within $9 seconds. $1 link, $2 source,
-- $3 destination, $4 reference, $5 its bits, $6 parts, $7 part, $8 digest (hex), $9: array literals in text.
-- Locks: none. Index: inbound_part (link, source, destination, reference).
select o.n::int, p.part_id, p.inbound_id is null as is_open
from unnest($1::text::text[], $2::text::text[], $3::text::text[], $4::text::int[], $5::text::smallint[], $6::text::smallint[],
            $7::text::smallint[], $8::text::text[], $9::text::float8[])
     with ordinality o (link, source, destination, reference, reference_bits, parts, part, digest, within_s, n)
join tocsin.inbound_part p on p.link = o.link and p.source = o.source and p.destination = o.destination and p.reference = o.reference
 and p.reference_bits = o.reference_bits and p.parts = o.parts and p.part = o.part and p.digest = decode(o.digest, 'hex')
where p.inbound_id is null or p.received_at > now() - make_interval(secs => o.within_s);

-- name: store_parts
-- Keeps parts of long MO messages before their deliver_sm_resp, fenced as store_inbound. $1 link, $2 source, $3 destination,
-- $4 reference, $5 its bits, $6 parts, $7 part, $8 octets (hex), $9 data_coding, $10 esm_class, $11 digest (hex); $12 links, $13 epochs:
-- owned links. Array literals in text. Returns the ids in order, with their links. Locks: key share on the link rows (the fence).
with fence as materialized (
    select l.name from unnest($12::text::text[], $13::text::bigint[]) e (name, epoch)
    join tocsin.link l on l.name = e.name and l.epoch = e.epoch
    for key share of l
)
insert into tocsin.inbound_part (received_at, link, source, destination, reference, reference_bits, parts, part, text, octets,
                                 data_coding, esm_class, digest)
select now(), o.link, o.source, o.destination, o.reference, o.reference_bits, o.parts, o.part, '', decode(o.octets, 'hex'), o.data_coding,
       o.esm_class, decode(o.digest, 'hex')
from unnest($1::text::text[], $2::text::text[], $3::text::text[], $4::text::int[], $5::text::smallint[], $6::text::smallint[],
            $7::text::smallint[], $8::text::text[], $9::text::smallint[], $10::text::smallint[], $11::text::text[])
     with ordinality o (link, source, destination, reference, reference_bits, parts, part, octets, data_coding, esm_class, digest, n)
where o.link in (select f.name from fence f)
order by o.n
returning part_id, link;

-- name: open_parts
-- Parts that are not yet closed, of the messages $1 link, $2 source, $3 destination, $4 reference, $5 its bits, $6 parts: array literals
-- in text; in the order in which they came. Locks: none. Index: inbound_part (link, source, destination, reference).
select p.part_id, o.n::int, p.part, p.octets, p.data_coding, p.esm_class, extract(epoch from now() - p.received_at)::float8 as age
from unnest($1::text::text[], $2::text::text[], $3::text::text[], $4::text::int[], $5::text::smallint[], $6::text::smallint[])
     with ordinality o (link, source, destination, reference, reference_bits, parts, n)
join tocsin.inbound_part p on p.link = o.link and p.source = o.source and p.destination = o.destination and p.reference = o.reference
 and p.reference_bits = o.reference_bits and p.parts = o.parts
where p.inbound_id is null
order by o.n, p.part_id;

-- name: close_parts
-- $1 ids of parts, $2 the messages that they make: array literals in text.
-- Locks: the rows. Index: inbound_part (part_id).
update tocsin.inbound_part p set inbound_id = o.inbound_id
from unnest($1::text::bigint[], $2::text::bigint[]) o (part_id, inbound_id)
where p.part_id = o.part_id and p.inbound_id is null;

-- name: stale_parts
-- Messages of the links $1 that have waited for a part for more than $2 seconds. Locks: none. Index: inbound_part_open.
select distinct link, source, destination, reference, reference_bits, parts
from tocsin.inbound_part
where inbound_id is null and link = any ($1::text::text[]) and received_at < now() - make_interval(secs => $2::float8)
limit 1000;
