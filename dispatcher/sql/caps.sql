-- name: take_caps
-- Counts the jobs of one claim whose categories have a cap, and says which may go. One element a job, array literals in text: $1 id,
-- $2 recipient, $3 category, $4 its claim's batch, $5 per_day, $6 per_week (null: any number), $7 and $8 since when its day and its week
-- last; $9 now. Instants are seconds since 1970. Returns job_id, and of one that may not go by_day and by_week: the uses that must be of an earlier
-- day, or of an earlier week, before it may.
-- Locks: the rows of the numbers, in one order; another instance's claim waits. Index: cap_count's primary key.
with asked as materialized (
    select a.recipient, a.category,
           array_agg(row(a.id, to_timestamp($9::float8), a.batch, a.per_day, a.per_week, to_timestamp(a.day_since),
                         to_timestamp(a.week_since))::tocsin.cap_request order by a.id) as asked
    from unnest($1::text::bigint[], $2::text::text[], $3::text::text[], $4::text::bigint[], $5::text::int[], $6::text::int[],
                $7::text::float8[], $8::text::float8[])
         a (id, recipient, category, batch, per_day, per_week, day_since, week_since)
    group by a.recipient, a.category
), counted as (
    insert into tocsin.cap_count as t (recipient, category, uses, asked, answers, until)
    select a.recipient, a.category, n.uses, a.asked, n.answers, n.until
    from asked a cross join lateral tocsin.note_uses('{}', a.asked) n
    order by a.recipient, a.category
    on conflict (recipient, category) do update
    set (uses, asked, answers, until) = (select n.uses, excluded.asked, n.answers, n.until from tocsin.note_uses(t.uses, excluded.asked) n)
    returning t.answers
)
select r.job_id, date_part('epoch', r.by_day) as by_day, date_part('epoch', r.by_week) as by_week
from counted c cross join lateral unnest(c.answers) r;

-- name: look_at_cap
-- What take_caps would say to one more job: $1 recipient, $2 category, $3 per_day, $4 per_week, $5 and $6 since when its day and its week
-- last, $7 now. Returns by_day and by_week; both null: it may go. Index: cap_count's primary key. Locks: none.
select date_part('epoch', a.by_day) as by_day, date_part('epoch', a.by_week) as by_week
from tocsin.note_uses(coalesce((select c.uses from tocsin.cap_count c where (c.recipient, c.category) = ($1::text, $2::text)), '{}'),
                      array[row(0, to_timestamp($7::float8), 0, $3::int, $4::int, to_timestamp($5::float8),
                                to_timestamp($6::float8))::tocsin.cap_request]) n
cross join lateral unnest(n.answers) a;

-- name: give_back_caps
-- Counts no more what was not sent after all. One element a job, array literals in text: $1 id, $2 recipient, $3 category, $4 the batch
-- of the claim that counted it: what a later one counted stays. Locks: the rows of the numbers, in one order. Index: cap_count's primary key.
with back as materialized (
    select b.* from unnest($1::text::bigint[], $2::text::text[], $3::text::text[], $4::text::bigint[]) b (id, recipient, category, batch)
), locked as materialized (
    select c.recipient, c.category from tocsin.cap_count c
    where (c.recipient, c.category) in (select b.recipient, b.category from back b)
    order by c.recipient, c.category for update
)
update tocsin.cap_count c
set uses = array(select u from unnest(c.uses) u where (u.job_id, u.batch) not in (select b.id, b.batch from back b))
from locked l where (c.recipient, c.category) = (l.recipient, l.category);
