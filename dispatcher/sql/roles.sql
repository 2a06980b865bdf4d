-- name: roles_lock
-- Roles and grants change one at a time, and not during a migration, until the transaction ends. $1 the migrators' key.
select pg_advisory_xact_lock($1::bigint);

-- name: missing_roles
-- Which of the roles the cluster does not have yet. Locks: none.
select wanted as name
from unnest(array['tocsin_app', 'tocsin_daemon', 'tocsin_auditor', 'tocsin_owner']) wanted
where not exists (select from pg_roles r where r.rolname = wanted) order by wanted;

-- name: create_roles
-- Makes the roles that are missing: groups without login, which an operator grants to users. They belong to the cluster,
-- so another database's migration may have made them meanwhile. Needs CREATEROLE when one is missing.
do $$
declare
    wanted text;
begin
    foreach wanted in array array['tocsin_app', 'tocsin_daemon', 'tocsin_auditor', 'tocsin_owner'] loop
        begin
            if not exists (select from pg_roles where rolname = wanted) then
                execute format('create role %I nologin', wanted);
            end if;
        exception when duplicate_object or unique_violation then
            null;
        end;
    end loop;
end $$;

-- name: grant_roles
-- Takes back what the roles have in the schema and grants what they need, so that the result does not depend on the past.
-- Partitions are reached through their parents, which alone are granted.
-- Locks: rows of the catalogue; statements that run are not disturbed. Needs the schema's owner.
do $$
declare
    everyone constant text := 'tocsin_app, tocsin_daemon, tocsin_auditor, tocsin_owner';
    granted text;
begin
    revoke all on schema tocsin from public;
    revoke all on all tables in schema tocsin from public;
    revoke all on all functions in schema tocsin from public;
    execute 'revoke all on schema tocsin from ' || everyone;
    execute 'revoke all on all tables in schema tocsin from ' || everyone;
    execute 'revoke all on all sequences in schema tocsin from ' || everyone;
    execute 'revoke all on all functions in schema tocsin from ' || everyone;
    execute 'grant usage on schema tocsin to ' || everyone;

    -- apps: the functions and the views. A view's own functions are called with its reader's rights.
    grant execute on function tocsin.enqueue, tocsin.enqueue_many, tocsin.cancel, tocsin.cancel_group, tocsin.job_status, tocsin.suppress, tocsin.lift,
                              tocsin.record_consent, tocsin.revoke_consent, tocsin.consent_evidence, tocsin.check, tocsin.job_evidence,
                              tocsin.sees_all, tocsin.state_name, tocsin.receipt_retry, tocsin.receipt_ending to tocsin_app;
    grant select on tocsin.job_status, tocsin.inbox, tocsin.event to tocsin_app;

    -- auditors: evidence and configuration. No column that holds what was written to or by a person: body, text, octets,
    -- options, evidence of a suppression.
    grant execute on function tocsin.job_status, tocsin.job_evidence, tocsin.sees_all, tocsin.state_name, tocsin.receipt_retry, tocsin.receipt_ending
        to tocsin_auditor;
    grant select on tocsin.job_status, tocsin.event, tocsin.sent, tocsin.closed, tocsin.event_log, tocsin.receipt_wait, tocsin.claim,
                    tocsin.link, tocsin.instance, tocsin.category, tocsin.sender, tocsin.route, tocsin.applied, tocsin.migration, 
                    tocsin.operator_log, tocsin.resent, tocsin.inquiry, tocsin.policy_rule to tocsin_auditor;
    grant select on tocsin.suppression, tocsin.consent to tocsin_auditor;
    grant select (id, at, captured_at, recipient, category, action, method, shown, language, place, person, by_user)
        on tocsin.consent_event to tocsin_auditor;
    grant select (id, at, recipient, scope, value, action, reason, source, by_user, inbound_id) on tocsin.suppression_event to tocsin_auditor;
    grant select (inbound_id, link, source, destination, class, received_at, parts, missing) on tocsin.inbox to tocsin_auditor;
    grant select (received_at, inbound_id, link, source, destination, class, data_coding, esm_class, digest, parts, missing)
        on tocsin.inbound to tocsin_auditor;
    grant select (received_at, link, source, destination, reference, reference_bits, parts, part, data_coding, esm_class, digest,
                  inbound_id, part_id) on tocsin.inbound_part to tocsin_auditor;
    grant select (id, link, lane, app, client_ref, recipient, sender, category, flash, enqueued_at, due_at, expires_at,
                  cancel_group, attempt, resends, parts, done, first_wire_at, doubt, since, session_over, written_at) on tocsin.uncertain to tocsin_auditor;

    -- daemons: every row, no definition. Partitions are made and dropped with their owner's rights.
    alter function tocsin.make_partitions(int) security definer;
    alter function tocsin.drop_partition(int) security definer;
    for granted in
        select c.oid::regclass::text from pg_class c
        where c.relnamespace = 'tocsin'::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition
    loop
        execute 'grant select, insert, update, delete on ' || granted || ' to tocsin_daemon, tocsin_owner';
    end loop;
    revoke insert, update, delete on tocsin.migration from tocsin_daemon;
    revoke update, delete on tocsin.operator_log, tocsin.suppression_event, tocsin.consent_event
        from tocsin_daemon, tocsin_owner;
    grant usage on all sequences in schema tocsin to tocsin_daemon, tocsin_owner;
    grant execute on all functions in schema tocsin to tocsin_daemon, tocsin_owner;
end $$;
