-- Without a search_path of its own: with one it is called for each text in place of being written into the statement, at 7 us a text in
-- enqueue_many. Every caller has a search_path.
alter function tocsin.count_parts(text, text, text, text[], boolean) reset all;
