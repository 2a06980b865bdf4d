-- The clinic's own role, schema and tables; once, by a user who may make them, after `tocsin migrate --roles`.
create role clinic login;
grant tocsin_app to clinic;                             -- Tocsin's functions and three views, and nothing else of it
create schema clinic authorization clinic;

set role clinic;

create table clinic.appointment (
    id           bigint generated always as identity primary key,
    request      text not null unique,                  -- what the booking form sent: asked twice, booked once
    phone        text not null,                         -- digits, with the country code
    at           timestamptz not null,
    moved        int not null default 0,                -- how often
    state        text not null default 'booked' check (state in ('booked', 'confirmed', 'to move', 'to call')),
    answered_by  bigint                                 -- the reply of Tocsin that answered last
);
create index on clinic.appointment (phone, at);

create table clinic.reminder (
    job_id          bigint primary key,                 -- of Tocsin
    appointment_id  bigint not null references clinic.appointment,
    moved           int not null,                       -- of which of its times
    state           text not null,                      -- queued, deferred, blocked; then as its events say
    reason          text
);

create table clinic.reply (
    inbound_id      bigint primary key,                 -- of Tocsin: a reply counts once
    appointment_id  bigint references clinic.appointment,    -- null: nobody knows what it is about
    text            text not null,
    at              timestamptz not null
);

create table clinic.reading (
    one  boolean primary key default true check (one),  -- one row
    seq  bigint not null                                -- of the last event that was dealt with
);
insert into clinic.reading (seq) values (0);

reset role;
