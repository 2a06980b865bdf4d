-- [book
begin;
insert into frontdesk.appointment (id, phone, at) values (1, '+447700900123', '2035-01-15 14:30+00');

select job_id, outcome, reason
from tocsin.enqueue('+447700900123', 'Your appointment is on 15 January at 14:30. Reply YES to confirm.',
                    category => 'transactional',
                    idempotency_key => 'reminder-1',
                    not_before => '2035-01-14 09:00+00',
                    client_ref => 'appointment 1') \gset

update frontdesk.appointment set job_id = :job_id, outcome = :'outcome' where id = 1;
commit;
-- book]

-- [again
select job_id, outcome
from tocsin.enqueue('+447700900123', 'Your appointment is on 15 January at 14:30. Reply YES to confirm.',
                    category => 'transactional',
                    idempotency_key => 'reminder-1',
                    not_before => '2035-01-14 09:00+00',
                    client_ref => 'appointment 1');
-- again]

-- [many
select item, job_id, outcome, reason
from tocsin.enqueue_many('[
    {"recipient": "+447700900124", "body": "The clinic opens at 10:00 today.", "category": "informational"},
    {"recipient": "+33612345678",  "body": "The clinic opens at 10:00 today.", "category": "informational"},
    {"recipient": "+447700900125", "body": "",                                 "category": "informational"}
]') order by item;
-- many]

-- [cancel
select tocsin.cancel(1);
-- cancel]

-- [status
select state, reason, retry, parts, attempts, final_at from tocsin.job_status(1);
-- status]

-- [evidence
select at, what, part, link, reason, policy, detail from tocsin.job_evidence(1);
-- evidence]

-- [read
begin;
select seq as after from frontdesk.progress where reader = 'outcomes' for update \gset

create temporary table news on commit drop as
    select seq, type, subject, data from tocsin.event where seq > :after order by seq limit 100;
select * from news order by seq;

-- Here each of them is dealt with, in this same transaction; then the last one's number is kept.
update frontdesk.progress set seq = (select max(seq) from news)
where reader = 'outcomes' and exists (select from news);
commit;
-- read]

-- [replies
insert into frontdesk.reply (inbound_id, phone, text, at)
select inbound_id, source, text, received_at from tocsin.inbox
where inbound_id = 1                                    -- the event's subject
on conflict do nothing;
-- replies]
