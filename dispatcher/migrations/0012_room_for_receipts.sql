-- Each row of `sent` is updated once, when its receipt comes. At a fillfactor of 85 a fifth of these updates stayed on their page,
-- and the others wrote into both indexes again: 895 octets of WAL a segment, and 634 at 45, where all of them stay. The table
-- and its indexes are no larger for it: the new versions need their room either way.

-- Partitions of one UTC day each, made by LIKE and ATTACH so that no reader of the parent is kept waiting.
-- sent_text has as many more as the longest keep_text_days needs. Returns how many were made.
-- A page of `sent` keeps room for one new version of each of its rows: their receipts.
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
        storage := case parent when 'sent' then ' with (fillfactor = 45)' when 'receipt_wait' then ' with (fillfactor = 85)' else '' end;
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

do $$
declare
    child text;
begin
    for child in select p.child from tocsin.partition p where p.parent = 'sent' loop
        execute format('alter table tocsin.%I set (fillfactor = 45)', child);
    end loop;
end $$;

revoke execute on all functions in schema tocsin from public;
