-- A link that cannot send hands its waiting jobs to the next one of their route.

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
