-- What a call of enqueue costs, less an eighth: one of a single job has 0.4 ms of processor, nearly all of it for the call and not for the job.
--
-- Jobs that no link may carry are rare, and each call made ready to write them down in case: now a function does that for each of them.
-- The routes are read once a call, and what becomes of a job is decided once.

-- Closes a job that no link may carry, and tells its app.
create function tocsin.note_unroutable(job_id bigint, app text, client_ref text, recipient text, sender text, category text, lane smallint, parts int)
returns void language plpgsql volatile as $$
begin
    insert into tocsin.closed (closed_at, job_id, app, client_ref, recipient, sender, category, lane, link, state, reason, parts, attempt, enqueued_at)
    values (now(), job_id, app, client_ref, recipient, sender, category, lane, null, 'blocked', 'NO_ROUTE', parts, 0, now());
    insert into tocsin.event_log (at, seq, xid, app, type, subject, client_ref, category, reason)
    values (now(), tocsin.event_seq(1), pg_current_xact_id(), app, 'job.blocked', job_id::text, client_ref, category, 'NO_ROUTE');
end $$;

-- As before, but for the above.
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
               coalesce(left(recipient, digits), '') as lead, by_category,
               a.recipient, a.body, a.key, a.not_before, a.expires_at, a.client_ref, a.options,
               coalesce(e -> 'flash' = 'true', false) as flash,
               nextval('tocsin.job_id') as job_id,       -- here, where the items still stand in order
               tocsin.is_basic(a.body) as basic,
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
             (select max(case when r.weights = '{}' then length(r.prefix) else 15 end) as digits,
                     coalesce(bool_or(r.category <> ''), false) as by_category from tocsin.route r) r
    ), wanted as materialized (                          -- few differ within a batch
        select a.category, a.sender, a.lead, c.lane, c.flash as may_flash, c.max_parts, c.time_to_live, c.substitute, s.address,
               case when a.by_category then a.category else '' end as way
        from (select distinct category, sender, lead, by_category from asked) a
        left join tocsin.category c on c.name = a.category
        left join lateral (select t.address from tocsin.sender t
                           where a.category = any (t.categories) and a.sender in (t.address, '')
                           order by t.position, t.address limit 1) s on true
    ), offer as materialized (                           -- what the configuration says
        select w.category, w.sender, w.lead, w.lane, w.may_flash, w.max_parts, w.time_to_live, w.address,
               l.name as link, coalesce(l.alphabet, 'gsm7') as alphabet, coalesce(l.concatenation, 'udh8') as concatenation,
               l.national_tables, coalesce(l.substitute and w.substitute, false) as substitute
        from wanted w
        left join (select d.lead, d.address, d.way, (tocsin.links_of(d.lead, d.address, d.way))[1] as link
                   from (select distinct lead, address, way from wanted) d offset 0) f
          on (f.lead, f.address, f.way) = (w.lead, w.address, w.way)
        left join tocsin.link l on l.name = f.link
    ), weighed as (
        select a.*, o.lane, o.may_flash, o.max_parts, o.address, o.link,
               coalesce(a.expires_at, greatest(a.not_before, now()) + o.time_to_live) as ends_at,
               case when a.malformed is null then
                   tocsin.count_parts(a.body, a.basic, o.alphabet, o.concatenation, o.national_tables, o.substitute) end as parts
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
                   when w.basic then null
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
    ), decided as materialized (
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
                 case when d.outcome = 'queued' and lane = 0 then pg_notify('tocsin_ready', d.link)
                      when d.outcome = 'blocked'
                      then tocsin.note_unroutable(d.job_id, app, d.client_ref, d.recipient, d.address, d.category, d.lane, d.parts) end as told
          from decided d offset 0) a;
end $$;

revoke execute on all functions in schema tocsin from public;
