-- name: server_facts
-- The server as `tocsin check` judges it. Locks: none.
select current_setting('server_version_num')::int as version, current_setting('server_version') as version_text,
       current_setting('server_encoding') as encoding, current_setting('fsync') as fsync,
       current_setting('full_page_writes') as full_page_writes, current_setting('synchronous_commit') as synchronous_commit,
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int as connections,
       current_user as user_name;

-- name: check_recipient
-- What tocsin.check says of a message: $1 recipient, $2 category, $3 sender (null: the first that allows it). Locks: none.
select step, verdict, reason, detail from tocsin.check($1::text, $2::text, $3::text);

-- name: log_settings
-- What the server writes into its own log, as this user's sessions have it. Settings that this server lacks are null.
-- Times in milliseconds, lengths in octets, -1: off or without limit. Locks: none.
select current_setting('log_statement') as log_statement,
       (select setting from pg_settings where name = 'log_min_duration_statement') as log_min_duration_statement,
       (select setting from pg_settings where name = 'log_min_duration_sample') as log_min_duration_sample,
       current_setting('log_transaction_sample_rate')::float8 as log_transaction_sample_rate,
       (select setting from pg_settings where name = 'log_parameter_max_length') as log_parameter_max_length,
       (select setting from pg_settings where name = 'log_parameter_max_length_on_error') as log_parameter_max_length_on_error,
       current_setting('log_min_error_statement') as log_min_error_statement,
       current_setting('log_error_verbosity') as log_error_verbosity,
       (select setting from pg_settings where name = 'auto_explain.log_min_duration') as auto_explain_log_min_duration;

-- name: missing_privileges
-- What the daemon needs and this user lacks. Locks: none.
select t.name from unnest(array['ready', 'deferred', 'claim', 'uncertain', 'sent', 'closed', 'receipt_taken', 'receipt_wait', 'inbound', 'event_log',
                                'link', 'category']) t (name)
where exists (select from unnest(array['select', 'insert', 'update', 'delete']) p (name)
              where not has_table_privilege('tocsin.' || t.name, p.name));

-- name: applied_hash
-- Which file was applied last. Index: none; the table has a row a change of the file. Locks: none.
select a.file_hash from tocsin.applied a order by a.at desc limit 1;
