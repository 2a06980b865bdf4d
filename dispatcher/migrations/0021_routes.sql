-- Routes by category and by weight: marketing by the cheap carrier, or a third of the numbers by the second one.

alter table tocsin.route
    add column category text not null default '',       -- '' for every category that has no route of its own at this prefix
    add column weights  int[] not null default '{}',     -- as many as links: shares of the numbers; empty: the first link takes all
    drop constraint route_pkey,
    add primary key (prefix, category),
    add check (weights = '{}' or cardinality(weights) = cardinality(links) and 0 <= all (weights) and 0 < any (weights));

drop function tocsin.links_of(text, text);
drop function tocsin.next_able(text, text, text, text[]);
drop function tocsin.next_link(text, text, text);

-- Links that may carry a message, in order of preference: those of the longest matching prefix, there of the category's own route before that
-- of all, of these the links that are enabled and that the sender is provisioned on. Where the route has weights, the recipient's number
-- chooses the first of them, always the same one while the links stay: what goes to one handset stays in order. The others follow in the
-- route's order. Empty: none. Called by admit, which gives the recipient's first digits alone where no route has weights, and by the daemon.
create function tocsin.links_of(recipient text, from_sender text, of_category text) returns text[]
language plpgsql stable set search_path = pg_catalog, pg_temp as $$    -- plpgsql: it keeps the plan, which costs more than the run
declare
    way   tocsin.route;
    its   text[];
begin
    select * into way from tocsin.route t
    where starts_with(links_of.recipient, t.prefix) and t.category in (of_category, '')
    order by length(t.prefix) desc, t.category desc limit 1;
    select s.links into its from tocsin.sender s where s.address = from_sender;
    if way.weights = '{}' then
        return coalesce(array_agg(u.name order by u.n), '{}')
        from unnest(way.links) with ordinality u (name, n) join tocsin.link l on l.name = u.name and l.enabled
        where its is null or l.name = any (its);
    end if;
    return coalesce(array_agg(w.name order by w.upto > w.place and w.upto - w.weight <= w.place desc, w.n), '{}')
    from (select u.name, u.n, u.weight, sum(u.weight) over (order by u.n) as upto,
                 (hashtextextended(links_of.recipient, 0) & 9223372036854775807) % nullif(sum(u.weight) over (), 0) as place
          from unnest(way.links, way.weights) with ordinality u (name, weight, n) join tocsin.link l on l.name = u.name and l.enabled
          where its is null or l.name = any (its)) w;
end $$;

-- The next link after `after_link` in that order, of those in `able`; past the end it begins anew. Null: none.
create function tocsin.next_able(recipient text, from_sender text, of_category text, after_link text, able text[]) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select u.name
    from (select tocsin.links_of(recipient, from_sender, of_category) as links offset 0) l, unnest(l.links) with ordinality u (name, n)
    where u.name = any (able) and u.name <> after_link
    order by u.n <= coalesce(array_position(l.links, after_link), 0), u.n limit 1
$$;

-- The link after `after_link` in that order, counted round, that can send now: enabled, not paused, owned and bound. Null when no other one
-- can. A link that the route no longer names comes before all of it.
create function tocsin.next_link(recipient text, sender text, of_category text, after_link text) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select tocsin.next_able(recipient, sender, of_category, after_link,
                            array(select l.name from tocsin.link l
                                  where l.enabled and not l.paused and l.owner is not null and l.state = 'bound'))
$$;

-- As before, but for what next_link is told.
create or replace function tocsin.send_again(u tocsin.uncertain, why text) returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    accepted int;
    to_link  text;
    of_parts smallint;
begin
    for accepted in select distinct s.part from tocsin.sent s
                    where s.job_id = u.id and s.parts = u.parts and s.message_id is not null
                      and s.submitted_at > u.enqueued_at - interval '1 minute' loop
        u.done := set_bit(coalesce(u.done, repeat('0', u.parts)::varbit), accepted - 1, 1);
    end loop;
    if position('0' in u.done::text) = 0 then
        perform tocsin.keep_text(u.id, u.category, u.body);
        perform tocsin.tell(u.app, 'job.submitted', u.id, u.client_ref, u.category, null);
        return null;
    end if;
    insert into tocsin.resent (id, link, recipient, sender, written_at) values (u.id, u.link, u.recipient, u.sender, u.written_at);
    u.resends := u.resends + 1;
    if u.done is null then
        to_link := tocsin.next_link(u.recipient, u.sender, u.category, u.link);
        of_parts := tocsin.parts_on(u.body, u.category, to_link);
        if of_parts is not null then
            u.link := to_link;
            u.parts := of_parts;
        end if;
    end if;
    perform tocsin.defer(u, why);
    insert into tocsin.event_log (at, seq, xid, app, type, subject, client_ref, category, reason, detail)
    values (now(), tocsin.event_seq(1), pg_current_xact_id(), u.app, 'job.resent', u.id::text, u.client_ref, u.category, why,
            jsonb_build_object('resends', u.resends));
    return u.link;
end $$;

-- As before, but for what links_of is told.
create or replace function tocsin.check(recipient text, category text default 'transactional', sender text default null)
returns table (step text, verdict text, reason text, detail jsonb)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
    number constant text := ltrim(recipient, '+');
    kind   tocsin.category;
    own    tocsin.sender;
    link   text;
    held   record;
    given  tocsin.consent;
begin
    if tocsin.is_number(number) is not true then
        return query select 'recipient', 'refused', 'TC400', null::jsonb;
        return;
    end if;
    select * into kind from tocsin.category c where c.name = "check".category;
    if kind.name is null then
        return query select 'category', 'refused', 'TC400', null::jsonb;
        return;
    end if;
    select * into own from tocsin.sender s
    where kind.name = any (s.categories) and coalesce("check".sender, '') in (s.address, '') order by s.position, s.address limit 1;
    if own.address is null then
        return query select 'sender', 'refused', 'TC400', null::jsonb;
        return;
    end if;
    link := (tocsin.links_of(number, own.address, kind.name))[1];
    return query select 'route', case when link is null then 'blocked' else 'passes' end, case when link is null then 'NO_ROUTE' end,
                        jsonb_build_object('sender', own.address, 'link', link);
    select s.reason, s.scope, s.value, s.at into held from tocsin.suppression s
    where s.recipient = number
      and (s.scope = 'everything' or s.scope = 'sender' and s.value = ltrim(own.address, '+') or s.scope = 'category' and s.value = kind.name)
      and (kind.stop = 'applies' or tocsin.binds_all(s.reason))
    order by tocsin.binds_all(s.reason) desc, s.reason limit 1;
    return query select 'suppression', case when held.reason is null then 'passes' else 'blocked' end, 'SUPPRESSED_' || held.reason,
                        case when held.reason is not null then jsonb_build_object('scope', held.scope, 'since', held.at) end;
    select * into given from tocsin.consent c where (c.recipient, c.category) = (number, kind.name);
    return query select 'consent', case when not kind.consent or coalesce(given.is_granted, false) then 'passes' else 'blocked' end,
                        case when kind.consent and given.is_granted is null then 'CONSENT_MISSING'
                             when kind.consent and not given.is_granted then 'CONSENT_REVOKED' end,
                        jsonb_build_object('asked_for', kind.consent, 'since', given.captured_at);
    return query select 'pause', case when kind.paused or p.paused then 'waits' else 'passes' end,
                        case when kind.paused or p.paused then 'PAUSED' end, null::jsonb
                 from (select coalesce((select l.paused from tocsin.link l where l.name = link), false) as paused) p;
end $$;

-- As before, but for the link, which links_of chooses.
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

revoke execute on all functions in schema tocsin from public;
