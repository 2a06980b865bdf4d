-- name: notify_alive
-- The listener's own sign of life, heard on its own connection.
select pg_notify('tocsin_alive', $1);

-- name: notify_events
-- A hint to readers of tocsin.event that new ones exist.
select pg_notify('tocsin_event', '');
