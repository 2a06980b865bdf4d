-- Two bounds, both off until configured: for the same text asked for again and again, and for messages to one number in a day and a week.

-- What holds for every message, as the file says it. No row: nothing of it.
create table tocsin.policy (
    only_one               boolean primary key default true check (only_one),
    duplicate_text_within  interval not null check (duplicate_text_within >= '0'),    -- 0: off
    duplicate_texts        int not null check (duplicate_texts > 0)                   -- that go within it
);

-- Which texts were taken for which numbers, while they count: no text and no number, a digest of both and of the app.
create table tocsin.recent_text (
    digest  bytea primary key,
    due_at  timestamptz[] not null,                      -- when those that were taken are due
    asked   timestamptz[] not null,                      -- what the last call asked for
    taken   timestamptz[] not null,                      -- and got
    until   timestamptz not null                         -- then it counts no more
);
create index on tocsin.recent_text (until);

-- Which of the texts that are asked for are taken, after those held: each has fewer than duplicate_texts of them due within the time of it,
-- before or after. All are instants at which they are due.
create function tocsin.note_texts(held timestamptz[], asked timestamptz[], out due_at timestamptz[], out taken timestamptz[],
                                  out until timestamptz)
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    rule tocsin.policy;
    due  timestamptz;
begin
    select * into rule from tocsin.policy;
    due_at := array(select h from unnest(held) h where h > now() - rule.duplicate_text_within);
    taken := '{}';
    foreach due in array asked loop
        if (select count(*) from unnest(due_at) h
            where h > due - rule.duplicate_text_within and h < due + rule.duplicate_text_within) < rule.duplicate_texts then
            due_at := due_at || due;
            taken := taken || due;
        end if;
    end loop;
    until := coalesce((select max(h) from unnest(due_at) h), now()) + rule.duplicate_text_within;
end $$;

-- Takes back, of what this transaction has just admitted, what the policy calls repeated; gives all of it with its outcome now. Of equal
-- ones the first go. Locks: the rows of the texts, in one order; a text waits for another transaction that asks for it (lock_timeout).
-- Index: ready's primary key, one range scan a link and lane; deferred (id). Settings come with the callers.
create function tocsin.refuse_repeated(admitted tocsin.admission[]) returns setof tocsin.admission
language plpgsql volatile as $$
begin
    return query
    with mine as materialized (                          -- lane 0 is never refused
        select a.job_id as id, a.item from unnest(admitted) a where a.outcome in ('queued', 'deferred')
    ), span as materialized (
        select min(m.id) as lowest, max(m.id) as highest from mine m
    ), counted as materialized (
        select j.id, j.due_at, sha256(convert_to(jsonb_build_array(j.app, j.recipient, j.body)::text, 'UTF8')) as digest
        from (select r.id, r.due_at, r.app, r.recipient, r.body
              from span s cross join tocsin.link l cross join generate_series(1, 5) n
              cross join lateral (select r.id, r.due_at, r.app, r.recipient, r.body from tocsin.ready r
                                  where r.link = l.name and r.lane = n::smallint and r.id between s.lowest and s.highest offset 0) r
              union all
              select d.id, d.due_at, d.app, d.recipient, d.body from span s join tocsin.deferred d on d.id between s.lowest and s.highest
              where d.lane > 0) j
        where j.id in (select m.id from mine m)
    ), taken as (
        insert into tocsin.recent_text as t (digest, due_at, asked, taken, until)
        select c.digest, n.due_at, c.asked, n.taken, n.until
        from (select c.digest, array_agg(c.due_at order by c.due_at) as asked from counted c group by c.digest) c
        cross join lateral tocsin.note_texts('{}', c.asked) n
        order by c.digest
        on conflict (digest) do update
        set (due_at, asked, taken, until) = (select n.due_at, excluded.asked, n.taken, n.until
                                             from tocsin.note_texts(t.due_at, excluded.asked) n)
        returning t.digest, t.taken
    ), repeated as materialized (
        select c.id
        from (select c.*, row_number() over (partition by c.digest, c.due_at order by c.id) as n from counted c) c
        join taken t on t.digest = c.digest
        where c.n > (select count(*) from unnest(t.taken) u (due_at) where u.due_at = c.due_at)
    ), from_ready as (
        delete from tocsin.ready r
        using tocsin.link l, generate_series(1, 5) n, repeated p
        where r.link = l.name and r.lane = n::smallint and r.id = p.id
        returning r.id, r.app, r.client_ref, r.recipient, r.sender, r.category, r.lane, r.link, r.parts, r.enqueued_at
    ), from_deferred as (
        delete from tocsin.deferred d using repeated p where d.id = p.id
        returning d.id, d.app, d.client_ref, d.recipient, d.sender, d.category, d.lane, d.link, d.parts, d.enqueued_at
    ), gone as materialized (
        select * from from_ready union all select * from from_deferred
    ), into_closed as (
        insert into tocsin.closed (closed_at, job_id, app, client_ref, recipient, sender, category, lane, link, state, reason,
                                   parts, attempt, enqueued_at)
        select now(), g.id, g.app, g.client_ref, g.recipient, g.sender, g.category, g.lane, g.link, 'blocked', 'DUP_CONTENT', g.parts, 0,
               g.enqueued_at
        from gone g
    ), into_events as (
        insert into tocsin.event_log (at, seq, xid, app, type, subject, client_ref, category, reason)
        select now(), b.base + row_number() over (order by g.id) - 1, pg_current_xact_id(), g.app, 'job.blocked', g.id::text,
               g.client_ref, g.category, 'DUP_CONTENT'
        from (select tocsin.event_seq(count(*)) as base from gone having count(*) > 0) b, gone g
    )
    select a.item, a.job_id, case when g.id is null then a.outcome else 'blocked' end, case when g.id is null then a.reason else 'DUP_CONTENT' end
    from unnest(admitted) a left join gone g on g.id = a.job_id and a.outcome in ('queued', 'deferred');
end $$;

create or replace function tocsin.enqueue(recipient text, body text, category text default 'transactional', sender text default null,
                                          idempotency_key text default null, not_before timestamptz default null,
                                          expires_at timestamptz default null, flash boolean default false,
                                          client_ref text default null, options jsonb default '{}')
    returns table (job_id bigint, outcome text, reason text)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp set lock_timeout = '2s'
set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off as $$
declare
    a tocsin.admission;
begin
    select * into a from tocsin.admit(jsonb_build_array(jsonb_build_object(
        'recipient', recipient, 'body', body, 'category', category, 'sender', sender, 'idempotency_key', idempotency_key,
        'not_before', not_before, 'expires_at', expires_at, 'flash', flash, 'client_ref', client_ref, 'options', options)));
    if a.outcome = 'invalid' then
        raise exception '%', a.reason using errcode = 'TC400', column = split_part(a.reason, ':', 1);
    elsif a.outcome = 'conflict' then
        raise exception '%', a.reason using errcode = 'TC409', column = 'idempotency_key';
    elsif exists (select from tocsin.policy p where p.duplicate_text_within > '0') then
        select * into a from tocsin.refuse_repeated(array[a]);
    end if;
    return query select a.job_id, a.outcome, a.reason;
end $$;

create or replace function tocsin.enqueue_many(jobs jsonb)
    returns table (item int, job_id bigint, outcome text, reason text)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp set lock_timeout = '2s'
set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off as $$
begin
    if jobs is null or jsonb_typeof(jobs) <> 'array' then
        raise exception 'jobs: not an array' using errcode = 'TC400', column = 'jobs';
    elsif jsonb_array_length(jobs) > 10000 then
        raise exception 'jobs: % items, at most 10000', jsonb_array_length(jobs) using errcode = 'TC400', column = 'jobs';
    end if;
    if exists (select from tocsin.policy p where p.duplicate_text_within > '0') then
        return query select * from tocsin.refuse_repeated(array(select a from tocsin.admit(jobs) a));
    else
        return query select * from tocsin.admit(jobs);
    end if;
end $$;

-- ---------------------------------------------------------------- caps

create type tocsin.cap_use as (job_id bigint, at timestamptz, batch bigint);    -- batch: of the claim that counted it
create type tocsin.cap_request as (job_id bigint, at timestamptz, batch bigint, per_day int, per_week int, day_since timestamptz,
                                   week_since timestamptz);
create type tocsin.cap_answer as (job_id bigint, by_day timestamptz, by_week timestamptz);    -- both null: it is counted, and may go

-- How often messages of a category with a cap went to a number of late. A job counts once, however often it is tried.
create table tocsin.cap_count (
    recipient  text not null,
    category   text not null,
    uses       tocsin.cap_use[] not null,
    asked      tocsin.cap_request[] not null,            -- what the last claim asked for
    answers    tocsin.cap_answer[] not null,             -- and got
    until      timestamptz not null,                     -- then nothing of it counts any more
    primary key (recipient, category)
);
create index on tocsin.cap_count (until);

-- Counts those of the jobs asked for that stay within their caps, one after the other. Of one that does not: the use that must be of an
-- earlier day, or of an earlier week, before it may go.
create function tocsin.note_uses(held tocsin.cap_use[], asked tocsin.cap_request[], out uses tocsin.cap_use[],
                                 out answers tocsin.cap_answer[], out until timestamptz)
language plpgsql immutable set search_path = pg_catalog, pg_temp as $$
declare
    wanted  tocsin.cap_request;
    others  tocsin.cap_use[];
    by_day  timestamptz;
    by_week timestamptz;
begin
    uses := array(select u from unnest(held) u where u.at > asked[1].at - interval '9 days');
    answers := '{}';
    foreach wanted in array asked loop
        others := array(select u from unnest(uses) u where u.job_id <> wanted.job_id);
        by_day := (select u.at from unnest(others) u where wanted.per_day is not null order by u.at desc offset wanted.per_day - 1 limit 1);
        by_week := (select u.at from unnest(others) u where wanted.per_week is not null order by u.at desc offset wanted.per_week - 1 limit 1);
        by_day := case when by_day >= wanted.day_since then by_day end;
        by_week := case when by_week >= wanted.week_since then by_week end;
        if by_day is null and by_week is null then
            uses := others || row(wanted.job_id, wanted.at, wanted.batch)::tocsin.cap_use;
        end if;
        answers := answers || row(wanted.job_id, by_day, by_week)::tocsin.cap_answer;
    end loop;
    until := coalesce((select max(u.at) from unnest(uses) u), asked[1].at) + interval '9 days';
end $$;

revoke execute on all functions in schema tocsin from public;
