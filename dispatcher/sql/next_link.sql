-- name: link_states
-- What every instance told of its links, those that left the file included; unbound_for_s in seconds. Locks: none.
select name, coalesce(owner, '') as owner, epoch, beat, state = 'bound' and enabled and not paused as able,
       case when state <> 'bound' then extract(epoch from now() - state_since)::float8 else 0 end as unbound_for_s
from tocsin.link;

-- name: move_waiting
-- Takes waiting rows of link $1 and lane $2 behind id $3 for the links $6 (epochs $7), which are ours: those whose next able link ($5)
-- is one of them. $4 rows looked at, $8 ids to leave alone. A row with accepted parts stays: its other parts went by its link. The journal is
-- asked in a new statement (`named`); a row that it names is put back by rolling back.
-- Locks: key share on our link rows (the fence); the rows looked at, skip locked. Index: ready's primary key.
with picked as materialized (
    select r.ctid as place, r.id, r.recipient, r.sender, r.body, r.category
    from tocsin.ready r
    where r.link = $1 and r.lane = $2 and r.id > $3 and r.done is null and r.id not in (select unnest($8::text::bigint[]))
    order by r.id limit $4::int
    for update skip locked
), fence as materialized (
    select l.name from unnest($6::text::text[], $7::text::bigint[]) e (name, epoch)
    join tocsin.link l on l.name = e.name and l.epoch = e.epoch
    where exists (select from picked)
    for key share of l
), chosen as materialized (
    select p.place, c.link, tocsin.parts_on(p.body, p.category, c.link) as parts
    from picked p cross join lateral (select tocsin.next_able(p.recipient, p.sender, p.category, $1, $5::text::text[]) as link offset 0) c
    join fence f on f.name = c.link
), gone as (
    delete from tocsin.ready r using chosen c where r.ctid = c.place and c.parts is not null
    returning r.*, c.link as to_link, c.parts as parts_there
), arrived as (
    insert into tocsin.ready (link, lane, id, app, client_ref, recipient, sender, body, category, flash, options, enqueued_at, due_at,
                              expires_at, cancel_group, attempt, resends, parts, done, first_wire_at)
    select to_link, lane, id, app, client_ref, recipient, sender, body, category, flash, options, enqueued_at, due_at, expires_at,
           cancel_group, attempt, resends, parts_there, done, first_wire_at
    from gone returning link, id
)
select (select max(id) from picked) as upto, (select count(*) from picked)::int as looked,
       array(select link from arrived order by id) as links, array(select id from arrived order by id)::text as ids;

-- name: move_due
-- The same for deferred rows of link $1 that are due while nobody promotes them; $2 at most, $3 able links, $4 ours with epochs $5.
-- Locks: the fence; the rows looked at, skip locked. Index: deferred's primary key.
with picked as materialized (
    select d.ctid as place, d.recipient, d.sender, d.body, d.category
    from tocsin.deferred d
    where d.due_at <= now() and d.link = $1 and d.done is null
    order by d.due_at limit $2::int for update skip locked
), fence as materialized (
    select l.name from unnest($4::text::text[], $5::text::bigint[]) e (name, epoch)
    join tocsin.link l on l.name = e.name and l.epoch = e.epoch
    where exists (select from picked)
    for key share of l
), chosen as materialized (
    select p.place, c.link, tocsin.parts_on(p.body, p.category, c.link) as parts
    from picked p cross join lateral (select tocsin.next_able(p.recipient, p.sender, p.category, $1, $3::text::text[]) as link offset 0) c
    join fence f on f.name = c.link
), gone as (
    delete from tocsin.deferred d using chosen c where d.ctid = c.place and c.parts is not null
    returning d.*, c.link as to_link, c.parts as parts_there
), queued as (                                          -- of categories of which each state is told
    select g.id, g.app, g.client_ref, g.category from gone g
    where g.category in (select c.name from tocsin.category c where c.job_states)
), into_events as (
    insert into tocsin.event_log (at, seq, xid, app, type, subject, client_ref, category)
    select now(), b.base + row_number() over () - 1, pg_current_xact_id(), q.app, 'job.queued', q.id::text, q.client_ref, q.category
    from (select tocsin.event_seq(count(*)) as base from queued having count(*) > 0) b, queued q
)
insert into tocsin.ready (link, lane, id, app, client_ref, recipient, sender, body, category, flash, options, enqueued_at, due_at,
                          expires_at, cancel_group, attempt, resends, parts, done, first_wire_at)
select to_link, lane, id, app, client_ref, recipient, sender, body, category, flash, options, enqueued_at, due_at, expires_at,
       cancel_group, attempt, resends, parts_there, done, first_wire_at
from gone returning link, lane, id;

-- name: move_refused
-- The same for rows of any link that refused them (OTHER_LINK_...), due or not: $1 at most, $2 able links, $3 ours with epochs $4.
-- Locks: the fence; the rows looked at, skip locked. Index: deferred_other_link.
with picked as materialized (
    select d.ctid as place, d.link as refused_by, d.recipient, d.sender, d.body, d.category
    from tocsin.deferred d
    where starts_with(d.reason, 'OTHER_LINK_') and d.done is null
    order by d.id limit $1::int for update skip locked
), fence as materialized (
    select l.name from unnest($3::text::text[], $4::text::bigint[]) e (name, epoch)
    join tocsin.link l on l.name = e.name and l.epoch = e.epoch
    where exists (select from picked)
    for key share of l
), chosen as materialized (
    select p.place, p.refused_by, c.link, tocsin.parts_on(p.body, p.category, c.link) as parts
    from picked p
    cross join lateral (select tocsin.next_able(p.recipient, p.sender, p.category, p.refused_by, $2::text::text[]) as link offset 0) c
    join fence f on f.name = c.link
), gone as (
    delete from tocsin.deferred d using chosen c where d.ctid = c.place and c.parts is not null
    returning d.*, c.link as to_link, c.parts as parts_there, c.refused_by
), arrived as (
    insert into tocsin.ready (link, lane, id, app, client_ref, recipient, sender, body, category, flash, options, enqueued_at, due_at,
                              expires_at, cancel_group, attempt, resends, parts, done, first_wire_at)
    select to_link, lane, id, app, client_ref, recipient, sender, body, category, flash, options, enqueued_at, least(due_at, now()),
           expires_at, cancel_group, attempt, resends, parts_there, done, first_wire_at
    from gone
), queued as (                                          -- of categories of which each state is told
    select g.id, g.app, g.client_ref, g.category from gone g
    where g.category in (select c.name from tocsin.category c where c.job_states)
), into_events as (
    insert into tocsin.event_log (at, seq, xid, app, type, subject, client_ref, category)
    select now(), b.base + row_number() over () - 1, pg_current_xact_id(), q.app, 'job.queued', q.id::text, q.client_ref, q.category
    from (select tocsin.event_seq(count(*)) as base from queued having count(*) > 0) b, queued q
)
select to_link as link, lane, id, refused_by from gone;
