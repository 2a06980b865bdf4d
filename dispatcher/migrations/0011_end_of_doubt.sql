-- Doubt that is no doubt: journals explained by whoever wrote them, answers that stand in `sent` already, and states of jobs
-- of which a part was given up.

-- The instance whose journals stand: it last accounted for all that its predecessors had left. `owner` may be another one,
-- whose take-over broke off. Null: there are none.
alter table tocsin.link add column accounted_by text;
update tocsin.link set accounted_by = owner;

-- Parts in doubt of which `sent` holds an accepted answer are accepted: an owner that had lost the link kept it there
-- (FENCED) before the next one put the job into `uncertain`; an answer that comes later ends the doubt itself. So it is
-- asked of what came into doubt within a minute, and of what would be given up now: `unknown_after_s` past its time.
-- Returns a row a job: outcome as settle_doubt says it.
-- Locks: the rows of uncertain. Reads that table on the links; index: sent (job_id).
create function tocsin.accept_fenced(links text[], unknown_after_s float8) returns table (link text, category text, outcome text)
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    u        tocsin.uncertain;
    accepted int;
    ended    int;
begin
    for u in select * from tocsin.uncertain t
             where t.link = any (links)
               and (t.since > now() - interval '1 minute'
                    or greatest(t.expires_at, t.since) <= now() - make_interval(secs => unknown_after_s))
               and exists (select from tocsin.sent s
                           where s.job_id = t.id and s.parts = t.parts and s.message_id is not null and get_bit(t.doubt, s.part - 1) = 1
                             and s.submitted_at > t.enqueued_at - interval '1 minute')
             for update loop
        link := u.link;
        category := u.category;
        for accepted in select distinct s.part from tocsin.sent s
                        where s.job_id = u.id and s.parts = u.parts and s.message_id is not null and get_bit(u.doubt, s.part - 1) = 1
                          and s.submitted_at > u.enqueued_at - interval '1 minute' loop
            outcome := tocsin.settle_doubt(u, accepted, true);
            exit when outcome <> 'doubtful';
            select * into u from tocsin.uncertain t where t.id = u.id;
        end loop;
        if outcome = 'submitted' then
            select min(p.best) into ended
            from (select max(coalesce(s.receipt_state, 10)) as best from tocsin.sent s where s.job_id = u.id group by s.part) p;
            if ended = 10 then                            -- else its receipt was told when it came
                perform tocsin.tell(u.app, 'job.submitted', u.id, u.client_ref, u.category, null);
            end if;
        end if;
        return next;
    end loop;
end $$;

-- ---------------------------------------------------------------- states

-- As before, but a part whose link asks for no receipt of every part, and that none has named, has no say in how its job
-- ended: beside one that was given up it would read `submitted` for ever.
create or replace view tocsin.job_status with (security_barrier) as
    select r.id as job_id, r.client_ref, r.category, r.lane, 'queued' as state, null::text as reason, r.link, r.parts,
           r.attempt as attempts, r.enqueued_at, null::timestamptz as submitted_at, null::timestamptz as final_at, r.resends
    from tocsin.ready r where r.app = session_user or (select tocsin.sees_all())
    union all
    select d.id, d.client_ref, d.category, d.lane, 'deferred', d.reason, d.link, d.parts, d.attempt, d.enqueued_at, null, null, d.resends
    from tocsin.deferred d where d.app = session_user or (select tocsin.sees_all())
    union all
    select u.id, u.client_ref, u.category, u.lane, 'uncertain', case when u.session_over then 'SESSION_LOST' else 'UNANSWERED' end, u.link,
           u.parts, u.attempt, u.enqueued_at, u.first_wire_at, null, u.resends
    from tocsin.uncertain u where u.app = session_user or (select tocsin.sees_all())
    union all
    select c.job_id, c.client_ref, c.category, c.lane, c.state, c.reason, c.link, c.parts, c.attempt, c.enqueued_at, null, c.closed_at, null
    from tocsin.closed c where c.app = session_user or (select tocsin.sees_all())
    union all
    select j.job_id, j.client_ref, j.category, j.lane,
           tocsin.state_name(j.rank), case when j.rank < 40 then coalesce(j.error, j.mark) else j.mark end, j.link, j.parts, j.attempts,
           j.enqueued_at, j.submitted_at, case when j.rank > 10 then j.receipt_at end, j.resends
    from (select p.job_id, max(p.client_ref) as client_ref, max(p.category) as category, max(p.lane) as lane, max(p.link) as link,
                 max(p.parts) as parts, max(p.attempts) as attempts, max(p.enqueued_at) as enqueued_at,
                 min(p.submitted_at) as submitted_at, max(p.receipt_at) as receipt_at, max(p.error) as error, max(p.mark) as mark,
                 max(p.resends) as resends, case when count(*) < max(p.parts) then 10 else coalesce(min(p.rank), 10) end as rank
          from (select s.job_id, s.part, max(s.client_ref) as client_ref, max(s.category) as category, max(s.lane) as lane,
                       max(s.link) as link, max(s.parts) as parts, max(s.attempt) as attempts, max(s.enqueued_at) as enqueued_at,
                       min(s.submitted_at) as submitted_at, max(s.receipt_at) as receipt_at,
                       max(coalesce(s.receipt_error, case s.reason when 'DOUBT' then s.reason end))
                           filter (where s.receipt_state < 40) as error,
                       max(case s.reason when 'POSSIBLE_DUPLICATE' then s.reason end) as mark,
                       max(coalesce(s.resends, 0::smallint)) as resends,
                       max(coalesce(s.receipt_state, (select 10 from tocsin.link l where l.name = s.link and l.receipts = 'all'))) as rank
                from tocsin.sent s where s.app = session_user or (select tocsin.sees_all())
                group by s.job_id, s.part) p
          group by p.job_id) j
    where not exists (select from tocsin.closed c where c.job_id = j.job_id)
      and not exists (select from tocsin.deferred d where d.id = j.job_id)
      and not exists (select from tocsin.uncertain u where u.id = j.job_id)
      -- on any link: the job may have been moved to another one since
      and not exists (select from tocsin.link l join tocsin.ready r on r.link = l.name and r.lane = j.lane and r.id = j.job_id);

-- The same for one job, by primary keys and indexes alone.
create or replace function tocsin.job_status(job_id bigint) returns setof tocsin.job_status
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off as $$
declare
    wanted constant bigint := job_id;
    everyone constant boolean := tocsin.sees_all();
begin
    return query
        select c.job_id, c.client_ref, c.category, c.lane, c.state, c.reason, c.link, c.parts, c.attempt, c.enqueued_at,
               null::timestamptz, c.closed_at, null::smallint
        from tocsin.closed c where c.job_id = wanted and (c.app = session_user or everyone) limit 1;
    if found then return; end if;
    return query
        select d.id, d.client_ref, d.category, d.lane, 'deferred', d.reason, d.link, d.parts, d.attempt, d.enqueued_at,
               null::timestamptz, null::timestamptz, d.resends
        from tocsin.deferred d where d.id = wanted and (d.app = session_user or everyone) limit 1;
    if found then return; end if;
    return query
        select u.id, u.client_ref, u.category, u.lane, 'uncertain', case when u.session_over then 'SESSION_LOST' else 'UNANSWERED' end,
               u.link, u.parts, u.attempt, u.enqueued_at, u.first_wire_at, null::timestamptz, u.resends
        from tocsin.uncertain u where u.id = wanted and (u.app = session_user or everyone);
    if found then return; end if;
    return query
        select r.id, r.client_ref, r.category, r.lane, 'queued', null::text, r.link, r.parts, r.attempt, r.enqueued_at,
               null::timestamptz, null::timestamptz, r.resends
        from tocsin.find_ready(wanted) r where r.app = session_user or everyone;
    if found then return; end if;
    return query
        select wanted, j.client_ref, j.category, j.lane, tocsin.state_name(j.rank),
               case when j.rank < 40 then coalesce(j.error, j.mark) else j.mark end, j.link, j.parts, j.attempts, j.enqueued_at,
               j.submitted_at, case when j.rank > 10 then j.receipt_at end, j.resends
        from (select max(p.client_ref) as client_ref, max(p.category) as category, max(p.lane) as lane, max(p.link) as link,
                     max(p.parts) as parts, max(p.attempts) as attempts, max(p.enqueued_at) as enqueued_at,
                     min(p.submitted_at) as submitted_at, max(p.receipt_at) as receipt_at, max(p.error) as error, max(p.mark) as mark,
                     max(p.resends) as resends, case when count(*) < max(p.parts) then 10 else coalesce(min(p.rank), 10) end as rank
              from (select s.part, max(s.client_ref) as client_ref, max(s.category) as category, max(s.lane) as lane,
                           max(s.link) as link, max(s.parts) as parts, max(s.attempt) as attempts, max(s.enqueued_at) as enqueued_at,
                           min(s.submitted_at) as submitted_at, max(s.receipt_at) as receipt_at,
                           max(coalesce(s.receipt_error, case s.reason when 'DOUBT' then s.reason end))
                               filter (where s.receipt_state < 40) as error,
                           max(case s.reason when 'POSSIBLE_DUPLICATE' then s.reason end) as mark,
                           max(coalesce(s.resends, 0::smallint)) as resends,
                           max(coalesce(s.receipt_state, (select 10 from tocsin.link l where l.name = s.link and l.receipts = 'all')))
                               as rank
                    from tocsin.sent s where s.job_id = wanted and (s.app = session_user or everyone)
                    group by s.part) p
              having count(*) > 0) j;
end $$;

revoke execute on all functions in schema tocsin from public;
