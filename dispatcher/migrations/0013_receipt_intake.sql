-- Receipts are answered once they are kept here as they came, and applied after that: an SMSC leaves only so many deliver_sm
-- unanswered, and one insert turns its window around faster than the update of as many segments.

-- Receipts that were answered and are not yet applied: one row a link and write of the daemon. A row goes when each of its
-- receipts is applied or stands in receipt_wait. What a process left is read by the next owner of the link.
create table tocsin.receipt_taken (
    id        bigint generated always as identity primary key,
    link      text not null,
    taken_at  timestamptz not null default now(),
    receipts  text not null                              -- JSON, [message id, state, error, source, destination, submitted on] each
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
alter table tocsin.receipt_taken alter column receipts set storage external;    -- it lives for milliseconds: not worth compressing

revoke all on tocsin.receipt_taken from public;
