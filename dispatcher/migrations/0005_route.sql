-- The links that may carry a message, so that a job can be sent by another one than the first.

-- Links of the longest matching prefix in its order of preference, of those that are enabled and that the sender is
-- provisioned on. Empty: none. Called by the daemon alone.
create function tocsin.links_of(recipient text, from_sender text) returns text[]
language sql stable set search_path = pg_catalog, pg_temp as $$
    select coalesce(array_agg(l.name order by u.n), '{}')
    from (select t.links from tocsin.route t where starts_with(links_of.recipient, t.prefix)
          order by length(t.prefix) desc limit 1) t
    cross join unnest(t.links) with ordinality u (name, n)
    join tocsin.link l on l.name = u.name and l.enabled
    left join tocsin.sender s on s.address = from_sender
    where s.links is null or l.name = any (s.links)
$$;

-- The next link after `after_link` in the order of the route, of those in `able`; past the end it begins anew. Null: none.
create function tocsin.next_able(recipient text, from_sender text, after_link text, able text[]) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select u.name
    from (select tocsin.links_of(recipient, from_sender) as links offset 0) l, unnest(l.links) with ordinality u (name, n)
    where u.name = any (able) and u.name <> after_link
    order by u.n <= coalesce(array_position(l.links, after_link), 0), u.n limit 1
$$;

-- How many parts a text has on a link, null when that is more than its category allows.
create function tocsin.parts_on(body text, of_category text, on_link text) returns smallint
language sql stable set search_path = pg_catalog, pg_temp as $$
    select p.parts::smallint
    from tocsin.link l
    cross join lateral (select tocsin.count_parts(body, l.alphabet, l.concatenation) as parts offset 0) p
    left join tocsin.category c on c.name = of_category
    where l.name = on_link and p.parts <= coalesce(c.max_parts, 255)
$$;

revoke execute on all functions in schema tocsin from public;
