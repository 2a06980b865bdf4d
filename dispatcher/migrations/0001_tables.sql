-- The queue's tables. Units: instants are timestamptz; `link`, `lane`, `id` name a job while it is queued.
--
--   ready      may go now                  one index only: its primary key (a second one made claims 300 times slower)
--   deferred   may not go yet
--   claim      the journal: what an owner may be writing; committed before the first submit_sm of its batch
--   uncertain  written and unanswered; the only place where a text outlives the wire
--   sent       one row for each accepted submit_sm, and for each whose doubt ended; no text
--   closed     jobs that ended before the SMSC took them
--
-- sent, sent_text, closed, receipt_wait, inbound, inbound_part and event_log are split by UTC day
-- (tocsin.make_partitions); there is no default partition: a missing day is an error that is seen.

do $$
begin
    if current_setting('server_encoding') <> 'UTF8' then
        raise exception 'the database encoding is %, tocsin needs UTF8', current_setting('server_encoding');
    end if;
end $$;

create table tocsin.link (
    name         text primary key,
    account      text not null,                         -- carrier account; links of one account share receipts
    position     int not null default 0,                -- order of the file
    enabled      boolean not null default true,         -- false once the file no longer names it
    alphabet     text not null default 'gsm7' check (alphabet in ('gsm7', 'latin1', 'ascii')),
    concatenation text not null default 'udh8' check (concatenation in ('udh8', 'udh16', 'sar', 'payload')),
    receipts     text not null default 'all' check (receipts in ('all', 'failures', 'none')),
    paused       boolean not null default false,
    owner        text,                                  -- instance name and its random id; null: nobody
    epoch        bigint not null default 0,             -- fencing number, one higher at each take-over
    beat         bigint not null default 0,             -- the owner adds one every 2 s
    state        text not null default 'unbound',
    state_since  timestamptz not null default now()
) with (fillfactor = 50);

create table tocsin.category (
    name            text primary key,
    lane            smallint not null check (lane between 0 and 5),
    time_to_live    interval not null check (time_to_live > interval '0'),
    on_doubt        text not null check (on_doubt in ('resend', 'hold')),
    stop            text not null check (stop in ('applies', 'recorded', 'exempt')),
    flash           text not null check (flash in ('yes', 'no', 'never')),
    max_parts       smallint not null check (max_parts between 1 and 255),
    keep_text_days  smallint not null default 0 check (keep_text_days >= 0),
    paused          boolean not null default false
);

create table tocsin.sender (
    address     text primary key,
    position    int not null,                           -- the first one that allows a category is its default
    categories  text[] not null,
    links       text[]                                  -- where it is provisioned; null: on every link
);

create table tocsin.route (
    prefix  text primary key check (prefix ~ '^[0-9]{0,15}$'),
    links   text[] not null                             -- in order of preference
);

create table tocsin.applied (                           -- which file the rows above came from
    at         timestamptz not null default now(),
    file_hash  text not null,
    by_user    text not null default session_user
);

create table tocsin.suppression (
    recipient   text not null,
    sender      text not null,                          -- the address the STOP was sent to; '' for every sender
    reason      text not null,
    evidence    jsonb not null default '{}',
    at          timestamptz not null default now(),
    primary key (recipient, sender)
);

create sequence tocsin.job_id as bigint cache 1;        -- cache 1: ids must not be handed out ahead
create sequence tocsin.batch_id as bigint;
create sequence tocsin.inbound_id as bigint;

create table tocsin.ready (
    link           text not null,
    lane           smallint not null check (lane between 0 and 5),
    id             bigint not null,
    app            text not null,
    client_ref     text,
    recipient      text not null check (recipient !~ '[^0-9]' and length(recipient) between 7 and 15 and not starts_with(recipient, '0')),
    sender         text not null,
    body           text not null check (body <> ''),
    category       text not null,
    flash          boolean not null,
    options        jsonb,                               -- null: none were given
    enqueued_at    timestamptz not null,
    due_at         timestamptz not null,
    expires_at     timestamptz not null,
    cancel_group   text,
    attempt        smallint not null default 0,
    resends        smallint not null default 0,         -- times it was sent again after doubt
    parts          smallint not null check (parts between 1 and 255),
    done           varbit,                              -- parts already accepted, part 1 first; null: none
    first_wire_at  timestamptz,
    primary key (link, lane, id)
) with (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0,
        autovacuum_analyze_threshold = 500);

create table tocsin.deferred (
    due_at         timestamptz not null,
    id             bigint not null,
    link           text not null,
    lane           smallint not null check (lane between 0 and 5),
    app            text not null,
    client_ref     text,
    recipient      text not null check (recipient !~ '[^0-9]' and length(recipient) between 7 and 15 and not starts_with(recipient, '0')),
    sender         text not null,
    body           text not null check (body <> ''),
    category       text not null,
    flash          boolean not null,
    options        jsonb,
    enqueued_at    timestamptz not null,
    expires_at     timestamptz not null,
    cancel_group   text,
    attempt        smallint not null default 0,
    resends        smallint not null default 0,
    parts          smallint not null check (parts between 1 and 255),
    done           varbit,
    first_wire_at  timestamptz,
    reason         text,                                -- why it waits: SCHEDULED, RETRY_..., RESEND
    primary key (due_at, id)
);
create index on tocsin.deferred (id);

create table tocsin.claim (
    batch  bigint not null,
    link   text not null,
    lane   smallint not null,
    epoch  bigint not null,
    ids    bigint[] not null,
    at     timestamptz not null default now(),
    primary key (batch, link, lane)
) with (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0,
        autovacuum_analyze_threshold = 500);

create table tocsin.uncertain (
    id             bigint primary key,
    link           text not null,
    lane           smallint not null,
    app            text not null,
    client_ref     text,
    recipient      text not null,
    sender         text not null,
    body           text not null,
    category       text not null,
    flash          boolean not null,
    options        jsonb,
    enqueued_at    timestamptz not null,
    due_at         timestamptz not null,
    expires_at     timestamptz not null,
    cancel_group   text,
    attempt        smallint not null,
    resends        smallint not null,
    parts          smallint not null,
    done           varbit,
    first_wire_at  timestamptz,
    doubt          varbit not null,                     -- parts written and unanswered, part 1 first
    since          timestamptz not null default now()
);

create table tocsin.sent (
    submitted_at    timestamptz not null,
    job_id          bigint not null,
    part            smallint not null,
    parts           smallint not null,
    attempt         smallint not null,
    link            text not null,
    destination     text not null,
    sender          text not null,
    category        text not null,
    lane            smallint not null,
    client_ref      text,
    enqueued_at     timestamptz not null,
    app             text not null,
    reason          text,                               -- FENCED, DOUBT; null: plainly accepted
    message_id      text,                               -- null: doubt that ended without an answer
    command_status  bigint not null default 0,
    receipt_state   smallint check (receipt_state in (20, 30, 40)),   -- unknown, undelivered, delivered; null: awaited
    receipt_error   text,
    receipt_at      timestamptz
) partition by range (submitted_at);
create index on tocsin.sent (job_id);
create index on tocsin.sent (link, message_id);

create table tocsin.sent_text (
    drop_on  timestamptz not null,                      -- partition key: the day it is dropped
    job_id   bigint not null,
    body     text not null
) partition by range (drop_on);
create index on tocsin.sent_text (job_id);

create table tocsin.closed (
    closed_at    timestamptz not null,
    job_id       bigint not null,
    app          text not null,
    client_ref   text,
    recipient    text not null,
    sender       text,
    category     text not null,
    lane         smallint not null,
    link         text,
    state        text not null check (state in ('blocked', 'cancelled', 'expired', 'failed')),
    reason       text not null,
    parts        smallint not null,
    attempt      smallint not null,
    enqueued_at  timestamptz not null
) partition by range (closed_at);
create index on tocsin.closed (job_id);

create table tocsin.receipt_wait (                      -- receipts that nobody could match (yet): kept, never dropped
    received_at   timestamptz not null,
    id            bigint not null,
    link          text not null,
    message_id    text not null,
    forms         text[] not null,                      -- of the id: exact first, then hex and decimal readings
    state         smallint not null,                    -- as in sent.receipt_state
    error         text,
    source        text not null,
    destination   text not null,
    submitted_on  text not null,                        -- as the SMSC wrote it
    matched_at    timestamptz,
    counted       boolean not null default false        -- told as unmatched
) partition by range (received_at);
create index on tocsin.receipt_wait (id);
create sequence tocsin.receipt_wait_id as bigint;

create table tocsin.inbound (
    received_at  timestamptz not null,
    inbound_id   bigint not null,
    link         text not null,
    source       text not null,
    destination  text not null,
    text         text not null,
    class        text not null,                         -- text, binary
    octets       bytea,                                 -- user data as received; null once text says it all
    data_coding  smallint not null,
    esm_class    smallint not null,
    digest       bytea not null                         -- of link, addresses, coding and octets: tells a repetition
) partition by range (received_at);
create index on tocsin.inbound (inbound_id);
create index on tocsin.inbound (digest);

create table tocsin.inbound_part (
    received_at     timestamptz not null,
    link            text not null,
    source          text not null,
    destination     text not null,
    reference       int not null,
    reference_bits  smallint not null,
    parts           smallint not null,
    part            smallint not null,
    text            text not null,
    octets          bytea not null,
    data_coding     smallint not null,
    esm_class       smallint not null,
    digest          bytea not null,
    inbound_id      bigint                              -- of the whole message, once joined
) partition by range (received_at);
create index on tocsin.inbound_part (link, source, destination, reference);

create table tocsin.event_log (
    at       timestamptz not null,
    seq      bigint not null,                           -- (xid << 20) + number within the transaction
    xid      xid8 not null,
    app      text not null,
    type     text not null,
    subject  text not null,
    client_ref  text,                                   -- the view `event` builds its data of these four: at the
    category    text,                                   -- reading, since building jsonb cost more than the whole insert
    reason      text,
    detail      jsonb
) partition by range (at);
create index on tocsin.event_log (seq);

create table tocsin.idempotency (
    app           text not null,
    key           text not null,
    request_hash  bytea not null,
    job_id        bigint not null,
    at            timestamptz not null,
    primary key (app, key)
);
create index on tocsin.idempotency (at);

-- Partitions of one UTC day each, made by LIKE and ATTACH so that no reader of the parent is kept waiting.
create function tocsin.make_partitions(days_ahead int) returns int
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    parent  text;
    day     date;
    child   text;
    made    int := 0;
    storage text;
begin
    foreach parent in array array['sent', 'sent_text', 'closed', 'receipt_wait', 'inbound', 'inbound_part', 'event_log'] loop
        storage := case parent when 'sent' then ' with (fillfactor = 85)' when 'receipt_wait' then ' with (fillfactor = 85)' else '' end;
        for n in -1 .. days_ahead loop                  -- yesterday too: an age is taken off the database's clock
            day := (now() at time zone 'UTC')::date + n;
            child := parent || '_' || to_char(day, 'YYYYMMDD');
            if to_regclass('tocsin.' || child) is null then
                execute format('create table tocsin.%I (like tocsin.%I including all)%s', child, parent, storage);
                execute format('alter table tocsin.%I attach partition tocsin.%I for values from (%L) to (%L)', parent, child,
                               day::text || ' 00:00:00+00', (day + 1)::text || ' 00:00:00+00');
                made := made + 1;
            end if;
        end loop;
    end loop;
    return made;
end $$;

select tocsin.make_partitions(14);
