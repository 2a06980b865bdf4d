-- What belongs together is taken back together: by its app, or by the first answer to one of them, also while the app is down.

create index ready_cancel_group on tocsin.ready (app, cancel_group) where cancel_group is not null;
create index deferred_cancel_group on tocsin.deferred (app, cancel_group) where cancel_group is not null;

alter table tocsin.expectation add column cancel_group text;

-- Cancels what waits of an app's group, each job as `cancel` does; what is on its way or has ended is not among them.
-- Locks: as cancel. Indexes: ready and deferred (app, cancel_group).
create function tocsin.cancel_waiting(of_app text, of_group text) returns table (job_id bigint, outcome text)
language plpgsql volatile set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off as $$
begin
    for job_id in select r.id from tocsin.ready r where (r.app, r.cancel_group) = (of_app, of_group)
                  union select d.id from tocsin.deferred d where (d.app, d.cancel_group) = (of_app, of_group) order by 1 loop
        outcome := tocsin.cancel(job_id);
        return next;
    end loop;
end $$;

-- For apps: their own.
create function tocsin.cancel_group(cancel_group text) returns table (job_id bigint, outcome text)
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    select * from tocsin.cancel_waiting(session_user, cancel_group)
$$;

create or replace function tocsin.await_answer() returns trigger
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    expect constant jsonb := new.options -> 'expect';
begin
    insert into tocsin.expectation (job_id, app, client_ref, category, sender, peer, answers, code, about, deadline,
                                    cancel_group)
    values (new.id, new.app, new.client_ref, new.category, ltrim(new.sender, '+'), new.recipient,
            (select jsonb_object_agg(tocsin.normal_form(a.word), a.means) from jsonb_each(expect -> 'answers') a (word, means)),
            expect ->> 'code', expect ->> 'subject',
            case jsonb_typeof(expect -> 'deadline')
                when 'string' then (expect ->> 'deadline')::timestamptz
                else new.due_at + make_interval(secs => coalesce((expect ->> 'deadline')::float8, 259200)) end,
            new.cancel_group)
    on conflict do nothing;
    return null;
end $$;

-- As before, and the first answer takes back what still waits of the question's group.
-- Finds what a reply answers, and notes it: `answer`, `ambiguous`, or null where it answers nothing. Of `ambiguous` the answers that
-- would be clear, as words with codes; null where that was asked already, or no code helps.
-- Locks: an advisory one on the number, where anything is expected of it; rows of the group. Index: expectation (sender, peer).
create or replace function tocsin.take_answer(inbound bigint, own text, number text, said text, out class text, out clear text)
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    form   text;
    plain  text;
    words  text[];
    one    tocsin.expectation;
    fits   tocsin.expectation[] := '{}';
    says   text;
    coded  boolean := false;
    needless bigint[];
begin
    if not exists (select from tocsin.expectation e where (e.sender, e.peer) = (own, number) and e.deadline > now()) then
        return;
    end if;
    perform pg_advisory_xact_lock(hashtextextended('tocsin.suppression ' || number, 0));
    form := tocsin.normal_form(said);
    plain := coalesce(nullif(tocsin.without_politeness(form), ''), form);
    words := string_to_array(plain, ' ');
    -- those whose code stands in the reply; else those whose words fit. An answered one last: it is asked no more.
    for one in select e.* from tocsin.expectation e
               where (e.sender, e.peer) = (own, number) and e.deadline > now() and tocsin.was_asked(e.job_id)
                 and (e.code = any (words) or e.answers ? form or e.answers ? plain)
               order by coalesce(e.code = any (words), false) desc, e.answer is null desc, e.job_id desc limit 50 loop
        exit when cardinality(fits) > 0
                  and (coded <> coalesce(one.code = any (words), false) or one.answer is not null or fits[1].answer is not null);
        coded := coalesce(one.code = any (words), false);
        fits := fits || one;
    end loop;
    if cardinality(fits) = 0 then
        return;
    end if;
    one := fits[1];
    if cardinality(fits) > 1 and not coded
       and (select count(distinct f.about) = 1 and count(f.about) = count(*) from unnest(fits) f) then
        -- one question, asked more than once: the latest stands for all
        delete from tocsin.expectation e using unnest(fits) f where e.job_id = f.job_id and e.job_id <> one.job_id;
        fits := array[one];
    end if;
    if cardinality(fits) > 1 then
        class := 'ambiguous';
        perform tocsin.tell_reply('ambiguous', f, jsonb_build_object('inbound_id', inbound)) from unnest(fits) f;
        if not coded then
            select string_agg(case when f.answers ? form then form else plain end || ' ' || f.code, ', ' order by f.job_id)
            into clear from unnest(fits[:5]) f where f.code is not null and exists (select from unnest(fits) g where not g.asked_which);
            update tocsin.expectation e set unclear = case when e.answers ? form then form else plain end, asked_which = true
            from unnest(fits) f where e.job_id = f.job_id;
        end if;
        return;
    end if;
    if coded then
        plain := array_to_string(array_remove(words, one.code), ' ');
        form := plain;
        if plain = '' then                               -- a code alone repeats what was unclear, or is the only answer there is
            form := coalesce(one.unclear, case when (select count(distinct a.means) from jsonb_each_text(one.answers) a (word, means)) = 1
                                               then (select min(a.word) from jsonb_each_text(one.answers) a (word, means)) end);
        end if;
    end if;
    says := coalesce(one.answers ->> form, one.answers ->> plain);
    if says is null then
        return;
    end if;
    class := 'answer';
    if one.answer is distinct from says then
        update tocsin.expectation e set answer = says, unclear = null where e.job_id = one.job_id;
        if one.answer is null and one.cancel_group is not null then
            begin
                select array_agg(c.job_id order by c.job_id) filter (where c.outcome = 'cancelled') into needless
                from tocsin.cancel_waiting(one.app, one.cancel_group) c;
            exception when lock_not_available or deadlock_detected then
                needless := null;                        -- the reply is stored all the same; its app may cancel them
            end;
        end if;
        perform tocsin.tell_reply(case when one.answer is null then 'matched' else 'changed' end, one,
                                  jsonb_strip_nulls(jsonb_build_object('inbound_id', inbound, 'answer', says, 'cancelled', needless)));
    end if;
end $$;

revoke execute on all functions in schema tocsin from public;
