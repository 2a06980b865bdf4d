-- As before, but without a search_path of its own: a function with one is called for each text in place of being written into the statement,
-- at 7 us a text in enqueue_many. Every caller has a search_path.
create or replace function tocsin.count_parts(body text, alphabet text, concatenation text, national_tables text[], substitute boolean) returns int
language sql stable parallel safe as $$
    select case when octet_length(body) <= case alphabet when 'latin1' then 140 else 160 end and tocsin.is_plain(body) then 1
                when alphabet = 'gsm7' and (substitute or cardinality(national_tables) > 0) and not tocsin.is_gsm7(body)
                    then tocsin.count_other_parts(body, concatenation, national_tables, substitute)
                else tocsin.count_any_parts(body, alphabet, concatenation) end
$$;
