-- What no text may have: characters that a reader does not see and that change what he sees, or what his terminal does.

-- The first of a text, as U+XXXX; null: it has none. They are control characters (C0 but TAB, LF and CR, DEL, C1), and the embeddings, overrides and
-- isolates of bidirectional texts. Marks of direction, joiners and variation selectors are parts of honest texts. As CONTROL of config/replies.py.
-- No SET clause: it would keep it from being inlined.
create function tocsin.control_character(said text) returns text
language sql immutable strict parallel safe as $$
    select 'U+' || lpad(upper(to_hex(ascii(substring(
        said, '[\u0001-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]')))), 4, '0')
$$;

-- As before, and the texts of it have no control character.
create or replace function tocsin.wrong_expect(expect jsonb) returns text
language plpgsql stable strict set search_path = pg_catalog, pg_temp as $$
declare
    answers constant jsonb := expect -> 'answers';
    until   constant jsonb := expect -> 'deadline';
    others  constant jsonb := case jsonb_typeof(expect) when 'object' then expect - array['answers', 'code', 'deadline', 'subject'] end;
    words   text[];
begin
    if others is null or others <> '{}' then
        return 'options: expect has answers, and code, deadline, subject';
    elsif jsonb_typeof(answers) is distinct from 'object' then
        return 'options: expect.answers is an object of words';
    end if;
    select array_agg(tocsin.normal_form(a.word)) into words from jsonb_each(answers) a (word, means)
    where length(a.word) <= 40 and jsonb_typeof(a.means) = 'string' and length(a.means #>> '{}') between 1 and 64;
    return case
        when coalesce(cardinality(words), 0) not between 1 and 20 or cardinality(words) < (select count(*) from jsonb_object_keys(answers))
            then 'options: expect.answers has 1 to 20 words of at most 40 characters, each with an answer of 1 to 64'
        when '' = any (words) then 'options: expect.answers has a word without letters and digits'
        when (select bool_or(tocsin.is_reserved(w)) from unnest(words) w) then 'options: expect.answers has a word that means STOP, START or HELP'
        when (select count(distinct w) from unnest(words) w) < cardinality(words) then 'options: expect.answers has a word twice'
        when jsonb_typeof(expect -> 'code') <> 'string' or expect ->> 'code' !~ '^[0-9]{2,8}$' then 'options: expect.code is 2 to 8 digits in a text'
        when expect ->> 'code' = any (words) then 'options: expect.code is a word of expect.answers'
        when jsonb_typeof(until) = 'number' and until::text::numeric not between 1 and 2592000
            then 'options: expect.deadline is 1 to 2592000 seconds, or an instant within 400 days'
        when jsonb_typeof(until) = 'string'
             and (tocsin.to_instant(until #>> '{}') between now() and now() + interval '400 days') is not true
            then 'options: expect.deadline is 1 to 2592000 seconds, or an instant within 400 days'
        when jsonb_typeof(until) not in ('number', 'string') then 'options: expect.deadline is 1 to 2592000 seconds, or an instant within 400 days'
        when jsonb_typeof(expect -> 'subject') <> 'string' or length(expect ->> 'subject') not between 1 and 200
            then 'options: expect.subject is a text of 1 to 200 characters'
        else 'options: expect has the control character ' ||
            tocsin.control_character(concat(expect ->> 'subject', (select string_agg(a.word || a.means, '')
                                                                   from jsonb_each_text(answers) a (word, means))))
    end;
end $$;

-- As before, and a body has no control character: refused last, so that a key's earlier request is still known for what it was.
create or replace function tocsin.admit(jobs jsonb) returns setof tocsin.admission
language plpgsql volatile as $$
declare
    app    constant text := session_user;
    fields constant text[] := array['recipient', 'body', 'category', 'sender', 'idempotency_key', 'not_before',
                                    'expires_at', 'flash', 'client_ref', 'options'];
begin
    perform pg_current_xact_id();
    return query
    with asked as materialized (                         -- the items, and what is wrong with one whatever the configuration
        select a.item, a.category, a.sender,
               coalesce(left(recipient, digits), '') as lead,
               a.recipient, a.body, a.key, a.not_before, a.expires_at, a.client_ref, a.options,
               coalesce(e -> 'flash' = 'true', false) as flash,
               nextval('tocsin.job_id') as job_id,       -- here, where the items still stand in order
               case
                   when jsonb_typeof(e) <> 'object' then 'item: not an object'
                   when e - fields <> '{}' then 'item: unknown field ' || tocsin.some_key(e - fields)
                   when recipient is not null and jsonb_typeof(e -> 'recipient') <> 'string' then 'recipient: not a text'
                   when body is not null and jsonb_typeof(e -> 'body') <> 'string' then 'body: not a text'
                   when jsonb_typeof(e -> 'category') not in ('string', 'null') then 'category: not a text'
                   when sender <> '' and jsonb_typeof(e -> 'sender') <> 'string' then 'sender: not a text'
                   when key is not null and jsonb_typeof(e -> 'idempotency_key') <> 'string' then 'idempotency_key: not a text'
                   when client_ref is not null and jsonb_typeof(e -> 'client_ref') <> 'string' then 'client_ref: not a text'
                   when recipient is null then 'recipient: missing'
                   when recipient ~ '[^0-9]' or length(recipient) not between 7 and 15 or starts_with(recipient, '0')
                        or length(e ->> 'recipient') > length(recipient) + 1 then 'recipient: not an E.164 number'
                   when body is null then 'body: missing'
                   when body = '' then 'body: empty'
                   when e ->> 'sender' = '' then 'sender: empty'
                   when length(key) not between 1 and 200 then 'idempotency_key: 1 to 200 characters'
                   when length(client_ref) > 200 then 'client_ref: at most 200 characters'
                   when not_before is null and e ->> 'not_before' is not null or jsonb_typeof(e -> 'not_before') not in ('string', 'null')
                       then 'not_before: not an instant'
                   when expires_at is null and e ->> 'expires_at' is not null or jsonb_typeof(e -> 'expires_at') not in ('string', 'null')
                       then 'expires_at: not an instant'
                   when jsonb_typeof(e -> 'flash') not in ('boolean', 'null') then 'flash: neither true nor false'
                   else tocsin.wrong_option(options)
               end as malformed
        from (select n::int as item, e, ltrim(e ->> 'recipient', '+') as recipient, e ->> 'body' as body,
                     coalesce(e ->> 'category', 'transactional') as category, coalesce(e ->> 'sender', '') as sender,
                     e ->> 'idempotency_key' as key, tocsin.to_instant(e ->> 'not_before') as not_before,
                     tocsin.to_instant(e ->> 'expires_at') as expires_at, e ->> 'client_ref' as client_ref,
                     nullif(nullif(e -> 'options', '{}'), 'null') as options
              from jsonb_array_elements(jobs) with ordinality a (e, n)
              offset 0) a,                               -- offset 0, here and below: read once, use twice
             -- as many digits as any route looks at: of weighted links the whole number chooses
             (select max(case when r.weights = '{}' then length(r.prefix) else 15 end) as digits from tocsin.route r) r
    ), offer as materialized (                           -- what the configuration says; few differ within a batch
        select a.category, a.sender, a.lead, c.lane, c.flash as may_flash, c.max_parts, c.time_to_live, s.address,
               l.name as link, coalesce(l.alphabet, 'gsm7') as alphabet, coalesce(l.concatenation, 'udh8') as concatenation,
               l.national_tables, coalesce(l.substitute and c.substitute, false) as substitute
        from (select distinct category, sender, lead from asked) a
        left join tocsin.category c on c.name = a.category
        left join lateral (select t.address from tocsin.sender t
                           where a.category = any (t.categories) and a.sender in (t.address, '')
                           order by t.position, t.address limit 1) s on true
        left join tocsin.link l on l.name = (tocsin.links_of(a.lead, s.address, a.category))[1]
    ), weighed as (
        select a.*, o.lane, o.may_flash, o.max_parts, o.address, o.link,
               coalesce(a.expires_at, greatest(a.not_before, now()) + o.time_to_live) as ends_at,
               case when a.malformed is null then tocsin.count_parts(a.body, o.alphabet, o.concatenation, o.national_tables, o.substitute) end as parts
        from asked a join offer o on (a.category, a.sender, a.lead) = (o.category, o.sender, o.lead) offset 0
    ), judged as materialized (
        select w.item, w.job_id, w.key, w.malformed,
               case
                   when lane is null then 'category: unknown'
                   when address is null and sender = '' then 'sender: none allows this category'
                   when address is null then 'sender: unknown, or not for this category'
                   when flash and may_flash <> 'yes' then 'flash: not for this category'
                   when ends_at <= now() then 'expires_at: in the past'
                   when ends_at <= not_before then 'expires_at: not after not_before'
                   when parts > max_parts then 'body: more parts than the category allows'
                   else 'body: has the control character ' || tocsin.control_character(w.body)
               end as refused,
               greatest(w.not_before, now()) as due_at, w.ends_at, w.lane, w.link, w.client_ref, w.recipient, w.address, w.body,
               w.category, w.flash, w.options, w.parts,
               case when key is not null and malformed is null then
                   sha256(convert_to(jsonb_build_array(recipient, body, category, sender, extract(epoch from not_before),
                                                       extract(epoch from expires_at), flash, options)::text, 'UTF8')) end as request_hash
        from weighed w
    ), fresh as (                                        -- the first item of each key that nobody used before
        insert into tocsin.idempotency (app, key, request_hash, job_id, at)
        select distinct on (j.key) app, j.key, j.request_hash, j.job_id, now()
        from judged j where j.key is not null and malformed is null and refused is null order by j.key, j.item
        on conflict do nothing
        returning idempotency.job_id
    ), decided as not materialized (
        select j.*,
               case when malformed is not null or refused is not null and j.key is null then 'invalid'
                    when j.key is not null and (refused is not null or j.job_id not in (select f.job_id from fresh f)) then 'seen'
                    when j.link is null then 'blocked'
                    when due_at > now() then 'deferred'
                    else 'queued' end as outcome
        from judged j
    ), into_ready as (
        insert into tocsin.ready (link, lane, id, app, client_ref, recipient, sender, body, category, flash, options,
                                  enqueued_at, due_at, expires_at, cancel_group, parts)
        select d.link, lane, d.job_id, app, client_ref, recipient, address, body, category, flash, options,
               now(), due_at, ends_at, options ->> 'cancel_group', parts
        from decided d where d.outcome = 'queued'
    ), into_deferred as (
        insert into tocsin.deferred (due_at, id, link, lane, app, client_ref, recipient, sender, body, category, flash, options,
                                     enqueued_at, expires_at, cancel_group, parts, reason)
        select due_at, d.job_id, d.link, lane, app, client_ref, recipient, address, body, category, flash, options,
               now(), ends_at, options ->> 'cancel_group', parts, 'SCHEDULED'
        from decided d where d.outcome = 'deferred'
    ), into_closed as (
        insert into tocsin.closed (closed_at, job_id, app, client_ref, recipient, sender, category, lane, link, state, reason,
                                   parts, attempt, enqueued_at)
        select now(), d.job_id, app, client_ref, recipient, address, category, lane, d.link, 'blocked', 'NO_ROUTE', parts, 0, now()
        from decided d where d.outcome = 'blocked'
    ), into_events as (
        insert into tocsin.event_log (at, seq, xid, app, type, subject, client_ref, category, reason)
        select now(), b.base + row_number() over (order by d.item) - 1, pg_current_xact_id(), app, 'job.blocked', d.job_id::text,
               client_ref, category, 'NO_ROUTE'
        from (select tocsin.event_seq(count(*)) as base from decided d where d.outcome = 'blocked' having count(*) > 0) b, decided d
        where d.outcome = 'blocked'
    )
    select a.item, case when a.outcome in ('queued', 'deferred', 'blocked') then a.job_id else earlier end,
           case when a.outcome <> 'seen' then a.outcome when earlier is not null then 'duplicate'
                when refused is not null then 'invalid' else 'conflict' end,
           case when a.outcome = 'blocked' then 'NO_ROUTE' when earlier is not null then null
                when a.outcome = 'seen' and refused is null then 'idempotency_key: was used with another request'
                else coalesce(malformed, refused) end
    from (select d.item, d.job_id, d.outcome, malformed, refused,
                 case when d.outcome = 'seen' then tocsin.same_request(d.key, d.request_hash) end as earlier,
                 -- equal notifications of a transaction are sent once
                 case when d.outcome = 'queued' and lane = 0 then pg_notify('tocsin_ready', d.link) end as notified
          from decided d offset 0) a;
end $$;

-- ---------------------------------------------------------------- repeated texts

-- How many texts a call saw refused as repeated, until a daemon takes the row and counts them for tocsin_repeated_texts_total.
create table tocsin.repeated_texts (
    id        bigint generated always as identity primary key,
    category  text not null,
    texts     int not null
);

-- As before, and it says how many it refused.
create or replace function tocsin.refuse_repeated(admitted tocsin.admission[]) returns setof tocsin.admission
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
    ), into_repeated as (
        insert into tocsin.repeated_texts (category, texts) select g.category, count(*) from gone g group by g.category
    )
    select a.item, a.job_id, case when g.id is null then a.outcome else 'blocked' end, case when g.id is null then a.reason else 'DUP_CONTENT' end
    from unnest(admitted) a left join gone g on g.id = a.job_id and a.outcome in ('queued', 'deferred');
end $$;

revoke execute on all functions in schema tocsin from public;
