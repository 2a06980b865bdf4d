-- National language tables and the replacement of typographic characters, in what enqueue counts: as gateway/segment.py writes.
alter table tocsin.link add column national_tables text[] not null default '{}';
alter table tocsin.link add column substitute boolean not null default false;
alter table tocsin.category add column substitute boolean not null default true;

-- What a pair of tables writes with one septet and with two, the second behind an escape (3GPP TS 23.038 annex A); null: the default table.
create view tocsin.septet_table as
select single::text, locking::text, lone, pair from (values
    (null, null,
     E'@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !"#¤%&''()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà',
     E'\f[\\]^{|}~€'),
    (null, 'turkish-locking',
     E'@£$¥€éùıòÇ\nĞğ\rÅåΔ_ΦΓΛΩΠΨΣΘΞŞşßÉ !"#¤%&''()*+,-./0123456789:;<=>?İABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§çabcdefghijklmnopqrstuvwxyzäöñüà',
     E'\f[\\]^{|}~'),
    (null, 'portuguese-locking',
     E'@£$¥êéúíóç\nÔô\rÁáΔ_ªÇÀ∞^\\€Ó|ÂâÊÉ !"#º%&''()*+,-./0123456789:;<=>?ÍABCDEFGHIJKLMNOPQRSTUVWXYZÃÕÚÜ§~abcdefghijklmnopqrstuvwxyzãõ`üà',
     E'\f[]{}'),
    ('turkish-single', null,
     E'@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !"#¤%&''()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà',
     E'\f[\\]^{|}~çĞğİıŞş€'),
    ('turkish-single', 'turkish-locking',
     E'@£$¥€éùıòÇ\nĞğ\rÅåΔ_ΦΓΛΩΠΨΣΘΞŞşßÉ !"#¤%&''()*+,-./0123456789:;<=>?İABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§çabcdefghijklmnopqrstuvwxyzäöñüà',
     E'\f[\\]^{|}~'),
    ('turkish-single', 'portuguese-locking',
     E'@£$¥êéúíóç\nÔô\rÁáΔ_ªÇÀ∞^\\€Ó|ÂâÊÉ !"#º%&''()*+,-./0123456789:;<=>?ÍABCDEFGHIJKLMNOPQRSTUVWXYZÃÕÚÜ§~abcdefghijklmnopqrstuvwxyzãõ`üà',
     E'\f[]{}ĞğİıŞş'),
    ('spanish-single', null,
     E'@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !"#¤%&''()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà',
     E'\f[\\]^{|}~ÁÍÓÚáçíóú€'),
    ('spanish-single', 'turkish-locking',
     E'@£$¥€éùıòÇ\nĞğ\rÅåΔ_ΦΓΛΩΠΨΣΘΞŞşßÉ !"#¤%&''()*+,-./0123456789:;<=>?İABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§çabcdefghijklmnopqrstuvwxyzäöñüà',
     E'\f[\\]^{|}~ÁÍÓÚáíóú'),
    ('spanish-single', 'portuguese-locking',
     E'@£$¥êéúíóç\nÔô\rÁáΔ_ªÇÀ∞^\\€Ó|ÂâÊÉ !"#º%&''()*+,-./0123456789:;<=>?ÍABCDEFGHIJKLMNOPQRSTUVWXYZÃÕÚÜ§~abcdefghijklmnopqrstuvwxyzãõ`üà',
     E'\f[]{}'),
    ('portuguese-single', null,
     E'@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !"#¤%&''()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà',
     E'\f[\\]^{|}~ÀÁÂÃÊÍÓÔÕÚáâãçêíóôõú€'),
    ('portuguese-single', 'turkish-locking',
     E'@£$¥€éùıòÇ\nĞğ\rÅåΔ_ΦΓΛΩΠΨΣΘΞŞşßÉ !"#¤%&''()*+,-./0123456789:;<=>?İABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§çabcdefghijklmnopqrstuvwxyzäöñüà',
     E'\f[\\]^{|}~ÀÁÂÃÊÍÓÔÕÚáâãêíóôõú'),
    ('portuguese-single', 'portuguese-locking',
     E'@£$¥êéúíóç\nÔô\rÁáΔ_ªÇÀ∞^\\€Ó|ÂâÊÉ !"#º%&''()*+,-./0123456789:;<=>?ÍABCDEFGHIJKLMNOPQRSTUVWXYZÃÕÚÜ§~abcdefghijklmnopqrstuvwxyzãõ`üà',
     E'\f[]{}ΓΘΠΣΦΨΩ')
) t (single, locking, lone, pair);

-- Parts of a text of septets; null where a character is in neither of the two.
create function tocsin.count_septet_parts(body text, lone text, pair text, single int, each int) returns int
language plpgsql immutable strict parallel safe set search_path = pg_catalog, pg_temp as $$
declare
    units int := length(body) + length(body) - length(translate(body, pair, ''));
    shape text;
    upto  int := 0;
    parts int := 0;
begin
    if translate(body, lone || pair, '') <> '' then
        return null;
    elsif units <= single then
        return 1;
    elsif units = length(body) or units > 256 * each then
        return (units + each - 1) / each;
    end if;
    -- a letter a septet: an escape goes with what follows it
    shape := replace(translate(body, lone || pair, repeat('x', length(lone)) || repeat('p', length(pair))), 'p', 'hl');
    while upto < units loop
        upto := upto + each;
        if upto < units and substr(shape, upto, 1) = 'h' then
            upto := upto - 1;
        end if;
        parts := parts + 1;
    end loop;
    return parts;
end $$;

-- The text with plain characters for typographic ones.
create function tocsin.plain_characters(body text) returns text
language sql immutable strict parallel safe set search_path = pg_catalog, pg_temp as $$
    select replace(replace(replace(translate(body, E'\u2018\u2019\u2039\u203a\u201c\u201d\u201e\u201f\u00ab\u00bb\u2010\u2011\u2012\u2013\u2212\u00a0\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000\u0009', '''''''''""""""-----              '), E'\u2026', '...'), E'\u2014', '--'), E'\u2015', '--')
$$;

-- Parts of a text that GSM-7 lacks a character for, with national tables and with typographic characters replaced.
create function tocsin.count_other_parts(body text, concatenation text, national_tables text[], substitute boolean) returns int
language sql stable parallel safe set search_path = pg_catalog, pg_temp as $$
    select min(case when concatenation = 'payload' and f.parts <= 255 then 1 else f.parts end)
    from (
        select tocsin.count_any_parts(body, 'gsm7', concatenation) as parts        -- as UCS-2
        union all
        select tocsin.count_septet_parts(
                   w.written, t.lone, t.pair,
                   case when h.octets = 0 then 160 else 160 - (8 * (1 + h.octets) + 6) / 7 end,
                   160 - (8 * (1 + h.octets + case when concatenation in ('udh16', 'sar') then 6 else 5 end) + 6) / 7)
        from tocsin.septet_table t
        cross join lateral (select 3 * ((t.single is not null)::int + (t.locking is not null)::int) as octets) h
        cross join (select body as written union select tocsin.plain_characters(body) where substitute) w
        where case when h.octets = 0 then substitute
                   else concatenation in ('udh8', 'udh16') and coalesce(t.single = any (national_tables), true)
                        and coalesce(t.locking = any (national_tables), true) end
    ) f
$$;

create function tocsin.is_gsm7(body text) returns boolean
language sql immutable strict parallel safe set search_path = pg_catalog, pg_temp as $$
    select translate(body, E'@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !"#¤%&''()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà\f^{}\\[~]|€', '') = ''
$$;

create function tocsin.count_parts(body text, alphabet text, concatenation text, national_tables text[], substitute boolean) returns int
language sql stable parallel safe set search_path = pg_catalog, pg_temp as $$
    -- most texts are short, of ASCII characters that GSM-7 has too at one septet each
    select case when octet_length(body) <= case alphabet when 'latin1' then 140 else 160 end and tocsin.is_plain(body) then 1
                when alphabet = 'gsm7' and (substitute or cardinality(national_tables) > 0) and not tocsin.is_gsm7(body)
                    then tocsin.count_other_parts(body, concatenation, national_tables, substitute)
                else tocsin.count_any_parts(body, alphabet, concatenation) end
$$;

create or replace function tocsin.parts_on(body text, of_category text, on_link text) returns smallint
language sql stable set search_path = pg_catalog, pg_temp as $$
    select p.parts::smallint
    from tocsin.link l
    left join tocsin.category c on c.name = of_category
    cross join lateral (select tocsin.count_parts(body, l.alphabet, l.concatenation, l.national_tables,
                                                  l.substitute and coalesce(c.substitute, true)) as parts offset 0) p
    where l.name = on_link and p.parts <= coalesce(c.max_parts, 255)
$$;

-- As before, but for what count_parts is told.
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
               l.name as link, coalesce(l.alphabet, 'gsm7') as alphabet, coalesce(l.concatenation, 'udh8') as concatenation,
               l.national_tables, coalesce(l.substitute and c.substitute, false) as substitute
        from (select distinct category, sender, lead from asked) a
        left join tocsin.category c on c.name = a.category
        left join lateral (select t.address, t.links from tocsin.sender t
                           where a.category = any (t.categories) and a.sender in (t.address, '')
                           order by t.position, t.address limit 1) s on true
        left join lateral (select t.links from tocsin.route t where starts_with(a.lead, t.prefix)
                           order by length(t.prefix) desc limit 1) t on true
        left join lateral (select l.name, l.alphabet, l.concatenation, l.national_tables, l.substitute
                           from unnest(t.links) with ordinality u (name, n)
                           join tocsin.link l on l.name = u.name and l.enabled
                           where s.links is null or l.name = any (s.links)
                           order by u.n limit 1) l on true
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
