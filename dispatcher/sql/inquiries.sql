-- name: ask_about
-- $1 a job's id, $2 cancel or query, $3 why, $4 who. Returns the ids of what is asked: none where no part can be asked about.
-- Index: sent (job_id). Locks: none that others wait for.
select ask_about as id from tocsin.ask_about($1::bigint, $2::text, $3::text, $4::text);

-- name: cancel_refused
-- Has the accepted parts of the jobs $1, an array literal in text, cancelled, as their recipients refuse them. Returns how many there are.
-- Index: sent (job_id). Locks: none that others wait for.
select count(a.inquiry_id)::int as segments
from unnest($1::text::bigint[]) j (id), tocsin.ask_parts(j.id, 'cancel', 'refusal') a (inquiry_id);

-- name: inquiries
-- What came of the inquiries $1, an array literal in text, in order. Index: primary key. Locks: none.
select inquiry_id, part, link, answered_at is not null as is_over, coalesce(outcome, 'unanswered') as outcome,
       coalesce(command_status, 0) as command_status, coalesce(message_state, '') as message_state, coalesce(error_code, 0) as error_code,
       coalesce(final_date, '') as final_date
from tocsin.inquiry where inquiry_id = any ($1::text::bigint[]) order by part, inquiry_id;

-- name: withdraw_inquiries
-- Takes back those of the inquiries $1, an array literal in text, that nobody took: nobody asks them any more.
-- Index: primary key. Locks: the rows; waits for an instance that takes them at this moment.
update tocsin.inquiry set sent_at = now(), answered_at = now(), outcome = 'not asked'
where inquiry_id = any ($1::text::bigint[]) and sent_at is null;

-- name: take_inquiries
-- Takes what is to be asked over the links $1 (epochs $2): array literals in text. An inquiry that nobody took within a minute is not asked
-- any more, since who asked has gone. Committed before anything is written, so that none is asked twice.
-- Locks: key share on the link rows (the fence); the rows taken, skip locked. Index: inquiry_open.
with picked as materialized (
    select i.inquiry_id, i.link from tocsin.inquiry i
    where i.sent_at is null and i.link = any ($1::text::text[]) and i.asked_at > now() - interval '1 minute'
    order by i.inquiry_id limit 50 for update skip locked
), fence as materialized (
    select l.name from unnest($1::text::text[], $2::text::bigint[]) e (name, epoch)
    join tocsin.link l on l.name = e.name and l.epoch = e.epoch
    where exists (select from picked)
    for key share of l
)
update tocsin.inquiry i set sent_at = now()
from picked p join fence f on f.name = p.link
where i.inquiry_id = p.inquiry_id
returning i.inquiry_id, i.kind, i.link, i.message_id, i.sender, i.recipient;

-- name: answer_inquiries
-- $1 ids, $2 outcomes, $3 command_status, $4 message states, $5 error codes, $6 final dates: array literals in text.
-- Index: primary key. Locks: the rows.
update tocsin.inquiry i
set answered_at = now(), outcome = o.outcome, command_status = o.command_status, message_state = nullif(o.message_state, ''),
    error_code = o.error_code, final_date = nullif(o.final_date, '')
from unnest($1::text::bigint[], $2::text::text[], $3::text::bigint[], $4::text::text[], $5::text::int[], $6::text::text[])
     o (id, outcome, command_status, message_state, error_code, final_date)
where i.inquiry_id = o.id and i.answered_at is null;

-- name: prune_inquiries
-- Those that are older than $1 days, as the segments that they ask about are. Index: inquiry (asked_at). Locks: the rows.
delete from tocsin.inquiry where asked_at < now() - make_interval(days => $1::int);
