-- name: settle_orphans
-- Answers whose rows are not where they were: each resolves doubt, is taken out of what waits to be sent again, or is kept as FENCED.
-- One element an answer, array literals in text: $1 id, $2 part, $3 parts, $4 attempt, $5 link, $6 destination, $7 sender, $8 category,
-- $9 lane, $10 enqueued_us, $11 message id, $12 age in seconds, $13 whether the answer was an acceptance.
-- Returns a row each, in order: doubtful, resolved, submitted, spared, withdrawn, fenced or null; tocsin.settle_orphan says what they mean.
-- Locks: the rows of uncertain, deferred or ready. Index: their primary keys, deferred (id).
select tocsin.settle_orphan(o.id, o.part, o.parts, o.attempt, o.link, o.destination, o.sender, o.category, o.lane, o.enqueued_us, o.message_id,
                            o.age, o.accepted) as outcome
from unnest($1::text::bigint[], $2::text::int[], $3::text::int[], $4::text::int[], $5::text::text[], $6::text::text[], $7::text::text[],
            $8::text::text[], $9::text::int[], $10::text::bigint[], $11::text::text[], $12::text::float8[], $13::text::bool[])
     with ordinality o (id, part, parts, attempt, link, destination, sender, category, lane, enqueued_us, message_id, age, accepted, n)
order by o.n;

-- name: resend
-- Doubt under the rule `resend`: sent again at most twice, by the next link. $1 links, $3 jobs to leave alone, $2 seconds in doubt at least, while
-- an answer can still come. None can once the session is over, or the link was seen to lose its last one since (its state
-- is told every 2 s; 5 s apart it was this session): then it is due at once. Returns one row a job: its link and category.
-- Locks: the rows of uncertain. Reads that table: a window's worth of rows an incident.
with gone as (
    delete from tocsin.uncertain u using tocsin.category c, tocsin.link l
    where c.name = u.category and c.on_doubt = 'resend' and u.resends < 2 and u.link = any ($1::text::text[]) and l.name = u.link
      and (u.session_over or u.since <= now() - make_interval(secs => $2::float8) or u.since < l.state_since - interval '5 seconds')
      and u.expires_at > now() and u.id not in (select unnest($3::text::bigint[]))
    returning u as row
)
select (g.row).link, (g.row).category, tocsin.send_again(g.row, 'RESEND') as by_link from gone g;

-- name: accept_fenced
-- Parts in doubt whose accepted answers stand in sent. $1 links, $2 as in give_up_doubt. Returns one row a job.
-- Rules, locks and indexes: tocsin.accept_fenced.
select link, category, outcome from tocsin.accept_fenced($1::text::text[], $2::float8);

-- name: give_up_doubt
-- Doubt that nothing resolved: its parts end as unknown. $1 links, $2 seconds past the end of the job's time,
-- $3 jobs to leave alone. The job is unknown, and told, unless another part of it still awaits its receipt: whoever brings that part home tells it.
-- Returns one row a job: expired says that its rule had allowed to send it again, and its time was over.
-- Locks: the rows of uncertain. Index: sent (job_id) for the other parts. Reads that table: a window's worth of rows an incident.
with gone as (
    delete from tocsin.uncertain u
    where u.link = any ($1::text::text[]) and greatest(u.expires_at, u.since) <= now() - make_interval(secs => $2::float8)
      and u.id not in (select unnest($3::text::bigint[]))
    returning u.*
), into_sent as (
    insert into tocsin.sent (submitted_at, job_id, part, parts, attempt, link, destination, sender, category, lane, client_ref,
                             enqueued_at, app, reason, resends, receipt_state, receipt_at)
    select now(), g.id, p.part, g.parts, g.attempt, g.link, g.recipient, g.sender, g.category, g.lane, g.client_ref, g.enqueued_at,
           g.app, 'DOUBT', nullif(g.resends, 0), 20, now()
    from gone g, generate_series(1, g.parts) p (part)
    where g.done is null or get_bit(g.done, p.part - 1) = 0
), told as (
    select g.* from gone g
    where not exists (select from tocsin.sent s join tocsin.link l on l.name = s.link and l.receipts = 'all'
                      where s.job_id = g.id group by s.part having max(coalesce(s.receipt_state, 10)) = 10)
), into_events as (
    insert into tocsin.event_log (at, seq, xid, app, type, subject, client_ref, category, reason)
    select now(), b.base + row_number() over () - 1, pg_current_xact_id(), g.app, 'job.unknown', g.id::text,
           g.client_ref, g.category, 'DOUBT'
    from (select tocsin.event_seq(count(*)) as base from told having count(*) > 0) b, told g
)
select g.link, g.category, exists (select from tocsin.category c where c.name = g.category and c.on_doubt = 'resend' and g.resends < 2) as expired,
       exists (select from told t where t.id = g.id) as told
from gone g;

-- name: uncertain_count
-- Segments in doubt a link. Reads uncertain. Locks: none.
select link, sum(length(replace(doubt::text, '0', '')))::int as segments from tocsin.uncertain group by link;

-- name: resolve_by_receipts
-- Tries receipts that fit no message id by their addresses. $1 their ids in receipt_wait, $2 seconds that a segment may lie back.
-- Returns a row for each that resolved a part in doubt. Rules, locks and indexes: tocsin.resolve_by_receipts.
select parked_id, job_id, link, category, rank, outcome, job_rank
from tocsin.resolve_by_receipts($1::text::bigint[], $2::float8);

-- name: forget_resent
-- Writes repeated longer ago than $1 seconds: no receipt can be theirs any more. Once an hour; the table is small.
delete from tocsin.resent where at < now() - make_interval(secs => $1::float8);
