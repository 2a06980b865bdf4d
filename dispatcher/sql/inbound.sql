-- name: store_inbound
-- Keeps MO messages before their deliver_sm_resp, fenced: what came over a link that another instance, or the next process
-- of this one, has taken since is not stored, for its owner gets it again from the SMSC. Undecodable ones are kept anyhow.
-- $1 link, $2 source, $3 destination, $4 text, $5 class, $6 octets (hex), $7 data_coding, $8 esm_class, $9 digest (hex);
-- $10 links, $11 epochs: owned links. All are array literals in text. Returns the inbound ids in order, with their links.
-- Locks: key share on the link rows (the fence).
with fence as materialized (
    select l.name from unnest($10::text::text[], $11::text::bigint[]) e (name, epoch)
    join tocsin.link l on l.name = e.name and l.epoch = e.epoch
    for key share of l
), stored as (
    insert into tocsin.inbound (received_at, inbound_id, link, source, destination, text, class, octets, data_coding, esm_class, digest)
    select now(), nextval('tocsin.inbound_id'), o.link, o.source, o.destination, o.text, o.class, decode(o.octets, 'hex'), o.data_coding,
           o.esm_class, decode(o.digest, 'hex')
    from unnest($1::text::text[], $2::text::text[], $3::text::text[], $4::text::text[], $5::text::text[], $6::text::text[],
                $7::text::smallint[], $8::text::smallint[], $9::text::text[])
         with ordinality o (link, source, destination, text, class, octets, data_coding, esm_class, digest, n)
    where o.class = 'undecodable' or o.link in (select f.name from fence f)
    order by o.n
    returning inbound_id, link, class
), into_events as (
    insert into tocsin.event_log (at, seq, xid, app, type, subject, detail)
    select now(), b.base + row_number() over (order by s.inbound_id) - 1, pg_current_xact_id(), '', 'inbound.received', s.inbound_id::text,
           jsonb_build_object('link', s.link, 'class', s.class)
    from (select tocsin.event_seq(count(*)) as base from stored having count(*) > 0) b, stored s
)
select inbound_id, link from stored order by inbound_id;

-- name: recent_inbound
-- MO messages of the last $2 seconds of the links $1: which of them were answered is in the local record.
select inbound_id, encode(digest, 'hex') as digest, extract(epoch from now() - received_at)::float8 as age
from tocsin.inbound where link = any ($1::text::text[]) and received_at > now() - make_interval(secs => $2::float8);
