-- Long messages from handsets are joined: parts are kept as they come, and closed with the message that they make.
create sequence tocsin.inbound_part_id;
alter table tocsin.inbound_part add column part_id bigint not null default nextval('tocsin.inbound_part_id');
-- what is open is found, and closed, by these: of a part that is closed nothing stands in the second one
create index inbound_part_by_id on tocsin.inbound_part (part_id);
create index inbound_part_open on tocsin.inbound_part (link, received_at) where inbound_id is null;

alter table tocsin.inbound add column parts smallint not null default 1;    -- of a message that came whole: 1
alter table tocsin.inbound add column missing smallint[];                   -- numbers of the parts that never came; null: none

create or replace view tocsin.inbox as
    select inbound_id, link, source, destination, text, class, received_at, parts, coalesce(cardinality(missing), 0) as missing
    from tocsin.inbound;
