-- Jobs that their link refused and that another link of their route is to try: found by this index, of which little is there at a time.
create index deferred_other_link on tocsin.deferred (id) where starts_with(reason, 'OTHER_LINK_');
