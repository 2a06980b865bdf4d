"""National language tables, plain characters for typographic ones, cuts at graphemes, and the look before the wire."""

import sys
from itertools import chain, combinations
from typing import get_args

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import gsm7, lookalike
from gateway.errors import TextDamaged, TooManySegments, UnencodableText
from gateway.segment import NationalTable, count, segment
from tests.compiled import swaps_a_part

ALL = get_args(NationalTable)
TURKISH = ("turkish-single", "turkish-locking")
PORTUGUESE = ("portuguese-single", "portuguese-locking")
TABLES = {  # as a handset would have them: single and locking by language, written down apart from the product's
    ("single", 1): "47Ğ 49İ 53Ş 63ç 65€ 67ğ 69\u0131 73ş",
    ("single", 2): "09ç 41Á 49Í 4FÓ 55Ú 61á 65€ 69í 6Fó 75ú",
    ("single", 3): (
        "05ê 09ç 0BÔ 0Cô 0EÁ 0Fá 12Φ 13Γ 14^ 15Ω 16Π 17Ψ 18Σ 19Θ 1FÊ 41À 49Í 4FÓ 55Ú 5BÃ 5CÕ 61Â 65€ 69í 6Fó 75ú 7Bã 7Cõ 7Fâ"
    ),
    ("locking", 1): "04€ 07\u0131 0BĞ 0Cğ 1CŞ 1Dş 40İ 60ç",
    ("locking", 3): (
        "04ê 06ú 07í 08ó 09ç 0BÔ 0Cô 0EÁ 0Fá 12ª 13Ç 14À 15∞ 16^ 17\\ 18€ 19Ó 1A| 1CÂ 1Dâ 1EÊ 24º 40Í 5BÃ 5CÕ 5DÚ 60~ 7Bã 7Cõ 7D`"
    ),
}


def read(parts):
    """Read segments with the tables above: header elements, then septets."""
    text = []
    for part in parts:
        octets, single, locking = part.octets, 0, 0
        if part.udhi:
            at, end = 1, octets[0] + 1
            while at < end:
                single = octets[at + 2] if octets[at] == 0x24 else single
                locking = octets[at + 2] if octets[at] == 0x25 else locking
                at += 2 + octets[at + 1]
            octets = octets[end:]
        if part.data_coding & 0x0C == 0x08:
            text.append(octets.decode("utf-16-be"))
            continue
        basic, extension = list(gsm7.BASIC), dict(gsm7.EXTENSION)
        for table, kind, language in ((basic, "locking", locking), (extension, "single", single)):
            for entry in TABLES.get((kind, language), "").split(" ") if language else ():
                table[int(entry[:2], 16)] = entry[2:]
        escaped = False
        for octet in octets:
            if escaped:
                text.append(extension[octet])
            elif octet != gsm7.ESCAPE:
                text.append(basic[octet])
            escaped = octet == gsm7.ESCAPE and not escaped
        assert not escaped, "a part ends inside an escape pair"
    return "".join(text)


def packed_octets(part):
    """Octets of the user data on the air."""
    if part.data_coding & 0x0C == 0x08:
        return len(part.octets)
    header = part.octets[0] + 1 if part.udhi else 0
    fill = (8 * header + 6) // 7
    return (7 * (fill + len(part.octets) - header) + 7) // 8


class TestNationalTables:
    @pytest.mark.parametrize(
        ("text", "national", "header", "septets"),
        [
            ("Sağlık için", TURKISH[:1], "03240101", 11 + 3),
            ("Sağlık için", TURKISH[1:], "03250101", 11),
            ("Sağlık için", TURKISH, "03250101", 11),
            ("Cita el miércoles: ¿está bien? Ávila", ("spanish-single",), "03240102", 36 + 2),
            ("Não há consulta amanhã à tarde", PORTUGUESE, "03250103", 30),
            ("Não há consulta amanhã", PORTUGUESE[:1], "03240103", 22 + 3),
        ],
    )
    def test_a_text_that_needs_one_names_it_in_its_header(self, text, national, header, septets):
        """The one that takes the fewest octets, in a single segment too."""
        (part,) = segment(text, reference=1, national=national)

        assert part.udhi
        assert part.octets[:4].hex() == header
        assert len(part.octets) == 4 + septets
        assert read([part]) == text

    def test_none_is_used_where_gsm_7_has_every_character(self):
        """Nor where the link names none."""
        assert not segment("Hello", reference=1, national=ALL)[0].udhi
        assert segment("Sağlık", reference=1)[0].data_coding == 8

    @pytest.mark.parametrize(
        ("letters", "national", "concatenation", "parts"),
        [
            (155, TURKISH[1:], "udh8", 1), (156, TURKISH[1:], "udh8", 2), (298, TURKISH[1:], "udh8", 2),
            (299, TURKISH[1:], "udh8", 3), (296, TURKISH[1:], "udh16", 2), (297, TURKISH[1:], "udh16", 3),
        ],
    )  # fmt: skip
    def test_its_header_takes_room(self, letters, national, concatenation, parts):
        """155 septets alone, 149 and 148 beside an 8- and a 16-bit reference."""
        text = "ğ" * letters
        made = segment(text, reference=7, national=national, concatenation=concatenation)

        assert len(made) == parts == count(text, "gsm7", concatenation, national).segments
        assert max(map(packed_octets, made)) <= 140
        assert read(made) == text

    def test_without_a_header_in_each_segment_none_is_used(self):
        """The configuration refuses it."""
        assert count("ğ" * 70, national=TURKISH, concatenation="sar").coding == "ucs2"


class TestTypographicCharacters:
    def test_they_are_replaced_where_the_text_fits_then(self):
        """Curly quotes, dashes, hard spaces, an ellipsis."""
        (part,) = segment("“Don’t” – 5\u00a0mg…", reference=1, substitute=True)

        assert part.octets == b'"Don\'t" - 5 mg...'
        assert count("“Don’t”", substitute=True).replaced

    def test_not_unless_it_is_asked_for_and_not_where_it_does_not_help(self):
        """Then the text goes as it is."""
        assert segment("“Don’t”", reference=1)[0].data_coding == 8
        (part,) = segment("“Привет”", reference=1, substitute=True)
        assert part.octets.decode("utf-16-be") == "“Привет”"

    def test_ucs_2_is_taken_where_it_needs_fewer_segments(self):
        """An ellipsis becomes three full stops."""
        assert count("…" * 70, substitute=True)[:2] == ("ucs2", 1)
        assert count("…" * 50, substitute=True)[:2] == ("gsm7", 1)

    def test_with_national_tables_both_may_be_needed(self):
        """A Turkish text out of a word processor."""
        made = segment("“Sağlık”", reference=1, national=TURKISH, substitute=True)

        assert read(made) == '"Sağlık"'

    def test_no_letter_digit_or_unit_is_ever_replaced(self):
        """A name keeps its accents, a dose its number."""
        for character, plain in lookalike.REPLACED.items():
            assert not character.isalnum()
            assert regex.fullmatch(r"[-'\" .]+", plain)
            assert gsm7.encode(plain) is not None
        for kept in "µ°±×÷½¼²³≤≥‰№Ωłőş":
            assert lookalike.replaced(kept) == kept


GRAPHEMES = ["👩‍👩‍👧‍👦", "🇩🇪", "e\u0301", "नि", "한", "👍🏽", "к"]


class TestGraphemes:
    @pytest.mark.parametrize("wide", GRAPHEMES)
    def test_no_part_begins_inside_one_where_that_costs_no_segment(self, wide):
        """On each side of the first boundary."""
        for before in range(50, 68):
            text = "к" * before + wide + "к" * 5
            made = segment(text, reference=1)
            starts = {0}
            at = 0
            for part in made:
                at += len((part.octets[6:] if part.udhi else part.octets).decode("utf-16-be"))
                starts.add(at)
            ends = {0} | {found.end() for found in regex.finditer(r"\X", text)}

            assert starts <= ends or len(text.encode("utf-16-be")) <= 140
            assert read(made) == text

    def test_where_it_would_cost_a_segment_it_is_cut(self):
        """Two full parts stay two."""
        text = "к" * 66 + "e\u0301" + "к" * 66
        made = segment(text, reference=1)

        assert len(made) == 2
        assert read(made) == text

    def test_one_that_is_longer_than_a_part_is_cut(self):
        """Nothing is refused for it."""
        text = "e" + "\u0301" * 200
        assert read(segment(text, reference=1)) == text


class TestTheLookBeforeTheWire:
    @swaps_a_part
    def test_what_would_not_arrive_as_it_was_enqueued_is_not_sent(self, monkeypatch):
        """A table of ours that is wrong costs a message, and never changes one; nothing of it is in the error."""
        wrong = {**gsm7._encoding(0, 0), ord("é"): 0x04}
        monkeypatch.setattr(gsm7, "encode", lambda text: gsm7.codecs.charmap_encode(text, "strict", wrong)[0])

        assert segment("secret", reference=1)
        with pytest.raises(TextDamaged) as caught:
            segment("secret é", reference=1)
        assert "secret" not in str(caught.value) + repr(caught.value)
        assert isinstance(caught.value, UnencodableText)

    @swaps_a_part
    def test_a_cut_that_loses_something_is_found(self, monkeypatch):
        """In every coding."""
        monkeypatch.setattr(sys.modules["gateway.segment"], "_cuts", lambda encoded, _: [100, len(encoded.octets) - 2])
        for text in ("x" * 200, "к" * 100):
            with pytest.raises(TextDamaged):
                segment(text, reference=1)


national = st.sampled_from(list(chain.from_iterable(combinations(ALL, size) for size in range(4))))
letters = st.sampled_from(
    sorted(
        {c for tables in TABLES.values() for c in tables[2::4] if c != " "}
        | set("abc €[“”–…\u00a0к😀")
        | set(gsm7.BASIC) - {"\x1b"}
    )
)
texts = st.text(letters, max_size=400) | st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


@settings(max_examples=300, deadline=None)
@given(texts, national, st.booleans(), st.sampled_from(["udh8", "udh16", "sar", "payload"]), st.integers(0, 65_535))
def test_what_a_handset_reads_is_the_text_for_every_setting(text, tables, substitute, concatenation, reference):
    """And no part is longer than what goes into one on the air."""
    try:
        made = segment(text, reference=reference, national=tables, substitute=substitute, concatenation=concatenation)
    except TooManySegments:
        return
    counted = count(text, "gsm7", concatenation, tables, substitute=substitute)

    assert len(made) == counted.segments
    assert read(made) == (lookalike.replaced(text) if counted.replaced else text)
    assert not counted.replaced or (substitute and counted.coding == "gsm7")
    if concatenation != "payload":
        assert max(map(packed_octets, made)) <= 140
