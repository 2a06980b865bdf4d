-- Partitions by the clock: made ahead, and dropped once they are older than what is kept.

-- Texts that are kept for more than 31 days are dropped on the first of a month, so that years need a partition a month
-- and not one a day. Returns the day of the partition.
create function tocsin.text_drop_on(keep_days int) returns timestamptz
language sql stable set search_path = pg_catalog, pg_temp as $$
    select case when keep_days <= 31 then now() + make_interval(days => keep_days)
                else (date_trunc('month', (now() at time zone 'UTC') + make_interval(days => keep_days)) + interval '1 month') at time zone 'UTC' end
$$;

-- Partitions of one UTC day each, made by LIKE and ATTACH so that no reader of the parent is kept waiting.
-- sent_text has as many more as the longest keep_text_days needs. Returns how many were made.
create or replace function tocsin.make_partitions(days_ahead int) returns int
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    today   constant date := (now() at time zone 'UTC')::date;
    keeping constant int := coalesce((select max(keep_text_days) from tocsin.category), 0);
    parent  text;
    day     date;
    child   text;
    made    int := 0;
    storage text;
begin
    perform pg_advisory_xact_lock(hashtext('tocsin.make_partitions'));      -- instances look at the same hour
    foreach parent in array array['sent', 'sent_text', 'closed', 'receipt_wait', 'inbound', 'inbound_part', 'event_log'] loop
        storage := case parent when 'sent' then ' with (fillfactor = 85)' when 'receipt_wait' then ' with (fillfactor = 85)' else '' end;
        for day in
            -- yesterday too: an age is taken off the database's clock
            select today + n from generate_series(-1, days_ahead + case parent when 'sent_text' then least(keeping, 31) else 0 end) n
            union
            select m::date from generate_series(date_trunc('month', today::timestamp), today::timestamp + make_interval(days => days_ahead + keeping, months => 1),
                                                interval '1 month') m
            where parent = 'sent_text' and keeping > 31 and m::date > today
            order by 1
        loop
            child := parent || '_' || to_char(day, 'YYYYMMDD');
            if to_regclass('tocsin.' || child) is null then
                execute format('create table tocsin.%I (like tocsin.%I including all)%s', child, parent, storage);
                execute format('alter table tocsin.%I attach partition tocsin.%I for values from (%L) to (%L)', parent, child,
                               day::text || ' 00:00:00+00', (day + 1)::text || ' 00:00:00+00');
                made := made + 1;
            end if;
        end loop;
    end loop;
    return made;
end $$;

-- A text must have its partition before the first settle that keeps it.
create function tocsin.texts_are_kept() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    perform tocsin.make_partitions(14);
    return null;
end $$;

create trigger texts_are_kept after insert or update of keep_text_days on tocsin.category
    for each row when (new.keep_text_days > 0) execute function tocsin.texts_are_kept();

-- The partitions, by table and UTC day; of sent_text the day on which a text is dropped.
create view tocsin.partition as
    select p.relname::text as parent, c.relname::text as child, to_date(right(c.relname, 8), 'YYYYMMDD') as day
    from pg_catalog.pg_inherits i
    join pg_catalog.pg_class c on c.oid = i.inhrelid and c.relkind = 'r' and c.relname ~ '_[0-9]{8}$'
    join pg_catalog.pg_class p on p.oid = i.inhparent
    where p.relnamespace = 'tocsin'::regnamespace and p.relkind = 'p';

-- Drops the oldest partition that is no longer kept, and returns its name; null when there is none. One a transaction, so that
-- no more than one table is locked. The lock excludes everything from its table for an instant, and whatever comes while it waits
-- behind a long reader waits with it: so it waits 0.1 s at most, and the caller tries again later (55P03).
create function tocsin.drop_partition(keep_days int) returns text
language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '100ms' as $$
declare
    today  constant date := (now() at time zone 'UTC')::date;
    gone   text;
begin
    if not pg_try_advisory_xact_lock(hashtext('tocsin.drop_partition')) then
        return null;                                    -- another instance is at it
    end if;
    select p.child into gone from tocsin.partition p
    where p.day < today - case p.parent when 'sent_text' then 1 else keep_days end
    order by p.day, p.child limit 1;
    if gone is not null then
        execute format('drop table tocsin.%I', gone);
    end if;
    return gone;
end $$;

revoke execute on all functions in schema tocsin from public;
