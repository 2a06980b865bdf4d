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
    select seq, type, subject, data, at from tocsin.event_log
    where xid < pg_snapshot_xmin(pg_current_snapshot())
      and (app = session_user or (select tocsin.sees_all()));

create view tocsin.inbox as
    select inbound_id, link, source, destination, text, class, received_at from tocsin.inbound;

-- ---------------------------------------------------------------- part count

-- Segments that a text needs on a link, equal to gateway/segment.py (a test compares the two).
-- GSM-7 counts septets, an extension character is two; else UCS-2 code units, a character beyond
-- the BMP is two. A pair is never split, so a segment may end one unit early.
create function tocsin.count_parts(body text, alphabet text, concatenation text) returns int
language plpgsql immutable strict parallel safe set search_path = pg_catalog, pg_temp as $$
declare
    basic constant text := E'@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !"#¤%&''()*+,-./0123456789:;<=>?'
        || '¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà';
    extension constant text := E'\f^{}\\[~]|€';
    rest   text;
    units  int;
    single int;
    each   int;
    pairs  boolean;
    count  int := 1;
    used   int := 0;
    cost   int;
    c      text;
begin
    if concatenation = 'payload' then
        return 1;
    end if;
    if alphabet = 'gsm7' then
        -- translate costs 70 us a text; the pattern, which most texts pass, 0.4
        rest := case when body ~ E'^[-A-Za-z0-9 \n\r!"#$%&''()*+,./:;<=>?@_]*$' then '' else translate(body, basic, '') end;
        if rest = '' or translate(rest, extension, '') = '' then
            units := length(body) + length(rest);
            pairs := rest <> '';
            single := 160;
            each := case concatenation when 'udh8' then 153 else 152 end;
        end if;
    elsif alphabet = 'latin1' and not body ~ '[^\u0001-\u00ff]' then
        units := length(body);
        pairs := false;
        single := 140;
        each := case concatenation when 'udh8' then 134 else 133 end;
    elsif alphabet = 'ascii' and octet_length(body) = length(body) then
        units := length(body);
        pairs := false;
        single := 160;
        each := case concatenation when 'udh8' then 153 else 152 end;
    end if;
    if units is null then
        units := length(body) + length(regexp_replace(body, '[\u0001-\uffff]', '', 'g'));
        pairs := units > length(body);
        single := 70;
        each := case concatenation when 'udh8' then 67 else 66 end;
        rest := null;
    end if;
    if units <= single then
        return 1;
    end if;
    if not pairs then
        return (units + each - 1) / each;
    end if;
    foreach c in array string_to_array(body, null) loop
        cost := case when rest is null then (ascii(c) > 65535)::int + 1 else (position(c in extension) > 0)::int + 1 end;
        if used + cost > each then
            count := count + 1;
            used := 0;
        end if;
        used := used + cost;
    end loop;
    return count;
end $$;

-- ---------------------------------------------------------------- enqueue

create function tocsin.to_instant(value text) returns timestamptz
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
    return value::timestamptz;
exception when data_exception then
    return null;
end $$;

create type tocsin.admission as (
    item int, job_id bigint, outcome text, reason text, recipient text, body text, category text, lane smallint,
    link text, sender text, flash boolean, options jsonb, due_at timestamptz, expires_at timestamptz,
    cancel_group text, client_ref text, key text, parts smallint, request_hash bytea
);

-- The one place where a request becomes a row. Set-based: `jobs` is an array of objects with enqueue's
-- argument names. A bad item is an `invalid` outcome whose reason starts with the field's name.
-- Locks: none but the rows it inserts; a key waits for another transaction that holds it (lock_timeout).
-- The transaction's xid is assigned before the first id is drawn, so that a claim which saw a later id
-- knows from its snapshot whether this transaction can still bring an earlier one.
create function tocsin.admit(jobs jsonb) returns setof tocsin.admission
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    fields constant text[] := array['recipient', 'body', 'category', 'sender', 'idempotency_key', 'not_before',
                                    'expires_at', 'flash', 'client_ref', 'options'];
    known  constant text[] := array['cancel_group', 'tz', 'priority_flag', 'expect'];
    admitted tocsin.admission[];
    blocked  int;
    urgent   text;
begin
    perform pg_current_xact_id();
    with asked as materialized (
        select n::int as item, e,
               e ->> 'recipient' as recipient, e ->> 'body' as body, coalesce(e ->> 'category', 'transactional') as category,
               e ->> 'sender' as sender, e ->> 'idempotency_key' as key, e ->> 'not_before' as not_before,
               e ->> 'expires_at' as expires_at, coalesce(e ->> 'flash', 'false') as flash, e ->> 'client_ref' as client_ref,
               nullif(nullif(e -> 'options', '{}'::jsonb), 'null'::jsonb) as options
        from jsonb_array_elements(jobs) with ordinality a (e, n)
    ), resolved as materialized (
        select a.item, a.e, a.body, a.category, a.flash, a.client_ref, a.options, a.key,
               a.sender as asked_sender, a.not_before as asked_not_before, a.expires_at as asked_expires_at,
               case when a.recipient ~ '^[+]?[1-9][0-9]{6,14}$' then ltrim(a.recipient, '+') end as recipient,
               c.lane, c.flash as may_flash, c.max_parts, c.time_to_live, s.address as sender, s.links as sender_links,
               case when a.not_before is null then now() else tocsin.to_instant(a.not_before) end as not_before,
               case when a.expires_at is not null then tocsin.to_instant(a.expires_at) end as expires_at
        from asked a
        left join tocsin.category c on c.name = a.category
        left join lateral (select t.address, t.links from tocsin.sender t
                           where a.category = any (t.categories) and t.address = coalesce(a.sender, t.address)
                           order by t.position limit 1) s on true
    ), routed as (
        select r.*, l.name as link, l.alphabet, l.concatenation,
               coalesce(r.expires_at, greatest(r.not_before, now()) + r.time_to_live) as ends_at
        from resolved r
        left join lateral (select t.links from tocsin.route t where starts_with(r.recipient, t.prefix)
                           order by length(t.prefix) desc limit 1) t on true
        left join lateral (select l.name, l.alphabet, l.concatenation
                           from unnest(t.links) with ordinality u (name, n)
                           join tocsin.link l on l.name = u.name and l.enabled
                           where r.sender_links is null or l.name = any (r.sender_links)
                           order by u.n limit 1) l on true
    ), counted as materialized (
        select r.*, case when r.body <> '' then tocsin.count_parts(r.body, coalesce(r.alphabet, 'gsm7'), coalesce(r.concatenation, 'udh8')) end as parts
        from routed r
    ), judged as materialized (
        select c.*,
               case
                   when jsonb_typeof(c.e) <> 'object' then 'item: not an object'
                   when c.e - fields <> '{}'::jsonb
                       then 'item: unknown field ' || quote_ident(left((select k from jsonb_object_keys(c.e - fields) k limit 1), 40))
                   when c.e ->> 'recipient' is null then 'recipient: missing'
                   when c.recipient is null then 'recipient: not an E.164 number'
                   when c.body is null then 'body: missing'
                   when c.body = '' then 'body: empty'
                   when c.lane is null then 'category: unknown'
                   when c.sender is null and c.asked_sender is null then 'sender: none allows this category'
                   when c.sender is null then 'sender: unknown, or not for this category'
                   when c.flash not in ('true', 'false') then 'flash: neither true nor false'
                   when c.flash = 'true' and c.may_flash <> 'yes' then 'flash: not for this category'
                   when c.not_before is null then 'not_before: not an instant'
                   when c.asked_expires_at is not null and c.expires_at is null then 'expires_at: not an instant'
                   when c.ends_at <= now() then 'expires_at: in the past'
                   when c.ends_at <= c.not_before then 'expires_at: not after not_before'
                   when not isfinite(c.ends_at) or not isfinite(c.not_before) then 'expires_at: not a finite instant'
                   when length(c.key) not between 1 and 200 then 'idempotency_key: 1 to 200 characters'
                   when length(c.client_ref) > 200 then 'client_ref: at most 200 characters'
                   when c.options is not null then
                       case
                           when jsonb_typeof(c.options) <> 'object' then 'options: not an object'
                           when c.options - known <> '{}'::jsonb
                               then 'options: unknown option ' || quote_ident(left((select k from jsonb_object_keys(c.options - known) k limit 1), 40))
                           when c.options ? 'priority_flag' and c.options ->> 'priority_flag' not in ('0', '1', '2', '3')
                               then 'options: priority_flag is 0 to 3'
                           when c.options ? 'cancel_group'
                                and (jsonb_typeof(c.options -> 'cancel_group') <> 'string'
                                     or length(c.options ->> 'cancel_group') not between 1 and 200)
                               then 'options: cancel_group is a text of 1 to 200 characters'
                           when c.options ? 'tz' and jsonb_typeof(c.options -> 'tz') <> 'string' then 'options: tz is a text'
                           when c.parts > c.max_parts then 'body: more parts than the category allows'
                       end
                   when c.parts > c.max_parts then 'body: more parts than the category allows'
               end as problem
        from counted c
    )
    select array_agg(row(
               j.item,
               case when j.problem is null then nextval('tocsin.job_id') end,
               case when j.problem is not null then 'invalid' when j.link is null then 'blocked'
                    when j.not_before > now() then 'deferred' else 'queued' end,
               case when j.problem is not null then j.problem when j.link is null then 'NO_ROUTE' end,
               j.recipient, j.body, j.category, j.lane, j.link, j.sender, j.flash = 'true', j.options,
               greatest(j.not_before, now()), j.ends_at, j.options ->> 'cancel_group', j.client_ref, j.key, j.parts,
               case when j.key is not null then
                   sha256(convert_to(jsonb_build_array(j.recipient, j.body, j.category, j.asked_sender, j.asked_not_before,
                                                       j.asked_expires_at, j.flash, j.options)::text, 'UTF8')) end
           )::tocsin.admission)
    into admitted from (select * from judged order by item) j;   -- ids follow the order of the items

    if exists (select from unnest(admitted) a where a.key is not null and a.outcome <> 'invalid') then
        with fresh as (
            insert into tocsin.idempotency (app, key, request_hash, job_id, at)
            select distinct on (a.key) session_user, a.key, a.request_hash, a.job_id, now()
            from unnest(admitted) a where a.key is not null and a.outcome <> 'invalid'
            order by a.key, a.item
            on conflict do nothing
            returning job_id
        )
        select array_agg(case when a.key is null or a.outcome = 'invalid' or f.job_id is not null then a
                              else row(a.item, null, 'known', null, a.recipient, a.body, a.category, a.lane, a.link, a.sender,
                                       a.flash, a.options, a.due_at, a.expires_at, a.cancel_group, a.client_ref, a.key,
                                       a.parts, a.request_hash)::tocsin.admission end order by a.item)
        into admitted from unnest(admitted) a left join fresh f on f.job_id = a.job_id;
        -- a new statement, hence a new snapshot: it sees the keys that another transaction has committed meanwhile
        select array_agg(case when a.outcome <> 'known' then a
                              else row(a.item, case when i.request_hash = a.request_hash then i.job_id end,
                                       case when i.request_hash = a.request_hash then 'duplicate' else 'conflict' end,
                                       case when i.request_hash = a.request_hash then null else 'idempotency_key: was used with another request' end,
                                       a.recipient, a.body, a.category, a.lane, a.link, a.sender, a.flash, a.options, a.due_at,
                                       a.expires_at, a.cancel_group, a.client_ref, a.key, a.parts, a.request_hash)::tocsin.admission end
                         order by a.item)
        into admitted
        from unnest(admitted) a left join tocsin.idempotency i on a.outcome = 'known' and i.app = session_user and i.key = a.key;
    end if;

    insert into tocsin.ready (link, lane, id, app, client_ref, recipient, sender, body, category, flash, options,
                              enqueued_at, due_at, expires_at, cancel_group, parts)
    select a.link, a.lane, a.job_id, session_user, a.client_ref, a.recipient, a.sender, a.body, a.category, a.flash, a.options,
           now(), a.due_at, a.expires_at, a.cancel_group, a.parts
    from unnest(admitted) a where a.outcome = 'queued';

    if exists (select from unnest(admitted) a where a.outcome in ('deferred', 'blocked')) then
        insert into tocsin.deferred (due_at, id, link, lane, app, client_ref, recipient, sender, body, category, flash, options,
                                     enqueued_at, expires_at, cancel_group, parts, reason)
        select a.due_at, a.job_id, a.link, a.lane, session_user, a.client_ref, a.recipient, a.sender, a.body, a.category, a.flash,
               a.options, now(), a.expires_at, a.cancel_group, a.parts, 'SCHEDULED'
        from unnest(admitted) a where a.outcome = 'deferred';

        insert into tocsin.closed (closed_at, job_id, app, client_ref, recipient, sender, category, lane, link, state, reason,
                                   parts, attempt, enqueued_at)
        select now(), a.job_id, session_user, a.client_ref, a.recipient, a.sender, a.category, a.lane, a.link, 'blocked', a.reason,
               a.parts, 0, now()
        from unnest(admitted) a where a.outcome = 'blocked';
        get diagnostics blocked = row_count;

        if blocked > 0 then
            insert into tocsin.event_log (at, seq, xid, app, type, subject, data)
            select now(), b.base + row_number() over (order by a.item) - 1, pg_current_xact_id(), session_user, 'job.blocked',
                   a.job_id::text, jsonb_build_object('client_ref', a.client_ref, 'category', a.category, 'reason', a.reason)
            from (select tocsin.event_seq(blocked) as base) b, unnest(admitted) a where a.outcome = 'blocked';
        end if;
    end if;

    for urgent in select distinct a.link from unnest(admitted) a where a.outcome = 'queued' and a.lane = 0 loop
        perform pg_notify('tocsin_ready', urgent);
    end loop;
    return query select * from unnest(admitted);
end $$;

create function tocsin.enqueue(recipient text, body text, category text default 'transactional', sender text default null,
                               idempotency_key text default null, not_before timestamptz default null,
                               expires_at timestamptz default null, flash boolean default false,
                               client_ref text default null, options jsonb default '{}')
    returns table (job_id bigint, outcome text, reason text)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp set lock_timeout = '2s' as $$
declare
    a tocsin.admission;
begin
    select * into a from tocsin.admit(jsonb_build_array(jsonb_strip_nulls(jsonb_build_object(
        'recipient', recipient, 'body', body, 'category', category, 'sender', sender, 'idempotency_key', idempotency_key,
        'not_before', not_before, 'expires_at', expires_at, 'flash', flash, 'client_ref', client_ref))
        || case when options is null then '{}'::jsonb else jsonb_build_object('options', options) end));
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
set search_path = pg_catalog, pg_temp set lock_timeout = '2s' as $$
begin
    if jobs is null or jsonb_typeof(jobs) <> 'array' then
        raise exception 'jobs: not an array' using errcode = 'TC400', column = 'jobs';
    elsif jsonb_array_length(jobs) > 10000 then
        raise exception 'jobs: % items, at most 10000', jsonb_array_length(jobs) using errcode = 'TC400', column = 'jobs';
    end if;
    return query select a.item, a.job_id, a.outcome, a.reason from tocsin.admit(jobs) a;
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
set search_path = pg_catalog, pg_temp set lock_timeout = '2s' as $$
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
    insert into tocsin.event_log (at, seq, xid, app, type, subject, data)
    values (now(), tocsin.event_seq(1), pg_current_xact_id(), app, type, job_id::text,
            jsonb_build_object('client_ref', client_ref, 'category', category, 'reason', reason))
$$;

-- ---------------------------------------------------------------- job_status

create function tocsin.state_name(rank int) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp as $$
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
                       min(s.submitted_at) as submitted_at, max(s.receipt_at) as receipt_at, max(s.receipt_error) as reason,
                       max(coalesce(s.receipt_state, 10)) as rank
                from tocsin.sent s where s.app = session_user or (select tocsin.sees_all())
                group by s.job_id, s.part) p
          group by p.job_id) j
    where not exists (select from tocsin.closed c where c.job_id = j.job_id)
      and not exists (select from tocsin.deferred d where d.id = j.job_id)
      and not exists (select from tocsin.uncertain u where u.id = j.job_id)
      and not exists (select from tocsin.ready r where r.link = j.link and r.lane = j.lane and r.id = j.job_id);

-- The same for one job, by primary keys and indexes alone.
create function tocsin.job_status(job_id bigint) returns setof tocsin.job_status
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
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
                     min(s.submitted_at) as submitted_at, max(s.receipt_at) as receipt_at, max(s.receipt_error) as reason,
                     max(coalesce(s.receipt_state, 10)) as rank
              from tocsin.sent s where s.job_id = wanted and (s.app = session_user or everyone)
              group by s.part) p
        having count(*) > 0;
end $$;

revoke execute on all functions in schema tocsin from public;
