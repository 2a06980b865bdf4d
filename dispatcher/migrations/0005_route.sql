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

revoke execute on all functions in schema tocsin from public;
