-- Why a message did not arrive, in words that are the same for every carrier. What its receipt's code and state come to is read
-- by the gateway and kept beside the code, which stays as the evidence.

-- A reason of gateway/receipt_reason.py. Null where it is delivered, nothing was said yet, or a version without this column
-- wrote it: then the code stands for it. Costs no octet where it is null.
alter table tocsin.sent add column receipt_reason text;
alter table tocsin.receipt_wait add column reason text;

-- What sending the same text to the same number again can bring: later (it may arrive after a while), never (it meets the same
-- end), unclear. Equal to RETRY in gateway/receipt_reason.py (a test compares the two).
create function tocsin.receipt_retry(reason text) returns text
language sql immutable parallel safe as $$
    select case when reason in ('EXPIRED_SMSC', 'BUSY', 'NETWORK_FAILURE', 'MEMORY_FULL', 'ABSENT') then 'later'
                when reason in ('REJECTED_SMSC', 'UNKNOWN_SUBSCRIBER', 'ILLEGAL_SUBSCRIBER', 'BARRED', 'UNSUPPORTED', 'OPTED_OUT') then 'never'
                else 'unclear' end
$$;

-- How a segment that is not known to be delivered ended, as an array that is compared: state, 0 (never), 1 or 2 (later),
-- reason, error. Of the rows of one part the greatest counts, of the parts of one job the least: the lowest state, of it
-- what can least be mended, and one that says something before one that says nothing.
create function tocsin.receipt_ending(state int, reason text, error text, mark text) returns text[]
language sql immutable parallel safe as $$
    select array[state::text, case tocsin.receipt_retry(reason) when 'never' then '0' when 'unclear' then '1' else '2' end,
                 coalesce(reason, error, case mark when 'DOUBT' then mark end), error]
$$;

-- What the event of such an end has beside the reason: the carrier's own code, and of undelivered what can be done. Null of any other.
create function tocsin.receipt_detail(rank int, reason text, error text) returns jsonb
language sql stable parallel safe as $$
    select case when rank in (20, 30)
                then jsonb_strip_nulls(jsonb_build_object('error', error, 'retry', case rank when 30 then tocsin.receipt_retry(reason) end)) end
$$;

-- ---------------------------------------------------------------- doubt

-- As before, with the reason that was parked with the receipt; the job's own is that of the part that decides.
create or replace function tocsin.resolve_by_receipts(parked bigint[], horizon_s float8)
    returns table (parked_id bigint, job_id bigint, link text, category text, rank int, outcome text, job_rank int)
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    oldest constant timestamptz := now() - make_interval(secs => horizon_s);
    w       tocsin.receipt_wait;
    u       tocsin.uncertain;
    one     text;
    other   text;
    account text[];
    fitting bigint[];
    which   int;
    ending  text[];
begin
    if not exists (select from tocsin.uncertain) then
        return;
    end if;
    foreach parked_id in array parked loop               -- one probe each: of a join the planner may read the whole table
        select * into w from tocsin.receipt_wait p where p.id = parked_id and p.received_at > oldest and p.matched_at is null;
        continue when not found or '' in (w.message_id, w.source, w.destination);
        one := ltrim(w.source, '+');
        other := ltrim(w.destination, '+');
        account := array(select l.name from tocsin.link l
                         where l.account = (select its.account from tocsin.link its where its.name = w.link));
        fitting := array(select t.id from tocsin.uncertain t
                         where t.recipient in (one, other) and t.link = any (account)
                           and (t.recipient, ltrim(t.sender, '+')) in ((one, other), (other, one))
                           and (t.resends > 0 or t.written_at is null or t.written_at <= w.received_at));
        continue when cardinality(fitting) <> 1
            or exists (select from tocsin.resent t
                       where t.recipient in (one, other) and t.link = any (account) and t.id <> fitting[1] and t.at > oldest
                         and (t.recipient, ltrim(t.sender, '+')) in ((one, other), (other, one))
                         and (t.written_at is null or t.written_at <= w.received_at))
            or exists (select from tocsin.sent s
                       where s.link = any (account) and s.message_id = any (w.forms) and s.submitted_at > oldest)
            or exists (select from tocsin.sent s
                       where s.link = any (account) and s.message_id is null and s.submitted_at > oldest and s.job_id <> fitting[1]
                         and (s.destination, ltrim(s.sender, '+')) in ((one, other), (other, one)));
        select * into u from tocsin.uncertain t where t.id = fitting[1] for update;
        continue when not found or length(replace(u.doubt::text, '0', '')) <> 1 or coalesce(u.written_at, u.since) > w.received_at
            or exists (select from tocsin.receipt_wait p
                       where p.source in (one, other, '+' || one, '+' || other) and p.id <> w.id and p.message_id <> w.message_id
                         and p.matched_at is null and p.received_at > oldest
                         and (ltrim(p.source, '+'), ltrim(p.destination, '+')) in ((one, other), (other, one))
                         and (u.resends > 0 or p.received_at >= coalesce(u.written_at, p.received_at)));
        which := position('1' in u.doubt::text);
        insert into tocsin.sent (submitted_at, job_id, part, parts, attempt, link, destination, sender, category, lane, client_ref,
                                 enqueued_at, app, reason, message_id, resends, receipt_state, receipt_error, receipt_at,
                                 receipt_reason)
        values (coalesce(u.written_at, u.since), u.id, which, u.parts, u.attempt, u.link, u.recipient, u.sender, u.category, u.lane,
                u.client_ref, u.enqueued_at, u.app, case when u.resends > 0 then 'POSSIBLE_DUPLICATE' else 'DOUBT_RECEIPT' end,
                w.message_id, nullif(u.resends, 0), w.state, w.error, now(), w.reason);
        update tocsin.receipt_wait p set matched_at = now() where p.id = w.id and p.received_at = w.received_at;
        job_id := u.id;
        link := u.link;
        category := u.category;
        rank := w.state;
        outcome := tocsin.settle_doubt(u, which, true);
        job_rank := null;
        if outcome = 'submitted' then
            select min(p.best), min(p.ending) filter (where p.best < 40) into job_rank, ending
            from (select max(coalesce(s.receipt_state, 10)) as best,
                         max(tocsin.receipt_ending(s.receipt_state, s.receipt_reason, s.receipt_error, s.reason))
                             filter (where s.receipt_state < 40) as ending
                  from tocsin.sent s where s.job_id = u.id group by s.part) p;
            insert into tocsin.event_log (at, seq, xid, app, type, subject, client_ref, category, reason, detail)
            values (now(), tocsin.event_seq(1), pg_current_xact_id(), u.app, 'job.' || tocsin.state_name(job_rank), u.id::text,
                    u.client_ref, u.category, case when job_rank in (20, 30) then ending[3] end,
                    tocsin.receipt_detail(job_rank, ending[3], ending[4]));
        end if;
        return next;
    end loop;
end $$;

-- ---------------------------------------------------------------- states

-- As before, with the stable reason of the part that decides, and what can be done about an undelivered message.
create or replace view tocsin.job_status with (security_barrier) as
    select r.id as job_id, r.client_ref, r.category, r.lane, 'queued' as state, null::text as reason, r.link, r.parts,
           r.attempt as attempts, r.enqueued_at, null::timestamptz as submitted_at, null::timestamptz as final_at, r.resends,
           null::text as retry
    from tocsin.ready r where r.app = session_user or (select tocsin.sees_all())
    union all
    select d.id, d.client_ref, d.category, d.lane, 'deferred', d.reason, d.link, d.parts, d.attempt, d.enqueued_at, null, null, d.resends,
           null
    from tocsin.deferred d where d.app = session_user or (select tocsin.sees_all())
    union all
    select u.id, u.client_ref, u.category, u.lane, 'uncertain', case when u.session_over then 'SESSION_LOST' else 'UNANSWERED' end, u.link,
           u.parts, u.attempt, u.enqueued_at, u.first_wire_at, null, u.resends, null
    from tocsin.uncertain u where u.app = session_user or (select tocsin.sees_all())
    union all
    select c.job_id, c.client_ref, c.category, c.lane, c.state, c.reason, c.link, c.parts, c.attempt, c.enqueued_at, null, c.closed_at, null,
           null
    from tocsin.closed c where c.app = session_user or (select tocsin.sees_all())
    union all
    select j.job_id, j.client_ref, j.category, j.lane,
           tocsin.state_name(j.rank), case when j.rank < 40 then coalesce(j.ending[3], j.mark) else j.mark end, j.link, j.parts,
           j.attempts, j.enqueued_at, j.submitted_at, case when j.rank > 10 then j.receipt_at end, j.resends,
           case j.rank when 30 then tocsin.receipt_retry(j.ending[3]) end
    from (select p.job_id, max(p.client_ref) as client_ref, max(p.category) as category, max(p.lane) as lane, max(p.link) as link,
                 max(p.parts) as parts, max(p.attempts) as attempts, max(p.enqueued_at) as enqueued_at,
                 min(p.submitted_at) as submitted_at, max(p.receipt_at) as receipt_at,
                 min(p.ending) filter (where p.rank < 40) as ending, max(p.mark) as mark,
                 max(p.resends) as resends, case when count(*) < max(p.parts) then 10 else coalesce(min(p.rank), 10) end as rank
          from (select s.job_id, s.part, max(s.client_ref) as client_ref, max(s.category) as category, max(s.lane) as lane,
                       max(s.link) as link, max(s.parts) as parts, max(s.attempt) as attempts, max(s.enqueued_at) as enqueued_at,
                       min(s.submitted_at) as submitted_at, max(s.receipt_at) as receipt_at,
                       max(tocsin.receipt_ending(s.receipt_state, s.receipt_reason, s.receipt_error, s.reason))
                           filter (where s.receipt_state < 40) as ending,
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
               null::timestamptz, c.closed_at, null::smallint, null::text
        from tocsin.closed c where c.job_id = wanted and (c.app = session_user or everyone) limit 1;
    if found then return; end if;
    return query
        select d.id, d.client_ref, d.category, d.lane, 'deferred', d.reason, d.link, d.parts, d.attempt, d.enqueued_at,
               null::timestamptz, null::timestamptz, d.resends, null::text
        from tocsin.deferred d where d.id = wanted and (d.app = session_user or everyone) limit 1;
    if found then return; end if;
    return query
        select u.id, u.client_ref, u.category, u.lane, 'uncertain', case when u.session_over then 'SESSION_LOST' else 'UNANSWERED' end,
               u.link, u.parts, u.attempt, u.enqueued_at, u.first_wire_at, null::timestamptz, u.resends,
               null::text
        from tocsin.uncertain u where u.id = wanted and (u.app = session_user or everyone);
    if found then return; end if;
    return query
        select r.id, r.client_ref, r.category, r.lane, 'queued', null::text, r.link, r.parts, r.attempt, r.enqueued_at,
               null::timestamptz, null::timestamptz, r.resends, null::text
        from tocsin.find_ready(wanted) r where r.app = session_user or everyone;
    if found then return; end if;
    return query
        select wanted, j.client_ref, j.category, j.lane, tocsin.state_name(j.rank),
               case when j.rank < 40 then coalesce(j.ending[3], j.mark) else j.mark end, j.link, j.parts, j.attempts, j.enqueued_at,
               j.submitted_at, case when j.rank > 10 then j.receipt_at end, j.resends,
               case j.rank when 30 then tocsin.receipt_retry(j.ending[3]) end
        from (select max(p.client_ref) as client_ref, max(p.category) as category, max(p.lane) as lane, max(p.link) as link,
                     max(p.parts) as parts, max(p.attempts) as attempts, max(p.enqueued_at) as enqueued_at,
                     min(p.submitted_at) as submitted_at, max(p.receipt_at) as receipt_at,
                 min(p.ending) filter (where p.rank < 40) as ending, max(p.mark) as mark,
                     max(p.resends) as resends, case when count(*) < max(p.parts) then 10 else coalesce(min(p.rank), 10) end as rank
              from (select s.part, max(s.client_ref) as client_ref, max(s.category) as category, max(s.lane) as lane,
                           max(s.link) as link, max(s.parts) as parts, max(s.attempt) as attempts, max(s.enqueued_at) as enqueued_at,
                           min(s.submitted_at) as submitted_at, max(s.receipt_at) as receipt_at,
                           max(tocsin.receipt_ending(s.receipt_state, s.receipt_reason, s.receipt_error, s.reason))
                               filter (where s.receipt_state < 40) as ending,
                           max(case s.reason when 'POSSIBLE_DUPLICATE' then s.reason end) as mark,
                           max(coalesce(s.resends, 0::smallint)) as resends,
                           max(coalesce(s.receipt_state, (select 10 from tocsin.link l where l.name = s.link and l.receipts = 'all')))
                               as rank
                    from tocsin.sent s where s.job_id = wanted and (s.app = session_user or everyone)
                    group by s.part) p
              having count(*) > 0) j;
end $$;

revoke execute on all functions in schema tocsin from public;
