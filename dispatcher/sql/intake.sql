-- name: keep_receipts
-- Keeps receipts as they came, before their deliver_sm_resp. $1 links, $2 receipts of each as JSON: array literals in text.
-- Returns the ids in order. Locks: none.
insert into tocsin.receipt_taken (link, receipts)
select t.link, t.receipts from unnest($1::text::text[], $2::text::text[]) with ordinality t (link, receipts, n) order by t.n
returning id;

-- name: taken_receipts
-- What was kept for the links $1 at least $2 seconds ago and is not applied; $3 ids that memory holds. Array literals in text.
-- Locks: none. Reads the whole table, which holds what is in flight.
select id, link, receipts from tocsin.receipt_taken
where link = any ($1::text::text[]) and taken_at <= now() - make_interval(secs => $2::float8) and id <> all ($3::text::bigint[])
order by id limit 1000;

-- name: drop_taken
-- $1 ids of rows each of whose receipts is applied, or stands in receipt_wait. Index: receipt_taken's primary key.
delete from tocsin.receipt_taken where id = any ($1::text::bigint[]);
