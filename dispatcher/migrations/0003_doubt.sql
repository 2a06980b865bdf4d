-- Late answers, and receipts that fit two segments. Called by the daemon alone.

-- An answer whose job is not in `ready`: it resolves doubt when the job is in `uncertain`, else an accepted one is
-- kept in `sent` with the reason FENCED. Returns resolved, fenced, or null when there was nothing to keep.
create function tocsin.settle_orphan(wanted bigint, which int, of_parts int, attempts int, on_link text, recipient text, from_sender text,
                                     of_category text, of_lane int, enqueued_us bigint, given_id text, age float8, accepted boolean)
    returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    u tocsin.uncertain;
    zero varbit;
begin
    select * into u from tocsin.uncertain t where t.id = wanted for update;
    if found and length(u.doubt) >= which and get_bit(u.doubt, which - 1) = 1
       and (extract(epoch from u.enqueued_at) * 1000000)::bigint = enqueued_us then
        zero := repeat('0', u.parts)::varbit;
        u.doubt := set_bit(u.doubt, which - 1, 0);
        if accepted then
            u.done := set_bit(coalesce(u.done, zero), which - 1, 1);
            insert into tocsin.sent (submitted_at, job_id, part, parts, attempt, link, destination, sender, category, lane, client_ref,
                                     enqueued_at, app, message_id)
            values (now() - make_interval(secs => age), u.id, which, u.parts, u.attempt, u.link, u.recipient, u.sender, u.category, u.lane,
                    u.client_ref, u.enqueued_at, u.app, given_id);
        end if;
        if u.doubt <> zero then
            update tocsin.uncertain t set done = u.done, doubt = u.doubt where t.id = wanted;
        else
            delete from tocsin.uncertain t where t.id = wanted;
            if u.done is null or position('0' in u.done::text) > 0 then     -- parts remain: they are in no doubt, send them
                insert into tocsin.deferred (due_at, id, link, lane, app, client_ref, recipient, sender, body, category, flash, options,
                                             enqueued_at, expires_at, cancel_group, attempt, resends, parts, done, first_wire_at, reason)
                values (now(), u.id, u.link, u.lane, u.app, u.client_ref, u.recipient, u.sender, u.body, u.category, u.flash, u.options,
                        u.enqueued_at, u.expires_at, u.cancel_group, u.attempt, u.resends, u.parts, u.done, u.first_wire_at, 'RETRY_LATE_ANSWER');
            end if;
        end if;
        return 'resolved';
    end if;
    if accepted and not exists (select from tocsin.sent s                  -- a flush whose commit was not seen is repeated
                                where s.job_id = wanted and s.part = which and s.message_id = given_id) then
        insert into tocsin.sent (submitted_at, job_id, part, parts, attempt, link, destination, sender, category, lane, enqueued_at, app,
                                 reason, message_id)
        values (now() - make_interval(secs => age), wanted, which, of_parts, attempts, on_link, recipient, from_sender, of_category, of_lane,
                to_timestamp(enqueued_us / 1000000.0), coalesce((select c.app from tocsin.closed c where c.job_id = wanted limit 1), ''),
                'FENCED', given_id);
        return 'fenced';
    end if;
    return null;
end $$;

-- Undoes the statement that calls it: a receipt raised more than one segment, and nothing is guessed.
create function tocsin.refuse_ambiguity() returns boolean
language plpgsql volatile as $$
begin
    raise exception 'a receipt fits more than one segment' using errcode = 'TC300';
end $$;

revoke execute on all functions in schema tocsin from public;
