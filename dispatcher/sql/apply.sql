-- name: apply_lock
-- One instance at a time applies its file, until its transaction ends. $1 the lock's key.
select pg_advisory_xact_lock($1::bigint);

-- name: apply_links
-- Makes the rows of the links what the file says; a link that it no longer names is switched off and kept, since jobs and
-- evidence name it. $1 the links as a JSON array of objects. What daemons and operators write (owner, beat, paused) stays.
-- Where a link cuts texts in another way now, the rest of a message of which parts are out would not fit what is out: its number of
-- parts is made one that no cut gives, and it ends as PARTIAL when its turn comes.
-- Locks: no key update on the rows that differ, none on the others: no fence of a claim or settle waits for it; such messages' rows.
-- Returns the number of rows written.
with given as materialized (
    select * from jsonb_to_recordset($1::text::jsonb)
        g (name text, account text, position int, alphabet text, concatenation text, receipts text, national_tables text[], substitute bool)
), cuts_anew as materialized (
    select g.name from given g join tocsin.link l using (name)
    where (g.alphabet, g.concatenation, g.national_tables, g.substitute) is distinct from
          (l.alphabet, l.concatenation, l.national_tables, l.substitute)
), begun_ready as (
    update tocsin.ready r set parts = case r.parts when 255 then 254 else 255 end
    where exists (select from cuts_anew) and r.link in (select c.name from cuts_anew c) and r.done is not null
), begun_deferred as (
    update tocsin.deferred r set parts = case r.parts when 255 then 254 else 255 end
    where exists (select from cuts_anew) and r.link in (select c.name from cuts_anew c) and r.done is not null
), absent as (
    update tocsin.link l set enabled = false where l.enabled and l.name not in (select g.name from given g) returning l.name
), present as (
    insert into tocsin.link (name, account, position, enabled, alphabet, concatenation, receipts, national_tables, substitute)
    select name, account, position, true, alphabet, concatenation, receipts, national_tables, substitute from given
    except
    select name, account, position, enabled, alphabet, concatenation, receipts, national_tables, substitute from tocsin.link
    on conflict (name) do update
    set account = excluded.account, position = excluded.position, enabled = true, alphabet = excluded.alphabet,
        concatenation = excluded.concatenation, receipts = excluded.receipts, national_tables = excluded.national_tables,
        substitute = excluded.substitute
    returning name
)
select ((select count(*) from absent) + (select count(*) from present))::int as written;

-- name: apply_categories
-- Makes the rows of the categories what the file says, shipped ones included. One that the file no longer names keeps its row:
-- jobs and evidence name it, and without a sender that allows it nothing new comes in. $1 a JSON array of objects.
-- Locks: the rows written. Returns their number.
with present as (
    insert into tocsin.category (name, lane, time_to_live, on_doubt, stop, flash, max_parts, keep_text_days, substitute, consent,
                                 job_states)
    select name, lane, make_interval(secs => time_to_live_s), on_doubt, stop, flash, max_parts, keep_text_days, substitute, consent,
           job_states
    from jsonb_to_recordset($1::text::jsonb)
        g (name text, lane smallint, time_to_live_s float8, on_doubt text, stop text, flash text, max_parts smallint,
           keep_text_days smallint, substitute bool, consent bool, job_states bool)
    except
    select name, lane, time_to_live, on_doubt, stop, flash, max_parts, keep_text_days, substitute, consent, job_states
    from tocsin.category
    on conflict (name) do update
    set lane = excluded.lane, time_to_live = excluded.time_to_live, on_doubt = excluded.on_doubt, stop = excluded.stop,
        flash = excluded.flash, max_parts = excluded.max_parts, keep_text_days = excluded.keep_text_days,
        substitute = excluded.substitute, consent = excluded.consent, job_states = excluded.job_states
    returning name
)
select count(*)::int as written from present;

-- name: apply_senders
-- Makes the senders what the file says: others go, since a row is a permission. $1 a JSON array of objects.
-- Locks: the rows written. Returns their number.
with given as materialized (
    select * from jsonb_to_recordset($1::text::jsonb) g (address text, position int, categories text[], links text[])
), absent as (
    delete from tocsin.sender s where s.address not in (select g.address from given g) returning s.address
), present as (
    insert into tocsin.sender (address, position, categories, links)
    select address, position, categories, links from given
    except
    select address, position, categories, links from tocsin.sender
    on conflict (address) do update
    set position = excluded.position, categories = excluded.categories, links = excluded.links
    returning address
)
select ((select count(*) from absent) + (select count(*) from present))::int as written;

-- name: apply_routes
-- Makes the routes what the file says; others go. $1 a JSON array of objects. Locks: the rows written. Returns their number.
with given as materialized (
    select * from jsonb_to_recordset($1::text::jsonb) g (prefix text, category text, links text[], weights int[])
), absent as (
    delete from tocsin.route r where (r.prefix, r.category) not in (select g.prefix, g.category from given g) returning r.prefix
), present as (
    insert into tocsin.route (prefix, category, links, weights)
    select prefix, category, links, weights from given
    except
    select prefix, category, links, weights from tocsin.route
    on conflict (prefix, category) do update set links = excluded.links, weights = excluded.weights
    returning prefix
)
select ((select count(*) from absent) + (select count(*) from present))::int as written;

-- name: apply_auto_replies
-- Makes the automatic replies what the file says; others go. $1 a JSON array of objects. Locks: the rows written. Returns their number.
with given as materialized (
    select * from jsonb_to_recordset($1::text::jsonb) g (kind text, sender text, language text, body text)
), absent as (
    delete from tocsin.auto_reply r where (r.kind, r.sender, r.language) not in (select g.kind, g.sender, g.language from given g)
    returning r.kind
), present as (
    insert into tocsin.auto_reply (kind, sender, language, body)
    select kind, sender, language, body from given
    except
    select kind, sender, language, body from tocsin.auto_reply
    on conflict (kind, sender, language) do update set body = excluded.body
    returning kind
)
select ((select count(*) from absent) + (select count(*) from present))::int as written;

-- name: apply_policy
-- Makes the policy what the file says. $1 a JSON array of one object. Locks: its row. Returns the number of rows written.
with present as (
    insert into tocsin.policy (duplicate_text_within, duplicate_texts)
    select make_interval(secs => duplicate_text_within_s), duplicate_texts
    from jsonb_to_recordset($1::text::jsonb) g (duplicate_text_within_s float8, duplicate_texts int)
    except
    select duplicate_text_within, duplicate_texts from tocsin.policy
    on conflict (only_one) do update
    set duplicate_text_within = excluded.duplicate_text_within, duplicate_texts = excluded.duplicate_texts
    returning only_one
)
select count(*)::int as written from present;

-- name: apply_policy_rules
-- Makes the windows and caps what the file says; others go. $1 a JSON array of objects. Locks: the rows written. Returns their number.
with given as materialized (
    select * from jsonb_to_recordset($1::text::jsonb) g (kind text, category text, prefix text, rule jsonb)
), absent as (
    delete from tocsin.policy_rule r where (r.kind, r.category, r.prefix) not in (select g.kind, g.category, g.prefix from given g)
    returning r.kind
), present as (
    insert into tocsin.policy_rule (kind, category, prefix, rule)
    select kind, category, prefix, rule from given
    except
    select kind, category, prefix, rule from tocsin.policy_rule
    on conflict (kind, category, prefix) do update set rule = excluded.rule
    returning kind
)
select ((select count(*) from absent) + (select count(*) from present))::int as written;

-- name: apply_keywords
-- Makes the words of keywords what the file says; others go. $1 a JSON array of objects. Locks: the rows written. Returns their number.
with given as materialized (
    select distinct on (tocsin.normal_form(g.word), g.sender) tocsin.normal_form(g.word) as form, g.sender, g.name, g.body
    from jsonb_to_recordset($1::text::jsonb) g (word text, sender text, name text, body text)
), absent as (
    delete from tocsin.keyword k where (k.form, k.sender) not in (select g.form, g.sender from given g) returning k.form
), present as (
    insert into tocsin.keyword (form, sender, name, body)
    select form, sender, name, body from given
    except
    select form, sender, name, body from tocsin.keyword
    on conflict (form, sender) do update set name = excluded.name, body = excluded.body
    returning form
)
select ((select count(*) from absent) + (select count(*) from present))::int as written;

-- name: apply_known_words
-- Makes the words that apps may not take for their own what this version knows. $1 a JSON array of objects. Locks: the rows written.
-- Returns their number.
with given as materialized (
    select distinct on (form) * from jsonb_to_recordset($1::text::jsonb) g (form text, kind text) order by form, kind
), absent as (
    delete from tocsin.known_word k where k.form not in (select g.form from given g) returning k.form
), present as (
    insert into tocsin.known_word (form, kind)
    select form, kind from given
    except
    select form, kind from tocsin.known_word
    on conflict (form) do update set kind = excluded.kind
    returning form
)
select ((select count(*) from absent) + (select count(*) from present))::int as written;

-- name: apply_note
-- Notes which file the rows came from and which rules they come to, unless the latest note says so already. $1 the file's hash, $2 rows
-- written. Locks: none but its row.
insert into tocsin.applied (file_hash, policy)
select $1::text, p.policy from (select tocsin.policy_digest() as policy) p
where $2::int > 0
   or not exists (select from (select a.file_hash, a.policy from tocsin.applied a order by a.at desc limit 1) latest
                  where latest.file_hash = $1::text and latest.policy = p.policy);
