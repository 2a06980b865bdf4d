-- Hours and caps as rows, so that tocsin.check names them and the digest of the rules covers them. Who decides by them is the daemon, by its
-- file and the recipient's clock; nothing of a claim reads this table.
create table tocsin.policy_rule (
    kind      text not null check (kind in ('window', 'cap')),
    category  text not null,
    prefix    text not null,                             -- first digits of the number, the longest that fits holds; '': all
    rule      jsonb not null,                            -- the other keys of the entry
    primary key (kind, category, prefix)
);

-- As before, and with hours and caps; while there are none it is what it was.
create or replace function tocsin.policy_digest() returns text
language sql stable set search_path = pg_catalog, pg_temp set intervalstyle = 'iso_8601' as $$
    select left(encode(sha256(convert_to((jsonb_build_array(
        (select jsonb_agg(to_jsonb(c) - 'paused' order by c.name collate "C") from tocsin.category c),
        (select jsonb_agg(to_jsonb(s) order by s.address collate "C") from tocsin.sender s),
        (select jsonb_agg(to_jsonb(r) order by r.prefix collate "C", r.category collate "C") from tocsin.route r),
        (select to_jsonb(p) from tocsin.policy p),
        (select jsonb_agg(to_jsonb(k) order by k.form collate "C", k.sender collate "C") from tocsin.keyword k),
        (select jsonb_agg(to_jsonb(a) order by a.kind collate "C", a.sender collate "C", a.language collate "C")
         from tocsin.auto_reply a))
        || coalesce((select jsonb_build_array(jsonb_agg(to_jsonb(h) order by h.kind collate "C", h.category collate "C", h.prefix collate "C"))
                     from tocsin.policy_rule h having count(*) > 0), '[]'))::text, 'UTF8')), 'hex'), 16)
$$;

-- The window or cap that binds a message, with its prefix. Null: none does. Index: policy_rule's primary key.
create function tocsin.rule_for(of_kind text, of_category text, number text) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp as $$
    select r.rule || jsonb_build_object('prefix', r.prefix) from tocsin.policy_rule r
    where r.kind = of_kind and r.category = of_category and starts_with(number, r.prefix) order by length(r.prefix) desc limit 1
$$;

-- What would become of a message now, without sending one: a row for each thing that is looked at, in the order of the gates; the first one
-- that is not `passes` decides. `depends`: a window or a cap binds it, by the recipient's own clock, which is read when it is claimed; of a cap
-- only where what was counted in the last 27 hours, or in 7 days and 3 hours, comes up to it: no day or week is longer. With the text
-- also whether it is one too many of the same from this app (`repeat`). Raises nothing. Locks: none.
drop function tocsin.check(text, text, text);
create function tocsin.check(recipient text, category text default 'transactional', sender text default null, body text default null)
returns table (step text, verdict text, reason text, detail jsonb)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
    number   constant text := ltrim(recipient, '+');
    kind     tocsin.category;
    own      tocsin.sender;
    link     text;
    repeated boolean;
    held     record;
    given    tocsin.consent;
    hours    jsonb;
    cap      jsonb;
    of_day   int;
    of_week  int;
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
    if body is not null then
        repeated := kind.lane > 0 and exists (select from tocsin.policy p where p.duplicate_text_within > '0')
            and cardinality((tocsin.note_texts(
                coalesce((select t.due_at from tocsin.recent_text t
                          where t.digest = sha256(convert_to(jsonb_build_array(session_user::text, number, body)::text, 'UTF8'))), '{}'),
                array[now()])).taken) = 0;
        return query select 'repeat', case when repeated then 'blocked' else 'passes' end, case when repeated then 'DUP_CONTENT' end, null::jsonb;
    end if;
    select s.reason, s.scope, s.value, s.at into held from tocsin.suppression s
    where s.recipient = number
      and (s.scope = 'everything' or s.scope = 'sender' and s.value = ltrim(own.address, '+') or s.scope = 'category' and s.value = kind.name)
      and (kind.stop = 'applies' or tocsin.binds_all(s.reason) and (kind.name <> 'reply' or s.reason in ('INVALID', 'LANDLINE', 'CARRIER_BLOCK')))
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
    hours := tocsin.rule_for('window', kind.name, number);
    return query select 'window', case when hours is null then 'passes' else 'depends' end, null::text,
                        hours || '{"decided": "when it is claimed"}';
    cap := tocsin.rule_for('cap', kind.name, number);
    select count(*) filter (where u.at > now() - interval '27 hours'), count(*) filter (where u.at > now() - interval '171 hours')
    into of_day, of_week
    from tocsin.cap_count c cross join unnest(c.uses) u where (c.recipient, c.category) = (number, kind.name);
    return query select 'cap', case when of_day >= (cap ->> 'per_day')::int or of_week >= (cap ->> 'per_week')::int then 'depends' else 'passes' end,
                        null::text,
                        cap || jsonb_build_object('counted_in_27_h', of_day, 'counted_in_171_h', of_week, 'decided', 'when it is claimed');
end $$;

revoke execute on all functions in schema tocsin from public;
