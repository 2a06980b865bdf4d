-- The category's rule for doubt, to its end: sent again by the next link, marked as a possible duplicate, resolved by a
-- late answer or by a receipt. The statements that call these functions stand in sql/doubt.sql.

alter table tocsin.uncertain
    add column session_over boolean not null default false,   -- the session of the write is over: no answer can come any more
    add column written_at timestamptz;                        -- of the last part in doubt; null: not known (recovered after a kill)
create index on tocsin.uncertain (recipient);                 -- a receipt without a known id asks by it

-- null: never sent again, as nearly all. Costs no octet where it is null.
alter table tocsin.sent add column resends smallint;

-- Writes that nobody answered and that were repeated. The job has moved on, but a receipt may still be theirs: they are
-- candidates when a receipt is tried by its addresses. No text.
create table tocsin.resent (
    id          bigint not null,
    link        text not null,                                -- that the unanswered write went by
    recipient   text not null,
    sender      text not null,
    written_at  timestamptz,
    at          timestamptz not null default now()
);
create index on tocsin.resent (recipient);
create index on tocsin.receipt_wait (source);

-- ---------------------------------------------------------------- sent again

-- The link after `after_link` in the message's route, counted round, that can send now: enabled, not paused, owned and
-- bound. Null when no other one can. A link that the route no longer names comes before all of it.
create function tocsin.next_link(recipient text, sender text, after_link text) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select tocsin.next_able(recipient, sender, after_link,
                            array(select l.name from tocsin.link l
                                  where l.enabled and not l.paused and l.owner is not null and l.state = 'bound'))
$$;

-- Puts a job that was taken out of `uncertain` into `deferred`, due now, as the row says.
create function tocsin.defer(u tocsin.uncertain, why text) returns void
language sql volatile set search_path = pg_catalog, pg_temp as $$
    insert into tocsin.deferred (due_at, id, link, lane, app, client_ref, recipient, sender, body, category, flash, options, enqueued_at,
                                 expires_at, cancel_group, attempt, resends, parts, done, first_wire_at, reason)
    values (now(), u.id, u.link, u.lane, u.app, u.client_ref, u.recipient, u.sender, u.body, u.category, u.flash, u.options,
            u.enqueued_at, u.expires_at, u.cancel_group, u.attempt, u.resends, u.parts, u.done, u.first_wire_at, why)
$$;

-- Puts a job that was taken out of `uncertain` into `deferred`, due now: the parts not accepted go once more, by the next
-- link. What was accepted in part stays on its link: parts of one message go one way; so does what would need more parts
-- elsewhere than its category allows. Parts whose answer was kept as FENCED meanwhile count as accepted. Returns the link,
-- or null when nothing is left to send. Index: sent (job_id).
create function tocsin.send_again(u tocsin.uncertain, why text) returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    accepted int;
    to_link  text;
    of_parts smallint;
begin
    for accepted in select distinct s.part from tocsin.sent s
                    where s.job_id = u.id and s.parts = u.parts and s.message_id is not null
                      and s.submitted_at > u.enqueued_at - interval '1 minute' loop
        u.done := set_bit(coalesce(u.done, repeat('0', u.parts)::varbit), accepted - 1, 1);
    end loop;
    if position('0' in u.done::text) = 0 then
        perform tocsin.keep_text(u.id, u.category, u.body);
        perform tocsin.tell(u.app, 'job.submitted', u.id, u.client_ref, u.category, null);
        return null;
    end if;
    insert into tocsin.resent (id, link, recipient, sender, written_at) values (u.id, u.link, u.recipient, u.sender, u.written_at);
    u.resends := u.resends + 1;
    if u.done is null then
        to_link := tocsin.next_link(u.recipient, u.sender, u.link);
        of_parts := tocsin.parts_on(u.body, u.category, to_link);
        if of_parts is not null then
            u.link := to_link;
            u.parts := of_parts;
        end if;
    end if;
    perform tocsin.defer(u, why);
    insert into tocsin.event_log (at, seq, xid, app, type, subject, client_ref, category, reason, detail)
    values (now(), tocsin.event_seq(1), pg_current_xact_id(), u.app, 'job.resent', u.id::text, u.client_ref, u.category, why,
            jsonb_build_object('resends', u.resends));
    return u.link;
end $$;

-- Keeps the text of a job that was accepted, where its category says so.
create function tocsin.keep_text(of_job bigint, of_category text, body text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    insert into tocsin.sent_text (drop_on, job_id, body)
    select tocsin.text_drop_on(c.keep_text_days), of_job, keep_text.body
    from tocsin.category c where c.name = of_category and c.keep_text_days > 0;
end $$;

-- Sends the parts of a job that are in doubt once more, though the SMSC may have taken them: an operator's decision.
-- Returns requeued, too_late (its time is over, or it is in doubt no more) or unknown. Locks: the row of uncertain.
create or replace function tocsin.requeue(wanted bigint, reason text, person text) returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp set lock_timeout = '5s' as $$
declare
    u tocsin.uncertain;
begin
    delete from tocsin.uncertain t where t.id = wanted and t.expires_at > now() returning * into u;
    if not found then
        return case when exists (select from tocsin.job_status(wanted)) then 'too_late' else 'unknown' end;
    end if;
    if tocsin.send_again(u, 'REQUEUED') is null then
        return 'too_late';                               -- its parts were accepted after all
    end if;
    perform tocsin.audit('requeue', 'job', wanted::text, reason, person);
    return 'requeued';
end $$;

-- ---------------------------------------------------------------- resolved

-- One part of a job in doubt was answered. Returns doubtful (other parts still are), resolved (none is, the parts not
-- accepted go now) or submitted (every part was accepted). The caller holds the row of uncertain.
create function tocsin.settle_doubt(u tocsin.uncertain, which int, accepted boolean) returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    zero constant varbit := repeat('0', u.parts)::varbit;
begin
    u.doubt := set_bit(u.doubt, which - 1, 0);
    if accepted then
        u.done := set_bit(coalesce(u.done, zero), which - 1, 1);
    end if;
    if u.doubt <> zero then
        update tocsin.uncertain t set done = u.done, doubt = u.doubt where t.id = u.id;
        return 'doubtful';
    end if;
    delete from tocsin.uncertain t where t.id = u.id;
    if u.done is null or position('0' in u.done::text) > 0 then     -- parts remain: they are in no doubt, send them
        perform tocsin.defer(u, 'RETRY_LATE_ANSWER');
        return 'resolved';
    end if;
    perform tocsin.keep_text(u.id, u.category, u.body);
    return 'submitted';
end $$;

-- An answer whose job is not where it was. It resolves doubt when the job is in `uncertain`; when the job waits to be sent
-- again, the part that was accepted after all is taken out of that, and it is not sent again. Else an accepted one is kept
-- in `sent` with the reason FENCED. Returns doubtful, resolved or submitted (settle_doubt), spared (the rest is still sent
-- again), withdrawn (nothing is left to send), fenced, or null when there was nothing to keep.
create or replace function tocsin.settle_orphan(wanted bigint, which int, of_parts int, attempts int, on_link text, recipient text,
                                                from_sender text, of_category text, of_lane int, enqueued_us bigint, given_id text,
                                                age float8, accepted boolean)
    returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    at      constant timestamptz := now() - make_interval(secs => age);
    u       tocsin.uncertain;
    outcome text;
    round   int;
begin
    for round in 1 .. 2 loop                             -- once more from the start: a retry flows backwards
        select * into u from tocsin.uncertain t where t.id = wanted for update;
        if found and length(u.doubt) >= which and get_bit(u.doubt, which - 1) = 1
           and (extract(epoch from u.enqueued_at) * 1000000)::bigint = enqueued_us then
            if accepted then
                insert into tocsin.sent (submitted_at, job_id, part, parts, attempt, link, destination, sender, category, lane, client_ref,
                                         enqueued_at, app, reason, message_id, resends)
                values (at, u.id, which, u.parts, u.attempt, u.link, u.recipient, u.sender, u.category, u.lane, u.client_ref,
                        u.enqueued_at, u.app, case when u.resends > 0 then 'POSSIBLE_DUPLICATE' end, given_id, nullif(u.resends, 0));
            end if;
            outcome := tocsin.settle_doubt(u, which, accepted);
            if outcome = 'submitted' then
                perform tocsin.tell(u.app, 'job.submitted', u.id, u.client_ref, u.category, null);
            end if;
            return outcome;
        end if;
        if accepted then
            outcome := tocsin.spare(wanted, which, of_parts, on_link, enqueued_us, given_id, at);
            if outcome is not null then
                return outcome;
            end if;
        end if;
    end loop;
    if accepted and not exists (select from tocsin.sent s                  -- a flush whose commit was not seen is repeated
                                where s.job_id = wanted and s.part = which and s.message_id = given_id) then
        insert into tocsin.sent (submitted_at, job_id, part, parts, attempt, link, destination, sender, category, lane, enqueued_at, app,
                                 reason, message_id)
        values (at, wanted, which, of_parts, attempts, on_link, recipient, from_sender, of_category, of_lane,
                to_timestamp(enqueued_us / 1000000.0), coalesce((select c.app from tocsin.closed c where c.job_id = wanted limit 1), ''),
                'FENCED', given_id);
        return 'fenced';
    end if;
    return null;
end $$;

-- Takes one part, accepted after all by `on_link`, out of a job that waits in `deferred` or `ready` to be sent again.
-- What a journal names is left alone (take_ready): it may be on the wire. What remains goes by the link that has the part:
-- parts of one message go one way. Returns spared, withdrawn, or null when the job does not wait so.
create function tocsin.spare(wanted bigint, which int, of_parts int, on_link text, enqueued_us bigint, given_id text, at timestamptz)
    returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    d tocsin.deferred;
    r tocsin.ready;
begin
    select * into d from tocsin.deferred t where t.id = wanted for update;
    if not found then
        select * into r from tocsin.find_ready(wanted);
        if not found or not tocsin.can_spare(r.resends, r.enqueued_at, enqueued_us, r.parts, r.done, which, of_parts) then
            return null;
        end if;
        select * into r from tocsin.take_ready(r.link, r.lane, wanted);
        if not found then
            return null;
        end if;
        insert into tocsin.deferred (due_at, id, link, lane, app, client_ref, recipient, sender, body, category, flash, options, enqueued_at,
                                     expires_at, cancel_group, attempt, resends, parts, done, first_wire_at, reason)
        values (now(), r.id, r.link, r.lane, r.app, r.client_ref, r.recipient, r.sender, r.body, r.category, r.flash, r.options,
                r.enqueued_at, r.expires_at, r.cancel_group, r.attempt, r.resends, r.parts, r.done, r.first_wire_at, 'RESEND')
        returning * into d;
    elsif not tocsin.can_spare(d.resends, d.enqueued_at, enqueued_us, d.parts, d.done, which, of_parts) then
        return null;
    end if;
    d.parts := of_parts;
    d.done := set_bit(coalesce(d.done, repeat('0', of_parts)::varbit), which - 1, 1);
    insert into tocsin.sent (submitted_at, job_id, part, parts, attempt, link, destination, sender, category, lane, client_ref,
                             enqueued_at, app, reason, message_id, resends)
    values (at, d.id, which, of_parts, d.attempt, on_link, d.recipient, d.sender, d.category, d.lane, d.client_ref, d.enqueued_at, d.app,
            -- the first resend was not written yet: then there was one write, and no duplicate
            case when d.resends > 1 or d.reason not in ('RESEND', 'REQUEUED') then 'POSSIBLE_DUPLICATE' end, given_id, d.resends);
    if position('0' in d.done::text) > 0 then
        update tocsin.deferred t set done = d.done, parts = d.parts, link = on_link where t.id = wanted;
        return 'spared';
    end if;
    delete from tocsin.deferred t where t.id = wanted;
    perform tocsin.keep_text(d.id, d.category, d.body);
    perform tocsin.tell(d.app, 'job.submitted', d.id, d.client_ref, d.category, null);
    return 'withdrawn';
end $$;

-- Whether an accepted part is one that the waiting job would send again: the same job, sent again, the part not done, and
-- counted as its link counted it, unless nothing is done yet.
create function tocsin.can_spare(resends smallint, enqueued_at timestamptz, enqueued_us bigint, parts smallint, done varbit, which int,
                                 of_parts int) returns boolean
language sql immutable as $$
    select resends > 0 and (extract(epoch from enqueued_at) * 1000000)::bigint = enqueued_us
       and (done is null or parts = of_parts and get_bit(done, which - 1) = 0)
$$;

-- Receipts that fit no message id, tried by their addresses, as the last thing before they are told as unmatched. `parked`
-- are ids of receipt_wait. A part in doubt is taken as accepted, and in the receipt's state, when there is nothing to choose:
--   * the receipt names an id that no segment of its account has in any reading, and both addresses, which are recipient
--     and sender of the job, either way round, digit by digit (a plus apart);
--   * no other job in doubt on the account has these two, nor one whose doubt ended unanswered or by sending it again within
--     the horizon, but for those written after the receipt came;
--   * no other unmatched receipt has these two and came after the write;
--   * one part of the job is in doubt, and it was written before the receipt came.
-- Else it stays unmatched: nothing is guessed. query_sm could not help: it asks by the SMSC's message_id, which a submit_sm
-- without an answer does not have.
-- Returns a row for each receipt that resolved one: job_rank is the job's state once every part has an end.
-- Locks: the row of uncertain. Indexes: receipt_wait (id), (source); uncertain and resent (recipient); sent (link, message_id),
-- (job_id).
create function tocsin.resolve_by_receipts(parked bigint[], horizon_s float8)
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
                                 enqueued_at, app, reason, message_id, resends, receipt_state, receipt_error, receipt_at)
        values (coalesce(u.written_at, u.since), u.id, which, u.parts, u.attempt, u.link, u.recipient, u.sender, u.category, u.lane,
                u.client_ref, u.enqueued_at, u.app, case when u.resends > 0 then 'POSSIBLE_DUPLICATE' else 'DOUBT_RECEIPT' end,
                w.message_id, nullif(u.resends, 0), w.state, w.error, now());
        update tocsin.receipt_wait p set matched_at = now() where p.id = w.id and p.received_at = w.received_at;
        job_id := u.id;
        link := u.link;
        category := u.category;
        rank := w.state;
        outcome := tocsin.settle_doubt(u, which, true);
        job_rank := null;
        if outcome = 'submitted' then
            select min(p.best) into job_rank
            from (select max(coalesce(s.receipt_state, 10)) as best from tocsin.sent s where s.job_id = u.id group by s.part) p;
            perform tocsin.tell(u.app, 'job.' || tocsin.state_name(job_rank), u.id, u.client_ref, u.category,
                                case when job_rank in (20, 30) then w.error end);
        end if;
        return next;
    end loop;
end $$;

-- ---------------------------------------------------------------- what apps ask and see

-- What was in doubt once and waits to be sent again may have arrived: it is too late to cancel it.
create or replace function tocsin.cancel(job_id bigint) returns text
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp set lock_timeout = '2s'
set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off as $$
declare
    wanted constant bigint := job_id;
    everyone constant boolean := tocsin.sees_all();
    w  tocsin.deferred;
    r  tocsin.ready;
    round int;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'cancel: needs a new snapshot for each statement; call it in a read committed transaction'
            using errcode = 'TC425';
    end if;
    for round in 1 .. 2 loop                             -- once more from the start: a retry flows backwards
        delete from tocsin.deferred d
        where d.id = wanted and (d.app = session_user or everyone) and d.done is null and d.resends = 0 returning * into w;
        if found then
            insert into tocsin.closed (closed_at, job_id, app, client_ref, recipient, sender, category, lane, link, state, reason,
                                       parts, attempt, enqueued_at)
            values (now(), w.id, w.app, w.client_ref, w.recipient, w.sender, w.category, w.lane, w.link, 'cancelled', 'CANCELLED',
                    w.parts, w.attempt, w.enqueued_at);
            perform tocsin.tell(w.app, 'job.cancelled', w.id, w.client_ref, w.category, 'CANCELLED');
            return 'cancelled';
        end if;
        select * into r from tocsin.find_ready(wanted);
        if found and (r.app = session_user or everyone) then
            if r.done is not null or r.resends > 0 then
                return 'too_late';
            end if;
            select * into r from tocsin.take_ready(r.link, r.lane, wanted);
            if found then
                insert into tocsin.closed (closed_at, job_id, app, client_ref, recipient, sender, category, lane, link, state,
                                           reason, parts, attempt, enqueued_at)
                values (now(), r.id, r.app, r.client_ref, r.recipient, r.sender, r.category, r.lane, r.link, 'cancelled',
                        'CANCELLED', r.parts, r.attempt, r.enqueued_at);
                perform tocsin.tell(r.app, 'job.cancelled', r.id, r.client_ref, r.category, 'CANCELLED');
                return 'cancelled';
            end if;
        end if;
    end loop;
    return coalesce((select case c.state when 'cancelled' then 'cancelled' else 'too_late' end from tocsin.closed c
                     where c.job_id = wanted and (c.app = session_user or everyone) limit 1),
                    (select 'too_late' from tocsin.job_status(wanted) limit 1), 'unknown');
end $$;

-- As before, with `resends` (null for what ended before acceptance) and the mark of a possible duplicate, over which the
-- error of a receipt goes until the job is delivered.
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
                 max(p.resends) as resends, case when count(*) < max(p.parts) then 10 else min(p.rank) end as rank
          from (select s.job_id, s.part, max(s.client_ref) as client_ref, max(s.category) as category, max(s.lane) as lane,
                       max(s.link) as link, max(s.parts) as parts, max(s.attempt) as attempts, max(s.enqueued_at) as enqueued_at,
                       min(s.submitted_at) as submitted_at, max(s.receipt_at) as receipt_at,
                       max(coalesce(s.receipt_error, case s.reason when 'DOUBT' then s.reason end))
                           filter (where s.receipt_state < 40) as error,
                       max(case s.reason when 'POSSIBLE_DUPLICATE' then s.reason end) as mark,
                       max(coalesce(s.resends, 0::smallint)) as resends,
                       max(coalesce(s.receipt_state, 10)) as rank
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
                     max(p.resends) as resends, case when count(*) < max(p.parts) then 10 else min(p.rank) end as rank
              from (select s.part, max(s.client_ref) as client_ref, max(s.category) as category, max(s.lane) as lane,
                           max(s.link) as link, max(s.parts) as parts, max(s.attempt) as attempts, max(s.enqueued_at) as enqueued_at,
                           min(s.submitted_at) as submitted_at, max(s.receipt_at) as receipt_at,
                           max(coalesce(s.receipt_error, case s.reason when 'DOUBT' then s.reason end))
                               filter (where s.receipt_state < 40) as error,
                           max(case s.reason when 'POSSIBLE_DUPLICATE' then s.reason end) as mark,
                           max(coalesce(s.resends, 0::smallint)) as resends,
                           max(coalesce(s.receipt_state, 10)) as rank
                    from tocsin.sent s where s.job_id = wanted and (s.app = session_user or everyone)
                    group by s.part) p
              having count(*) > 0) j;
end $$;

revoke execute on all functions in schema tocsin from public;
