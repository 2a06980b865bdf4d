-- What upstream apps call: enqueue, enqueue_many, cancel, job_status, and the views inbox and event.
-- Every function is SECURITY DEFINER with a fixed search_path and revoked from PUBLIC; session_user is the app.

-- ---------------------------------------------------------------- who sees what

create function tocsin.sees_all() returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select exists (select from pg_roles r
                   where (r.rolname in ('tocsin_daemon', 'tocsin_auditor', 'tocsin_owner')
                          or r.oid = (select nspowner from pg_namespace where nspname = 'tocsin'))
                     and pg_has_role(session_user, r.oid, 'member'))
$$;

-- ---------------------------------------------------------------- events

-- Reserves `n` numbers for events of this transaction and returns the first. The seq of an event is
-- (xid << 20) + number, so seq follows the order of transactions; 2^20 events a transaction.
create function tocsin.event_seq(n bigint) returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    xid   text := pg_current_xact_id()::text;
    state text := current_setting('tocsin.event_number', true);
    used  bigint := 0;
begin
    if state is not null and split_part(state, ':', 1) = xid then
        used := split_part(state, ':', 2)::bigint;
    end if;
    if used + n > 1048576 then
        raise exception 'more than 1,048,576 events in one transaction' using errcode = '54000';
    end if;
    perform set_config('tocsin.event_number', xid || ':' || (used + n), true);
    return (xid::bigint << 20) + used;
end $$;

create view tocsin.event with (security_barrier) as
    select seq, type, subject,
           jsonb_strip_nulls(jsonb_build_object('client_ref', client_ref, 'category', category, 'reason', reason))
               || coalesce(detail, '{}') as data, at
    from tocsin.event_log
    where xid < pg_snapshot_xmin(pg_current_snapshot())
      and (app = session_user or (select tocsin.sees_all()));

create view tocsin.inbox as
    select inbound_id, link, source, destination, text, class, received_at from tocsin.inbound;

-- ---------------------------------------------------------------- part count

-- Segments that a text needs on a link, equal to gateway/segment.py (a test compares the two).
-- GSM-7 counts septets, an extension character is two; else UCS-2 code units, a character beyond
-- the BMP is two. A pair is never split, so a segment may end one unit early. More than 255 is an
-- answer too: no link can send that, as message_payload neither.
-- These functions have no SET clause: it would keep the first from being inlined. Every name is of pg_catalog.
create function tocsin.is_plain(body text) returns boolean
language sql immutable parallel safe as $$
    select body !~ E'[^-A-Za-z0-9 \n\r!"#$%&''()*+,./:;<=>?@_]'
$$;

create function tocsin.count_any_parts(body text, alphabet text, concatenation text) returns int
language plpgsql immutable strict parallel safe as $$
declare
    wide   constant boolean := concatenation in ('udh16', 'sar');    -- room for a 16-bit reference
    units  int;                                          -- septets, octets or UCS-2 code units
    single int := 160;
    each   int := case when wide then 152 else 153 end;
    pair   text;                                         -- pattern of the characters that take two units
    lone   text;                                         -- pattern of the others
    shape  text;
    upto   int := 0;
    parts  int := 0;
begin
    if alphabet <> 'latin1' and tocsin.is_plain(body) then
        units := length(body);
    elsif alphabet = 'gsm7' and body !~ (E'[^-A-Za-z0-9 \n\r!"#$%&''()*+,./:;<=>?@_£¥èéùìòÇØøÅåΔΦΓΛΩΠΨΣΘΞÆæßÉ¤¡ÄÖÑÜ§¿äöñüà'
                                         '\f^{}\\\\~|€[\\]]') then
        pair := E'[\f^{}\\\\~|€[\\]]';
        lone := E'[^\f^{}\\\\~|€[\\]]';
    elsif alphabet = 'latin1' and body !~ '[^\u0001-\u00ff]' then
        units := length(body);
        single := 140;
        each := case when wide then 133 else 134 end;
    else
        single := 70;
        each := case when wide then 66 else 67 end;
        pair := '[^\u0001-\uffff]';
        lone := '[\u0001-\uffff]';
    end if;
    if pair is not null then
        units := length(body) + regexp_count(body, pair);
    end if;
    if units <= single then
        return 1;
    end if;
    if pair is null or units = length(body) or units > 256 * each then
        parts := (units + each - 1) / each;
    else
        shape := regexp_replace(regexp_replace(body, lone, 'x', 'g'), '[^x]', 'hl', 'g');    -- a letter a unit
        while upto < units loop
            upto := upto + each;
            if upto < units and substr(shape, upto, 1) = 'h' then    -- the first half of a pair goes with the second
                upto := upto - 1;
            end if;
            parts := parts + 1;
        end loop;
    end if;
    return case when concatenation = 'payload' and parts <= 255 then 1 else parts end;
end $$;

create function tocsin.count_parts(body text, alphabet text, concatenation text) returns int
language sql immutable parallel safe as $$
    -- most texts are short, of ASCII characters that GSM-7 has too at one septet each
    select case when octet_length(body) <= case alphabet when 'latin1' then 140 else 160 end and tocsin.is_plain(body) then 1
                else tocsin.count_any_parts(body, alphabet, concatenation) end
$$;

-- ---------------------------------------------------------------- enqueue

-- The instant that a text names; null when it names none, or one that is near no client's years (1 to 9999 in its zone).
create function tocsin.to_instant(value text) returns timestamptz
language plpgsql stable strict as $$
declare
    instant timestamptz;
begin
    instant := value::timestamptz;
    return case when instant between '0002-01-01 00:00:00+00' and '9999-01-01 00:00:00+00' then instant end;
exception when data_exception then
    return null;
end $$;

-- One of an object's keys, fit for an error text.
create function tocsin.some_key(object jsonb) returns text
language sql immutable strict as $$ select quote_ident(left(min(k), 40)) from jsonb_object_keys(object) k $$;

-- What is wrong with the options of a request; null: nothing.
create function tocsin.wrong_option(options jsonb) returns text
language plpgsql immutable strict as $$
declare
    others constant jsonb := case jsonb_typeof(options) when 'object' then options - array['cancel_group', 'tz', 'priority_flag', 'expect'] end;
begin
    return case
        when others is null then 'options: not an object'
        when others <> '{}' then 'options: unknown option ' || tocsin.some_key(others)
        when jsonb_typeof(options -> 'priority_flag') <> 'number' or options ->> 'priority_flag' not in ('0', '1', '2', '3')
            then 'options: priority_flag is 0 to 3'
        when jsonb_typeof(options -> 'cancel_group') <> 'string' or length(options ->> 'cancel_group') not between 1 and 200
            then 'options: cancel_group is a text of 1 to 200 characters'
        when jsonb_typeof(options -> 'tz') <> 'string' then 'options: tz is a text'
    end;
end $$;

-- The job of an earlier request with this key, when it was the same request. Volatile: a call has a snapshot of its own,
-- which sees the keys that another transaction has committed meanwhile.
create function tocsin.same_request(of_key text, hash bytea) returns bigint
language plpgsql volatile as $$
begin
    return (select i.job_id from tocsin.idempotency i where i.app = session_user and i.key = of_key and i.request_hash = hash);
end $$;

create type tocsin.admission as (item int, job_id bigint, outcome text, reason text);

-- The one place where a request becomes a row. Set-based: `jobs` is an array of objects with enqueue's
-- argument names. A bad item is an `invalid` outcome whose reason starts with the field's name; a null
-- member counts as not given, and nothing is turned into a text that was none.
-- Locks: none but the rows it inserts; a key waits for another transaction that holds it (lock_timeout).
-- The transaction's xid is assigned before the first id is drawn, so that a claim which saw a later id
-- knows from its snapshot whether this transaction can still bring an earlier one.
-- Settings come with the callers, both of which pin the same ones.
create function tocsin.admit(jobs jsonb) returns setof tocsin.admission
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
               coalesce(left(recipient, (select max(length(r.prefix)) from tocsin.route r)), '') as lead,
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
              offset 0) a                                -- offset 0, here and below: read once, use twice
    ), offer as materialized (                           -- what the configuration says; few differ within a batch
        select a.category, a.sender, a.lead, c.lane, c.flash as may_flash, c.max_parts, c.time_to_live, s.address,
               l.name as link, coalesce(l.alphabet, 'gsm7') as alphabet, coalesce(l.concatenation, 'udh8') as concatenation
        from (select distinct category, sender, lead from asked) a
        left join tocsin.category c on c.name = a.category
        left join lateral (select t.address, t.links from tocsin.sender t
                           where a.category = any (t.categories) and a.sender in (t.address, '')
                           order by t.position, t.address limit 1) s on true
        left join lateral (select t.links from tocsin.route t where starts_with(a.lead, t.prefix)
                           order by length(t.prefix) desc limit 1) t on true
        left join lateral (select l.name, l.alphabet, l.concatenation
                           from unnest(t.links) with ordinality u (name, n)
                           join tocsin.link l on l.name = u.name and l.enabled
                           where s.links is null or l.name = any (s.links)
                           order by u.n limit 1) l on true
    ), weighed as (
        select a.*, o.lane, o.may_flash, o.max_parts, o.address, o.link,
               coalesce(a.expires_at, greatest(a.not_before, now()) + o.time_to_live) as ends_at,
               case when a.malformed is null then tocsin.count_parts(a.body, o.alphabet, o.concatenation) end as parts
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

create function tocsin.enqueue(recipient text, body text, category text default 'transactional', sender text default null,
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
    end if;
    return query select a.job_id, a.outcome, a.reason;
end $$;

create function tocsin.enqueue_many(jobs jsonb)
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
    return query select * from tocsin.admit(jobs);
end $$;

-- ---------------------------------------------------------------- cancel

-- The one shape for every writer of `ready` but the owner: take the row in one statement, then in a new
-- statement look whether a journal names it; if so undo. A claim that was first has committed its
-- journal before it lets go of the row; a claim that comes later skips the locked row.
-- Returns the row, or nothing when it is not there or too late.
-- Locks: the row (for update), until the transaction ends. Index: ready's primary key.
create function tocsin.take_ready(from_link text, from_lane smallint, from_id bigint) returns setof tocsin.ready
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    taken tocsin.ready;
begin
    begin
        delete from tocsin.ready r where r.link = from_link and r.lane = from_lane and r.id = from_id returning * into taken;
        if not found then
            return;
        end if;
        if exists (select from tocsin.claim c where c.link = from_link and c.lane = from_lane and from_id = any (c.ids)) then
            raise exception using errcode = 'TC001';     -- undo the delete alone
        end if;
    exception when sqlstate 'TC001' then
        return;
    end;
    return next taken;
end $$;

create function tocsin.find_ready(wanted bigint) returns setof tocsin.ready
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    place record;
begin
    -- one probe of the primary key a link and lane: the planner reads the whole table for anything cleverer
    for place in select l.name, n::smallint as lane from tocsin.link l, generate_series(0, 5) n loop
        return query select * from tocsin.ready r where r.link = place.name and r.lane = place.lane and r.id = wanted;
        if found then
            return;
        end if;
    end loop;
end $$;

create function tocsin.cancel(job_id bigint) returns text
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp set lock_timeout = '2s'
set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off as $$
declare
    wanted constant bigint := job_id;
    everyone constant boolean := tocsin.sees_all();
    w  tocsin.deferred;
    r  tocsin.ready;
    round int;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'cancel: needs a new snapshot for each statement; call it in a read committed transaction'
            using errcode = 'TC425';
    end if;
    for round in 1 .. 2 loop                             -- once more from the start: a retry flows backwards
        delete from tocsin.deferred d
        where d.id = wanted and (d.app = session_user or everyone) and d.done is null returning * into w;
        if found then
            insert into tocsin.closed (closed_at, job_id, app, client_ref, recipient, sender, category, lane, link, state, reason,
                                       parts, attempt, enqueued_at)
            values (now(), w.id, w.app, w.client_ref, w.recipient, w.sender, w.category, w.lane, w.link, 'cancelled', 'CANCELLED',
                    w.parts, w.attempt, w.enqueued_at);
            perform tocsin.tell(w.app, 'job.cancelled', w.id, w.client_ref, w.category, 'CANCELLED');
            return 'cancelled';
        end if;
        select * into r from tocsin.find_ready(wanted);
        if found and (r.app = session_user or everyone) then
            if r.done is not null then
                return 'too_late';
            end if;
            select * into r from tocsin.take_ready(r.link, r.lane, wanted);
            if found then
                insert into tocsin.closed (closed_at, job_id, app, client_ref, recipient, sender, category, lane, link, state,
                                           reason, parts, attempt, enqueued_at)
                values (now(), r.id, r.app, r.client_ref, r.recipient, r.sender, r.category, r.lane, r.link, 'cancelled',
                        'CANCELLED', r.parts, r.attempt, r.enqueued_at);
                perform tocsin.tell(r.app, 'job.cancelled', r.id, r.client_ref, r.category, 'CANCELLED');
                return 'cancelled';
            end if;
        end if;
    end loop;
    return coalesce((select case c.state when 'cancelled' then 'cancelled' else 'too_late' end from tocsin.closed c
                     where c.job_id = wanted and (c.app = session_user or everyone) limit 1),
                    (select 'too_late' from tocsin.job_status(wanted) limit 1), 'unknown');
end $$;

-- One event of one job.
create function tocsin.tell(app text, type text, job_id bigint, client_ref text, category text, reason text) returns void
language sql volatile set search_path = pg_catalog, pg_temp as $$
    insert into tocsin.event_log (at, seq, xid, app, type, subject, client_ref, category, reason)
    values (now(), tocsin.event_seq(1), pg_current_xact_id(), app, type, job_id::text,
            client_ref, category, reason)
$$;

-- ---------------------------------------------------------------- job_status

-- without `set`, so that it is inlined: it is called once an event
create function tocsin.state_name(rank int) returns text
language sql immutable parallel safe as $$
    select case rank when 40 then 'delivered' when 30 then 'undelivered' when 20 then 'unknown' else 'submitted' end
$$;

-- A job of several parts is the worst of its parts' best attempts; submitted while a part is awaited.
create view tocsin.job_status with (security_barrier) as
    select r.id as job_id, r.client_ref, r.category, r.lane, 'queued' as state, null::text as reason, r.link, r.parts,
           r.attempt as attempts, r.enqueued_at, null::timestamptz as submitted_at, null::timestamptz as final_at
    from tocsin.ready r where r.app = session_user or (select tocsin.sees_all())
    union all
    select d.id, d.client_ref, d.category, d.lane, 'deferred', d.reason, d.link, d.parts, d.attempt, d.enqueued_at, null, null
    from tocsin.deferred d where d.app = session_user or (select tocsin.sees_all())
    union all
    select u.id, u.client_ref, u.category, u.lane, 'uncertain', 'UNANSWERED', u.link, u.parts, u.attempt, u.enqueued_at,
           u.first_wire_at, null
    from tocsin.uncertain u where u.app = session_user or (select tocsin.sees_all())
    union all
    select c.job_id, c.client_ref, c.category, c.lane, c.state, c.reason, c.link, c.parts, c.attempt, c.enqueued_at, null, c.closed_at
    from tocsin.closed c where c.app = session_user or (select tocsin.sees_all())
    union all
    select j.job_id, j.client_ref, j.category, j.lane,
           tocsin.state_name(j.rank), j.reason, j.link, j.parts, j.attempts, j.enqueued_at, j.submitted_at,
           case when j.rank > 10 then j.receipt_at end
    from (select p.job_id, max(p.client_ref) as client_ref, max(p.category) as category, max(p.lane) as lane, max(p.link) as link,
                 max(p.parts) as parts, max(p.attempts) as attempts, max(p.enqueued_at) as enqueued_at,
                 min(p.submitted_at) as submitted_at, max(p.receipt_at) as receipt_at, max(p.reason) as reason,
                 case when count(*) < max(p.parts) then 10 else min(p.rank) end as rank
          from (select s.job_id, s.part, max(s.client_ref) as client_ref, max(s.category) as category, max(s.lane) as lane,
                       max(s.link) as link, max(s.parts) as parts, max(s.attempt) as attempts, max(s.enqueued_at) as enqueued_at,
                       min(s.submitted_at) as submitted_at, max(s.receipt_at) as receipt_at,
                       max(coalesce(s.receipt_error, nullif(s.reason, 'FENCED'))) filter (where s.receipt_state < 40) as reason,
                       max(coalesce(s.receipt_state, 10)) as rank
                from tocsin.sent s where s.app = session_user or (select tocsin.sees_all())
                group by s.job_id, s.part) p
          group by p.job_id) j
    where not exists (select from tocsin.closed c where c.job_id = j.job_id)
      and not exists (select from tocsin.deferred d where d.id = j.job_id)
      and not exists (select from tocsin.uncertain u where u.id = j.job_id)
      -- on any link: the job may have been moved to another one since
      and not exists (select from tocsin.link l join tocsin.ready r on r.link = l.name and r.lane = j.lane and r.id = j.job_id);

-- The same for one job, by primary keys and indexes alone.
create function tocsin.job_status(job_id bigint) returns setof tocsin.job_status
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off as $$
declare
    wanted constant bigint := job_id;
    everyone constant boolean := tocsin.sees_all();
begin
    return query
        select c.job_id, c.client_ref, c.category, c.lane, c.state, c.reason, c.link, c.parts, c.attempt, c.enqueued_at,
               null::timestamptz, c.closed_at
        from tocsin.closed c where c.job_id = wanted and (c.app = session_user or everyone) limit 1;
    if found then return; end if;
    return query
        select d.id, d.client_ref, d.category, d.lane, 'deferred', d.reason, d.link, d.parts, d.attempt, d.enqueued_at,
               null::timestamptz, null::timestamptz
        from tocsin.deferred d where d.id = wanted and (d.app = session_user or everyone) limit 1;
    if found then return; end if;
    return query
        select u.id, u.client_ref, u.category, u.lane, 'uncertain', 'UNANSWERED', u.link, u.parts, u.attempt, u.enqueued_at,
               u.first_wire_at, null::timestamptz
        from tocsin.uncertain u where u.id = wanted and (u.app = session_user or everyone);
    if found then return; end if;
    return query
        select r.id, r.client_ref, r.category, r.lane, 'queued', null::text, r.link, r.parts, r.attempt, r.enqueued_at,
               null::timestamptz, null::timestamptz
        from tocsin.find_ready(wanted) r where r.app = session_user or everyone;
    if found then return; end if;
    return query
        select wanted, max(p.client_ref), max(p.category), max(p.lane),
               tocsin.state_name(case when count(*) < max(p.parts) then 10 else min(p.rank) end), max(p.reason), max(p.link),
               max(p.parts), max(p.attempts), max(p.enqueued_at), min(p.submitted_at),
               case when count(*) = max(p.parts) and min(p.rank) > 10 then max(p.receipt_at) end
        from (select s.part, max(s.client_ref) as client_ref, max(s.category) as category, max(s.lane) as lane, max(s.link) as link,
                     max(s.parts) as parts, max(s.attempt) as attempts, max(s.enqueued_at) as enqueued_at,
                     min(s.submitted_at) as submitted_at, max(s.receipt_at) as receipt_at,
                     max(coalesce(s.receipt_error, nullif(s.reason, 'FENCED'))) filter (where s.receipt_state < 40) as reason,
                     max(coalesce(s.receipt_state, 10)) as rank
              from tocsin.sent s where s.job_id = wanted and (s.app = session_user or everyone)
              group by s.part) p
        having count(*) > 0;
end $$;

revoke execute on all functions in schema tocsin from public;
