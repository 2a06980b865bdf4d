-- Who agreed to get what: a ledger that is only added to, the state that it gives, and what stands in the way of a message.
-- Off until a category asks for it: `consent = true` of its [[category]].
alter table tocsin.category add column consent boolean not null default false;

create table tocsin.consent_event (
    id           bigint generated always as identity primary key,
    at           timestamptz not null default now(),     -- when it was recorded
    captured_at  timestamptz not null,                   -- when the person said so
    recipient    text not null check (tocsin.is_number(recipient)),
    category     text not null,
    action       text not null check (action in ('granted', 'revoked')),
    method       text not null check (method in ('web_form', 'paper', 'verbal', 'reply', 'staff', 'api', 'import')),
    shown        text not null default '',               -- name and version of the words that were shown or read out
    language     text not null default '',
    place        text not null default '',               -- where it was captured: a form, a desk, a system
    person       text not null default '',               -- who took it
    by_user      text not null default session_user,
    evidence     jsonb not null default '{}'
);
create index on tocsin.consent_event (recipient, category, captured_at);

-- What was said last holds, whenever it was recorded: an old grant that is imported late undoes no later refusal. Of two at the same
-- instant the refusal holds.
create view tocsin.consent_by_events as
    select distinct on (recipient, category) recipient, category, action = 'granted' as is_granted, captured_at
    from tocsin.consent_event
    order by recipient, category, captured_at desc, action = 'revoked' desc, id desc;

create table tocsin.consent (
    recipient    text not null,
    category     text not null,
    is_granted   boolean not null,
    captured_at  timestamptz not null,
    primary key (recipient, category)
);

-- Notes what a person said; returns granted, revoked, or stale: something later stands. Locks: an advisory one on the number.
create function tocsin.note_consent(number text, of_category text, what text, said_at timestamptz, how text, words text, spoken text,
                                    where_to text, who text, proof jsonb) returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    state tocsin.consent;
begin
    perform pg_advisory_xact_lock(hashtextextended('tocsin.suppression ' || number, 0));
    insert into tocsin.consent_event (captured_at, recipient, category, action, method, shown, language, place, person, evidence)
    values (said_at, number, of_category, what, how, words, spoken, where_to, who, proof);
    select * into state from tocsin.consent c where (c.recipient, c.category) = (number, of_category);
    if state.captured_at > said_at or state.captured_at = said_at and not state.is_granted then
        return 'stale';
    end if;
    insert into tocsin.consent (recipient, category, is_granted, captured_at) values (number, of_category, what = 'granted', said_at)
    on conflict (recipient, category) do update set is_granted = excluded.is_granted, captured_at = excluded.captured_at;
    if exists (select from tocsin.category c where c.name = of_category and c.consent) then
        perform pg_notify('tocsin_suppressed', concat_ws('|', number, 'category', of_category, 'CONSENT_REVOKED',
                                                         case what when 'revoked' then 'added' else 'lifted' end));
    end if;
    return what;
end $$;

create function tocsin.wrong_consent(recipient text, category text, captured_at timestamptz, method text) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select case
        when tocsin.is_number(ltrim(recipient, '+')) is not true then 'recipient: not an E.164 number'
        when category is not null and not exists (select from tocsin.category c where c.name = category) then 'category: unknown'
        when captured_at is null or captured_at > now() + interval '5 min' then 'captured_at: missing, or in the future'
        when method is null or method not in ('web_form', 'paper', 'verbal', 'reply', 'staff', 'api', 'import') then 'method: unknown'
    end
$$;

-- For apps: the person agreed. Returns granted, or stale where a later refusal stands. Raises TC400 with the field's name.
create function tocsin.record_consent(recipient text, category text, captured_at timestamptz, method text, shown text default '',
                                      language text default '', place text default '', person text default '',
                                      evidence jsonb default '{}') returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '2s' as $$
begin
    perform tocsin.complain(coalesce(case when category is null then 'category: missing' end,
                                     tocsin.wrong_consent(recipient, category, captured_at, method)));
    return tocsin.note_consent(ltrim(recipient, '+'), category, 'granted', captured_at, method, coalesce(shown, ''), coalesce(language, ''),
                               coalesce(place, ''), coalesce(person, ''), coalesce(evidence, '{}'));
end $$;

-- For apps: the person agrees no more, to one category or, with null, to every one that was ever granted. Returns how many ended by it.
create function tocsin.revoke_consent(recipient text, category text default null, captured_at timestamptz default now(),
                                      method text default 'api', person text default '', evidence jsonb default '{}') returns int
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '2s' as $$
declare
    number constant text := ltrim(recipient, '+');
    name   text;
    ended  int := 0;
    was    boolean;
begin
    perform tocsin.complain(tocsin.wrong_consent(recipient, category, captured_at, method));
    for name in select revoke_consent.category where revoke_consent.category is not null
                union select c.category from tocsin.consent c where c.recipient = number and revoke_consent.category is null loop
        was := exists (select from tocsin.consent c where (c.recipient, c.category) = (number, name) and c.is_granted);
        if tocsin.note_consent(number, name, 'revoked', captured_at, method, '', '', '', coalesce(person, ''), coalesce(evidence, '{}')) = 'revoked'
           and was then
            ended := ended + 1;
        end if;
    end loop;
    return ended;
end $$;

-- For apps: all that is known of what a number agreed to, oldest first.
create function tocsin.consent_evidence(recipient text)
returns table (category text, action text, captured_at timestamptz, recorded_at timestamptz, method text, shown text, language text,
               place text, person text, by_user text, evidence jsonb)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select e.category, e.action, e.captured_at, e.at, e.method, e.shown, e.language, e.place, e.person, e.by_user, e.evidence
    from tocsin.consent_event e where e.recipient = ltrim(consent_evidence.recipient, '+') order by e.captured_at, e.id
$$;

-- What would become of a message now, without sending one: a row for each thing that is looked at, in the order of the gates; the first one
-- that is not `passes` decides. Raises nothing. Locks: none.
create function tocsin.check(recipient text, category text default 'transactional', sender text default null)
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
    link := (tocsin.links_of(number, own.address))[1];
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

revoke execute on all functions in schema tocsin from public;
