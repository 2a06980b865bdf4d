-- The instances that run, so that links are spread evenly over them.

create table tocsin.instance (
    owner  text primary key,                            -- as in link.owner
    links  text[] not null,                             -- that it would carry: those of its file, none while it drains
    beat   bigint not null,                             -- one more every 2 s; watchers judge by their own clocks
    at     timestamptz not null default now()           -- of the last beat, by the database's clock: only to drop old rows
) with (fillfactor = 50);
