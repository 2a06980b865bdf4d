-- name: backend
-- Which process of the server carries this session. Locks: none.
select pid, backend_start from pg_stat_activity where pid = pg_backend_pid();

-- name: end_backend
-- Ends the process $1 that began at $2, a session of ours whose connection broke: its statement may still wait for a lock,
-- and commit later. One row that says whether it is gone; none when there is no such process. Waits 5 s at most. Locks: none.
select pg_terminate_backend(pid, 5000) as gone from pg_stat_activity
where pid = $1 and pid <> pg_backend_pid() and backend_start = $2::timestamptz and usename = current_user;

-- name: notify_alive
-- The listener's own sign of life, heard on its own connection.
select pg_notify('tocsin_alive', $1);

-- name: notify_events
-- A hint to readers of tocsin.event that new ones exist.
select pg_notify('tocsin_event', '');
