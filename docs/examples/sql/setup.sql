-- Once, by a user who may make roles and schemas. `tocsin migrate --roles` has made tocsin_app before.
create role frontdesk login;                            -- give it a password, or a line of its own in pg_hba.conf
grant tocsin_app to frontdesk;                          -- may call the functions and read the three views; no more
create schema frontdesk authorization frontdesk;

set role frontdesk;
create table frontdesk.appointment (
    id       bigint primary key,
    phone    text not null,
    at       timestamptz not null,
    job_id   bigint unique,                             -- of its reminder
    outcome  text,                                      -- the last that is known of the reminder
    reason   text
);
create table frontdesk.reply (
    inbound_id  bigint primary key,                     -- a reply is stored once, whatever happens
    phone       text not null,
    text        text not null,
    at          timestamptz not null
);
create table frontdesk.progress (                       -- how far the events were read
    reader  text primary key,
    seq     bigint not null
);
insert into frontdesk.progress values ('outcomes', 0);
reset role;
