-- What a reply answers: the question that a job asked, by its keyset and its code.
--
--   expectation   one open question a job; answered, it stays until its deadline, so that another answer is known for one
--   keyword       words that people send of their own accord
--   known_word    normal forms of words that mean STOP, START or HELP, and words of politeness, as this version knows them

-- The normal form of what was written by hand: as dispatcher/recogniser.py folds it, but for letters that no word of STOP, START or
-- HELP has. Both a keyset's words and the replies to it pass here, so a word never differs from itself.
create function tocsin.normal_form(said text) returns text
language plpgsql immutable strict parallel safe set search_path = pg_catalog, pg_temp as $$
declare
    kept    constant text :=                             -- letters, digits and marks outside ASCII, and what NFKC leaves none of
               '\u00a0\u00a8\u00aa\u00af\u00b2-\u00b5\u00b8-\u00ba\u00bc-\u00be\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02c1\u02c6-\u02d1'
               '\u02d8-\u02dd\u02e0-\u02e4\u02ec\u02ee\u0300-\u0374\u0376-\u03f5\u03f7-\u0481\u0483-\u0487\u048a-\u0559\u0560-\u0588'
               '\u0591-\u05bd\u05bf\u05c1-\u05c2\u05c4-\u05c5\u05c7-\u05f2\u0610-\u061a\u0620-\u063f\u0641-\u064a\u0653-\u0669'
               '\u066e-\u066f\u0671-\u06d3\u06d5-\u06dc\u06df-\u06e8\u06ea-\u06fc\u06ff\u0710-\u07f5\u07fa-\u07fd\u0800-\u082d'
               '\u0840-\u085b\u0860-\u0887\u0889-\u088e\u0898-\u08e1\u08e3-\u0963\u0966-\u096f\u0971-\u09f1\u09f4-\u09f9\u09fc'
               '\u09fe-\u0a75\u0a81-\u0aef\u0af9-\u0b6f\u0b71-\u0bf2\u0c00-\u0c6f\u0c78-\u0c7e\u0c80-\u0c83\u0c85-\u0d4e\u0d54-\u0d78'
               '\u0d7a-\u0df3\u0e01-\u0e3a\u0e40-\u0e4e\u0e50-\u0e59\u0e81-\u0f00\u0f0c\u0f18-\u0f19\u0f20-\u0f33\u0f35\u0f37\u0f39'
               '\u0f3e-\u0f84\u0f86-\u0fbc\u0fc6\u1000-\u1049\u1050-\u109d\u10a0-\u10fa\u10fc-\u135f\u1369-\u138f\u13a0-\u13fd'
               '\u1401-\u166c\u166f-\u167f\u1681-\u169a\u16a0-\u16ea\u16ee-\u1734\u1740-\u17d3\u17d7\u17dc-\u17f9\u180b-\u180d'
               '\u180f-\u193b\u1946-\u19da\u1a00-\u1a1b\u1a20-\u1a99\u1aa7\u1ab0-\u1abd\u1abf-\u1b59\u1b6b-\u1b73\u1b80-\u1bf3'
               '\u1c00-\u1c37\u1c40-\u1c7d\u1c80-\u1cbf\u1cd0-\u1cd2\u1cd4-\u200a\u2011\u2017\u2024-\u2026\u202f\u2033-\u2034'
               '\u2036-\u2037\u203c\u203e\u2047-\u2049\u2057\u205f\u2070-\u209c\u20a8\u20d0-\u20dc\u20e1\u20e5-\u2103\u2105-\u2107'
               '\u2109-\u2113\u2115-\u2116\u2119-\u211d\u2120-\u2122\u2124\u2126\u2128\u212a-\u212d\u212f-\u2139\u213b-\u2140'
               '\u2145-\u2149\u214e\u2150-\u2189\u222c-\u222d\u222f-\u2230\u2329-\u232a\u2460-\u24ff\u2776-\u2793\u2a0c\u2a74-\u2a76'
               '\u2adc\u2c00-\u2ce4\u2ceb-\u2cf3\u2cfd\u2d00-\u2d6f\u2d7f-\u2dff\u2e2f\u2e9f\u2ef3-\u2fd5\u3000\u3005-\u3007'
               '\u3021-\u302f\u3031-\u3036\u3038-\u303c\u3041-\u309f\u30a1-\u30fa\u30fc-\u318e\u3192-\u31bf\u31f0-\u327e\u3280-\u4dbf'
               '\u4e00-\ua48c\ua4d0-\ua4fd\ua500-\ua60c\ua610-\ua66f\ua674-\ua67d\ua67f-\ua6f1\ua717-\ua71f\ua722-\ua788\ua78b-\ua827'
               '\ua82c-\ua835\ua840-\ua873\ua880-\ua8c5\ua8d0-\ua8f7\ua8fb\ua8fd-\ua92d\ua930-\ua953\ua960-\ua9c0\ua9cf-\ua9d9'
               '\ua9e0-\uaa59\uaa60-\uaa76\uaa7a-\uaadd\uaae0-\uaaef\uaaf2-\uab5a\uab5c-\uab69\uab70-\uabea\uabec-\ud7fb\uf900-\ufbb1'
               '\ufbd3-\ufd3d\ufd50-\ufdc7\ufdf0-\ufdfc\ufe10-\ufe44\ufe47-\ufefc\uff01-\uffee\U00010000-\U000100fa'
               '\U00010107-\U00010133\U00010140-\U00010178\U0001018a-\U0001018b\U000101fd-\U0001039d\U000103a0-\U000103cf'
               '\U000103d1-\U00010563\U00010570-\U00010855\U00010858-\U00010876\U00010879-\U0001091b\U00010920-\U00010939'
               '\U00010980-\U00010a48\U00010a60-\U00010a7e\U00010a80-\U00010ac7\U00010ac9-\U00010aef\U00010b00-\U00010b35'
               '\U00010b40-\U00010b91\U00010ba9-\U00010eac\U00010eb0-\U00010f54\U00010f70-\U00010f85\U00010fb0-\U00011046'
               '\U00011052-\U000110ba\U000110c2\U000110d0-\U0001113f\U00011144-\U00011173\U00011176-\U000111c4\U000111c9-\U000111cc'
               '\U000111ce-\U000111da\U000111dc\U000111e1-\U00011237\U0001123e-\U000112a8\U000112b0-\U0001144a\U00011450-\U00011459'
               '\U0001145e-\U000114c5\U000114c7-\U000115c0\U000115d8-\U00011640\U00011644-\U00011659\U00011680-\U000116b8'
               '\U000116c0-\U0001173b\U00011740-\U0001183a\U000118a0-\U00011943\U00011950-\U000119e1\U000119e3-\U00011a3e'
               '\U00011a47-\U00011a99\U00011a9d\U00011ab0-\U00011c40\U00011c50-\U00011c6c\U00011c72-\U00011ef6\U00011fb0-\U00011fd4'
               '\U00012000-\U0001246e\U00012480-\U00012ff0\U00013000-\U0001342e\U00014400-\U00016a69\U00016a70-\U00016af4'
               '\U00016b00-\U00016b36\U00016b40-\U00016b43\U00016b50-\U00016e96\U00016f00-\U00016fe1\U00016fe3-\U0001bc99'
               '\U0001bc9d-\U0001bc9e\U0001cf00-\U0001cf46\U0001d15e-\U0001d169\U0001d16d-\U0001d172\U0001d17b-\U0001d182'
               '\U0001d185-\U0001d18b\U0001d1aa-\U0001d1ad\U0001d1bb-\U0001d1c0\U0001d242-\U0001d244\U0001d2e0-\U0001d2f3'
               '\U0001d360-\U0001d7ff\U0001da00-\U0001da36\U0001da3b-\U0001da6c\U0001da75\U0001da84\U0001da9b-\U0001e14e'
               '\U0001e290-\U0001e2f9\U0001e7e0-\U0001e959\U0001ec71-\U0001ecab\U0001ecad-\U0001ecaf\U0001ecb1-\U0001ed2d'
               '\U0001ed2f-\U0001eebb\U0001f100-\U0001f10c\U0001f110-\U0001f12e\U0001f130-\U0001f14f\U0001f16a-\U0001f16c\U0001f190'
               '\U0001f200-\U0001f251\U0001fbf0-\U0003134a\U000e0100-\U000e01ef';
    dropped constant text :=                             -- invisible and enclosing characters, tatweel, Arabic vowel signs, variation selectors
               '\u00ad\u0488-\u0489\u0600-\u0605\u061c\u0640\u064b-\u0652\u0670\u06dd\u070f\u0890-\u0891\u08e2\u180e\u1abe'
               '\u200b-\u200f\u202a-\u202e\u2060-\u206f\u20dd-\u20e0\u20e2-\u20e4\ua670-\ua672\ufe00-\ufe0f\ufeff\ufff9-\ufffb'
               '\U000110bd\U000110cd\U00013430-\U00013438\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001-\U000e007f';
    small   constant text :=                             -- to capitals, and to one form of each Arabic letter
               'abcdefghijklmnopqrstuvwxyzµæðøþđħıłŋœŧƀƃƅƈƌƒƕƙƚƞƣƥƨƭƴƶƹƽƿǝǥȝȣȥȼȿɀɂɇɉɋɍɏɐɑɒɓɔɖɗəɛɜɠɡɣɥɦɨɩɪɫɬɯɱɲɵɽʀʂʃʇ'
               'ʈʉʊʋʌʒʝʞͱͳͷͻͼͽάέήίαβγδεζηθικλμνξοπρςστυφχψωϊϋόύώϐϑϕϖϗϙϛϝϟϡϣϥϧϩϫϭϯϰϱϲϳϵϸϻабвгдежзийклмнопрстуфхцчшщъы'
               'ьэюяѐёђѓєѕіїјљњћќѝўџѡѣѥѧѩѫѭѯѱѳѵѷѹѻѽѿҁҋҍҏґғҕҗҙқҝҟҡңҥҧҩҫҭүұҳҵҷҹһҽҿӂӄӆӈӊӌӎӏӑӓӕӗәӛӝӟӡӣӥӧөӫӭӯӱӳӵӷӹӻӽӿԁԃԅԇ'
               'ԉԋԍԏԑԓԕԗԙԛԝԟԡԣԥԧԩԫԭԯաբգդեզէըթժիլխծկհձղճմյնշոչպջռսվտրցւփքօֆأإآٱىةکی٠١٢٣٤٥٦٧٨٩۰۱۲۳۴۵۶۷۸۹०१२३४५६७८९';
    capital constant text :=
               'ABCDEFGHIJKLMNOPQRSTUVWXYZΜÆÐØÞĐĦIŁŊŒŦɃƂƄƇƋƑǶƘȽȠƢƤƧƬƳƵƸƼǷƎǤȜȢȤȻⱾⱿɁɆɈɊɌɎⱯⱭⱰƁƆƉƊƏƐꞫƓꞬƔꞍꞪƗƖꞮⱢꞭƜⱮƝƟⱤƦꟅƩꞱ'
               'ƮɄƱƲɅƷꞲꞰͰͲͶϽϾϿΆΈΉΊΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΣΤΥΦΧΨΩΪΫΌΎΏΒΘΦΠϏϘϚϜϞϠϢϤϦϨϪϬϮΚΡϹͿΕϷϺАБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫ'
               'ЬЭЮЯЀЁЂЃЄЅІЇЈЉЊЋЌЍЎЏѠѢѤѦѨѪѬѮѰѲѴѶѸѺѼѾҀҊҌҎҐҒҔҖҘҚҜҞҠҢҤҦҨҪҬҮҰҲҴҶҸҺҼҾӁӃӅӇӉӋӍӀӐӒӔӖӘӚӜӞӠӢӤӦӨӪӬӮӰӲӴӶӸӺӼӾԀԂԄԆ'
               'ԈԊԌԎԐԒԔԖԘԚԜԞԠԢԤԦԨԪԬԮԱԲԳԴԵԶԷԸԹԺԻԼԽԾԿՀՁՂՃՄՅՆՇՈՉՊՋՌՍՎՏՐՑՒՓՔՕՖاااايهكي012345678901234567890123456789';
    form    text := left(said, 2000);
begin
    if octet_length(form) > length(form) then
        form := regexp_replace(normalize(normalize(form, NFKC), NFD), '[' || dropped || ']+', '', 'g');
        form := normalize(regexp_replace(form, '([A-Za-z\u00c0-\u024f\u1e00-\u1eff])[\u0300-\u036f]+', '\1', 'g'), NFC);
    end if;
    return btrim(regexp_replace(translate(form, small, capital), '[^A-Z0-9' || kept || ']+', ' ', 'g'));
end $$;

create table tocsin.known_word (                          -- as apply has them
    form  text primary key check (form <> ''),
    kind  text not null check (kind in ('asks', 'phrase', 'polite'))    -- phrase: anywhere in a text
);

-- A normal form without words of politeness; '' where it has no others.
create function tocsin.without_politeness(form text) returns text
language sql stable strict set search_path = pg_catalog, pg_temp as $$
    select coalesce(string_agg(w.word, ' ' order by w.n), '') from unnest(string_to_array(form, ' ')) with ordinality w (word, n)
    where w.word not in (select k.form from tocsin.known_word k where k.kind = 'polite')
$$;

-- Whether a normal form would be taken for STOP, START or HELP, and so never for a word of an app's own.
create function tocsin.is_reserved(form text) returns boolean
language sql stable strict set search_path = pg_catalog, pg_temp as $$
    select exists (select from tocsin.known_word k
                   where k.kind = 'asks' and k.form in (is_reserved.form, tocsin.without_politeness(is_reserved.form),
                                                        translate(is_reserved.form, 'АВЕКМНОРСТУХЅІЈԚԜѴΑΒΕΖΗΙΚΜΝΟΡΤΥΧϹ0', upper('abekmhopctyxsijqwvabezhikmnoptyxco')))
                      or k.kind = 'phrase' and strpos(' ' || is_reserved.form || ' ', ' ' || k.form || ' ') > 0)
$$;

-- What is wrong with `expect` of a request's options; null: nothing.
create function tocsin.wrong_expect(expect jsonb) returns text
language plpgsql stable strict set search_path = pg_catalog, pg_temp as $$
declare
    answers constant jsonb := expect -> 'answers';
    until   constant jsonb := expect -> 'deadline';
    others  constant jsonb := case jsonb_typeof(expect) when 'object' then expect - array['answers', 'code', 'deadline', 'subject'] end;
    words   text[];
begin
    if others is null or others <> '{}' then
        return 'options: expect has answers, and code, deadline, subject';
    elsif jsonb_typeof(answers) is distinct from 'object' then
        return 'options: expect.answers is an object of words';
    end if;
    select array_agg(tocsin.normal_form(a.word)) into words from jsonb_each(answers) a (word, means)
    where length(a.word) <= 40 and jsonb_typeof(a.means) = 'string' and length(a.means #>> '{}') between 1 and 64;
    return case
        when coalesce(cardinality(words), 0) not between 1 and 20 or cardinality(words) < (select count(*) from jsonb_object_keys(answers))
            then 'options: expect.answers has 1 to 20 words of at most 40 characters, each with an answer of 1 to 64'
        when '' = any (words) then 'options: expect.answers has a word without letters and digits'
        when (select bool_or(tocsin.is_reserved(w)) from unnest(words) w) then 'options: expect.answers has a word that means STOP, START or HELP'
        when (select count(distinct w) from unnest(words) w) < cardinality(words) then 'options: expect.answers has a word twice'
        when jsonb_typeof(expect -> 'code') <> 'string' or expect ->> 'code' !~ '^[0-9]{2,8}$' then 'options: expect.code is 2 to 8 digits in a text'
        when expect ->> 'code' = any (words) then 'options: expect.code is a word of expect.answers'
        when jsonb_typeof(until) = 'number' and until::text::numeric not between 1 and 2592000
            then 'options: expect.deadline is 1 to 2592000 seconds, or an instant within 400 days'
        when jsonb_typeof(until) = 'string'
             and (tocsin.to_instant(until #>> '{}') between now() and now() + interval '400 days') is not true
            then 'options: expect.deadline is 1 to 2592000 seconds, or an instant within 400 days'
        when jsonb_typeof(until) not in ('number', 'string') then 'options: expect.deadline is 1 to 2592000 seconds, or an instant within 400 days'
        when jsonb_typeof(expect -> 'subject') <> 'string' or length(expect ->> 'subject') not between 1 and 200
            then 'options: expect.subject is a text of 1 to 200 characters'
    end;
end $$;

create or replace function tocsin.wrong_option(options jsonb) returns text
language plpgsql stable strict as $$
declare
    others constant jsonb := case jsonb_typeof(options) when 'object' then options - array['cancel_group', 'tz', 'priority_flag', 'expect'] end;
begin
    return case
        when others is null then 'options: not an object'
        when others <> '{}' then 'options: unknown option ' || tocsin.some_key(others)
        when jsonb_typeof(options -> 'priority_flag') <> 'number' or options ->> 'priority_flag' not in ('0', '1', '2', '3')
            then 'options: priority_flag is 0 to 3'
        when jsonb_typeof(options -> 'cancel_group') <> 'string' or length(options ->> 'cancel_group') not between 1 and 200
            then 'options: cancel_group is a text of 1 to 200 characters'
        when jsonb_typeof(options -> 'tz') <> 'string' then 'options: tz is a text'
        when options ? 'expect' then tocsin.wrong_expect(options -> 'expect')
    end;
end $$;

create table tocsin.expectation (
    job_id       bigint primary key,                     -- the question
    app          text not null,
    client_ref   text,
    category     text not null,
    sender       text not null,                          -- without a plus, as the reply's destination
    peer         text not null,
    answers      jsonb not null,                         -- normal form of each word -> what the app calls it
    code         text,
    about        text,                                   -- `subject` of expect
    deadline     timestamptz not null,
    answer       text,                                   -- null: awaited
    unclear      text,                                   -- what was said when a reply fitted several; null: none did
    asked_which  boolean not null default false          -- and which of them was asked
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);
create index on tocsin.expectation (sender, peer);
create index on tocsin.expectation (deadline);

-- A job that asks something awaits its answer from the enqueue on; `was_asked` says whether it can be answered yet.
create function tocsin.await_answer() returns trigger
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    expect constant jsonb := new.options -> 'expect';
begin
    insert into tocsin.expectation (job_id, app, client_ref, category, sender, peer, answers, code, about, deadline)
    values (new.id, new.app, new.client_ref, new.category, ltrim(new.sender, '+'), new.recipient,
            (select jsonb_object_agg(tocsin.normal_form(a.word), a.means) from jsonb_each(expect -> 'answers') a (word, means)),
            expect ->> 'code', expect ->> 'subject',
            case jsonb_typeof(expect -> 'deadline')
                when 'string' then (expect ->> 'deadline')::timestamptz
                else new.due_at + make_interval(secs => coalesce((expect ->> 'deadline')::float8, 259200)) end)
    on conflict do nothing;
    return null;
end $$;
-- A job's first row has the transaction's own instant; what moves it later has another.
create trigger await_answer after insert on tocsin.ready for each row
    when (new.options ? 'expect' and new.enqueued_at = now()) execute function tocsin.await_answer();
create trigger await_answer after insert on tocsin.deferred for each row
    when (new.options ? 'expect' and new.enqueued_at = now()) execute function tocsin.await_answer();

-- Whether the question may be on a handset: a part of it was accepted, or is in doubt. Index: sent (job_id), uncertain's.
create function tocsin.was_asked(of_job bigint) returns boolean
language sql stable strict set search_path = pg_catalog, pg_temp as $$
    select exists (select from tocsin.sent s where s.job_id = of_job) or exists (select from tocsin.uncertain u where u.id = of_job)
$$;

create function tocsin.tell_reply(what text, about tocsin.expectation, more jsonb) returns void
language sql volatile set search_path = pg_catalog, pg_temp as $$
    insert into tocsin.event_log (at, seq, xid, app, type, subject, client_ref, category, detail)
    values (now(), tocsin.event_seq(1), pg_current_xact_id(), about.app, 'reply.' || what, about.job_id::text, about.client_ref, about.category, more)
$$;

-- Finds what a reply answers, and notes it: `answer`, `ambiguous`, or null where it answers nothing. Of `ambiguous` the answers that
-- would be clear, as words with codes; null where that was asked already, or no code helps.
-- Locks: an advisory one on the number, where anything is expected of it. Index: expectation (sender, peer).
create function tocsin.take_answer(inbound bigint, own text, number text, said text, out class text, out clear text)
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    form   text;
    plain  text;
    words  text[];
    one    tocsin.expectation;
    fits   tocsin.expectation[] := '{}';
    says   text;
    coded  boolean := false;
begin
    if not exists (select from tocsin.expectation e where (e.sender, e.peer) = (own, number) and e.deadline > now()) then
        return;
    end if;
    perform pg_advisory_xact_lock(hashtextextended('tocsin.suppression ' || number, 0));
    form := tocsin.normal_form(said);
    plain := coalesce(nullif(tocsin.without_politeness(form), ''), form);
    words := string_to_array(plain, ' ');
    -- those whose code stands in the reply; else those whose words fit. An answered one last: it is asked no more.
    for one in select e.* from tocsin.expectation e
               where (e.sender, e.peer) = (own, number) and e.deadline > now() and tocsin.was_asked(e.job_id)
                 and (e.code = any (words) or e.answers ? form or e.answers ? plain)
               order by coalesce(e.code = any (words), false) desc, e.answer is null desc, e.job_id desc limit 50 loop
        exit when cardinality(fits) > 0
                  and (coded <> coalesce(one.code = any (words), false) or one.answer is not null or fits[1].answer is not null);
        coded := coalesce(one.code = any (words), false);
        fits := fits || one;
    end loop;
    if cardinality(fits) = 0 then
        return;
    end if;
    one := fits[1];
    if cardinality(fits) > 1 and not coded
       and (select count(distinct f.about) = 1 and count(f.about) = count(*) from unnest(fits) f) then
        -- one question, asked more than once: the latest stands for all
        delete from tocsin.expectation e using unnest(fits) f where e.job_id = f.job_id and e.job_id <> one.job_id;
        fits := array[one];
    end if;
    if cardinality(fits) > 1 then
        class := 'ambiguous';
        perform tocsin.tell_reply('ambiguous', f, jsonb_build_object('inbound_id', inbound)) from unnest(fits) f;
        if not coded then
            select string_agg(case when f.answers ? form then form else plain end || ' ' || f.code, ', ' order by f.job_id)
            into clear from unnest(fits[:5]) f where f.code is not null and exists (select from unnest(fits) g where not g.asked_which);
            update tocsin.expectation e set unclear = case when e.answers ? form then form else plain end, asked_which = true
            from unnest(fits) f where e.job_id = f.job_id;
        end if;
        return;
    end if;
    if coded then
        plain := array_to_string(array_remove(words, one.code), ' ');
        form := plain;
        if plain = '' then                               -- a code alone repeats what was unclear, or is the only answer there is
            form := coalesce(one.unclear, case when (select count(distinct a.means) from jsonb_each_text(one.answers) a (word, means)) = 1
                                               then (select min(a.word) from jsonb_each_text(one.answers) a (word, means)) end);
        end if;
    end if;
    says := coalesce(one.answers ->> form, one.answers ->> plain);
    if says is null then
        return;
    end if;
    class := 'answer';
    if one.answer is distinct from says then
        update tocsin.expectation e set answer = says, unclear = null where e.job_id = one.job_id;
        perform tocsin.tell_reply(case when one.answer is null then 'matched' else 'changed' end, one,
                                  jsonb_build_object('inbound_id', inbound, 'answer', says));
    end if;
end $$;

create table tocsin.keyword (                             -- as the file has them
    form    text not null check (form <> ''),
    sender  text not null,                               -- '': every one
    name    text not null,
    body    text not null,                               -- '': none is sent
    primary key (form, sender)
);

create table tocsin.automatic_reply (                     -- what was answered by itself: one to each message at most
    inbound_id  bigint primary key,
    at          timestamptz not null default now(),
    kind        text not null,
    sender      text not null,                           -- without a plus
    peer        text not null,
    job_id      bigint not null
);
create index on tocsin.automatic_reply (at);

alter table tocsin.auto_reply drop constraint auto_reply_kind_check;
alter table tocsin.auto_reply add constraint auto_reply_kind_check
    check (kind in ('stop', 'start', 'help', 'emergency', 'ambiguous'));

-- The text of a kind for one of our numbers, in the language that was spoken or the nearest there is; null where none is sent.
create function tocsin.reply_text(of_kind text, own text, spoken text) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select nullif((select r.body from tocsin.auto_reply r
                   where r.kind = of_kind and r.sender in ('', own)
                   order by r.language = coalesce(nullif(spoken, ''), 'none') desc, r.language = '' desc, r.language = 'en' desc, r.sender <> '' desc
                   limit 1), '')
$$;

-- Answers a message by itself, from the number that it was sent to and over the link by which it came; returns the job.
-- Null where nothing is sent: it was answered already, the number may not send there, the text does not fit.
create function tocsin.answer_with(inbound bigint, over_link text, own tocsin.sender, number text, of_kind text, words text) returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    job bigint;
begin
    if words is null or own.address is null or own.links is not null and over_link <> all (own.links)
       or exists (select from tocsin.automatic_reply a where a.inbound_id = inbound) then
        return null;
    end if;
    perform pg_current_xact_id();                        -- before the id, as admit
    job := nextval('tocsin.job_id');
    insert into tocsin.ready (link, lane, id, app, client_ref, recipient, sender, body, category, flash, enqueued_at, due_at, expires_at, parts)
    select over_link, c.lane, job, session_user, 'inbound ' || inbound, number, own.address, words, c.name, false, now(), now(),
           now() + c.time_to_live, tocsin.parts_on(words, c.name, over_link)
    from tocsin.category c where c.name = 'reply' and tocsin.parts_on(words, c.name, over_link) is not null;
    if not found then
        return null;
    end if;
    insert into tocsin.automatic_reply (inbound_id, kind, sender, peer, job_id)
    values (inbound, of_kind, ltrim(own.address, '+'), number, job);
    return job;
end $$;

drop function tocsin.heed(bigint, text, text, text, text, text, text);
-- Does what a message from a handset asks for, in the transaction that stores it, and answers it. Never raises for anything that it says.
-- In this order: STOP, START, HELP; what it answers; a keyword; what is left. Of several the first alone counts, words of danger aside.
-- Gives its class, where it is another than `as_class`, and the job of the answer; null where there is none.
create function tocsin.heed(inbound bigint, over_link text, from_number text, to_number text, as_class text, wish text, spoken text,
                            danger text, said text, out class text, out answer bigint)
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    number   constant text := ltrim(from_number, '+');
    own      tocsin.sender;
    of_scope text;
    of_value text;
    changed  bigint;
    kind     text;
    words    text;
    clear    text;
    whole    text;                                       -- the normal form of what was said
    known    tocsin.keyword;
begin
    class := as_class;
    if as_class in ('binary', 'undecodable') or tocsin.is_number(number) is not true then
        return;                                          -- a short code or a name neither refuses nor is answered
    end if;
    select * into own from tocsin.sender s where ltrim(s.address, '+') = ltrim(to_number, '+') order by s.position limit 1;
    of_scope := case when own.address is null then 'everything' else 'sender' end;
    of_value := coalesce(ltrim(own.address, '+'), '');
    if wish = 'stop' then
        changed := tocsin.note_suppression(number, of_scope, of_value, 'added', 'OPT_OUT', 'reply', inbound, '{}', true);
        kind := case when changed is not null then 'stop' end;
    elsif wish = 'start' then
        changed := tocsin.note_suppression(number, of_scope, of_value, 'lifted', 'OPT_OUT', 'reply', inbound, '{}', false);
        changed := coalesce(tocsin.note_suppression(number, 'category', 'marketing', 'lifted', 'SOFT_HOLD', 'reply', inbound, '{}', false), changed);
        kind := case when changed is not null then 'start' else 'help' end;
    elsif wish = 'help' then
        kind := 'help';
    elsif wish = 'wrong_person' then
        perform tocsin.note_suppression(number, 'everything', '', 'added', 'WRONG_PERSON', 'reply', inbound, '{}', false);
    else
        select t.class, t.clear into class, clear from tocsin.take_answer(inbound, of_value, number, said) t;
        if class = 'ambiguous' and clear is not null then
            kind := 'ambiguous';
        elsif class is null then
            class := as_class;
            if exists (select from tocsin.keyword) then
                whole := tocsin.normal_form(said);
                select * into known from tocsin.keyword k
                where k.form in (whole, tocsin.without_politeness(whole)) and k.sender in ('', own.address)
                order by k.form = whole desc, k.sender <> '' desc limit 1;
            end if;
            if known.name is not null then
                class := 'keyword';
                kind := 'keyword';
                insert into tocsin.event_log (at, seq, xid, app, type, subject, detail)
                values (now(), tocsin.event_seq(1), pg_current_xact_id(), '', 'inbound.keyword', inbound::text,
                        jsonb_build_object('keyword', known.name, 'link', over_link));
            elsif wish = 'soft_stop' then
                perform tocsin.note_suppression(number, 'category', 'marketing', 'added', 'SOFT_HOLD', 'reply', inbound, '{}', false);
            end if;
        end if;
    end if;
    if danger is not null then
        insert into tocsin.event_log (at, seq, xid, app, type, subject, detail)
        values (now(), tocsin.event_seq(1), pg_current_xact_id(), '', 'inbound.emergency', inbound::text, jsonb_build_object('link', over_link));
        kind := case when kind = 'stop' then 'stop' else 'emergency' end;
    end if;
    if kind is null then
        return;
    end if;
    words := case kind
        when 'keyword' then nullif(known.body, '')
        when 'ambiguous' then replace(tocsin.reply_text(kind, own.address, ''), '{answers}', clear)
        when 'emergency' then tocsin.reply_text(kind, own.address, danger)
        else tocsin.reply_text(kind, own.address, spoken)
    end;
    answer := tocsin.answer_with(inbound, over_link, own, number, kind, words);
end $$;

-- Every app may need to know of what people refuse and ask for: it concerns the person, not the job.
create or replace view tocsin.event with (security_barrier) as
    select seq, type, subject,
           jsonb_strip_nulls(jsonb_build_object('client_ref', client_ref, 'category', category, 'reason', reason))
               || coalesce(detail, '{}') as data, at
    from tocsin.event_log
    where xid < pg_snapshot_xmin(pg_current_snapshot())
      and (app = session_user or type in ('inbound.received', 'inbound.emergency', 'inbound.keyword', 'suppression.added', 'suppression.lifted')
           or (select tocsin.sees_all()));

revoke execute on all functions in schema tocsin from public;
