-- The ids of a claim are in the journal for some milliseconds: not worth compressing, which was 5 % of what a claim costs. Above this they are
-- moved out and compressed as ever.
alter table tocsin.claim set (toast_tuple_target = 8160);
