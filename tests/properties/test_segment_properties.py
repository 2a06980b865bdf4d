"""Segments, read as a handset reads them, are the text; none is over its limit, none ends inside a character."""

from itertools import pairwise

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import gsm7
from gateway.segment import count, segment

quick = settings(max_examples=250, deadline=None)

EURO = "€"  # two septets
EMOJI = "\U0001f600"  # two code units
LENGTHS = [1, 69, 70, 71, 134, 153, 159, 160, 161, 306, 307]
LIMITS = {  # coding: single, with an 8-bit reference, with a 16-bit one or SAR; octets of user data
    "gsm7": (160, 153, 152),
    "ascii": (160, 153, 152),
    "latin1": (140, 134, 133),
    "ucs2": (140, 134, 132),
}


def header_and_data(part):
    """Header and user data of one segment, by its length octet."""
    return (part.octets[: part.octets[0] + 1], part.octets[part.octets[0] + 1 :]) if part.udhi else (b"", part.octets)


def read(data, coding):
    """Text of these octets; strict, so that half a character fails."""
    if coding == "gsm7":
        assert not data.endswith(b"\x1b")
        return gsm7.decode(data)
    return data.decode({"ucs2": "utf-16-be", "latin1": "latin-1", "ascii": "ascii"}[coding])


def check(text, alphabet, concatenation, reference=0x1234):
    """All that must be true of every cut."""
    parts = segment(text, reference=reference, alphabet=alphabet, concatenation=concatenation)
    coding, counted, *_ = count(text, alphabet, concatenation)
    single, short, long = LIMITS[coding]

    assert len(parts) == counted
    assert {part.data_coding for part in parts} == {8 if coding == "ucs2" else 0}
    assert [(part.part, part.parts) for part in parts] == [(number, len(parts)) for number in range(1, len(parts) + 1)]
    assert "".join(read(header_and_data(part)[1], coding) for part in parts) == text
    for part in parts:
        header, data = header_and_data(part)
        if concatenation == "payload" or len(parts) == 1:
            assert header == b""
            assert concatenation == "payload" or len(data) <= single
        elif concatenation == "udh8":
            assert header == bytes((5, 0, 3, reference & 0xFF, len(parts), part.part))
            assert len(data) <= short
        elif concatenation == "udh16":
            assert header == bytes((6, 8, 4)) + reference.to_bytes(2) + bytes((len(parts), part.part))
            assert len(data) <= long
        else:
            assert not part.udhi
            assert len(data) <= long
    if len(parts) > 1:  # no part could have taken the next grapheme as well
        limit = short if concatenation == "udh8" else long
        for part, following in pairwise(parts):
            rest = read(header_and_data(following)[1], coding)
            first = regex.match(r"\X", rest)[0] if coding == "ucs2" else rest[0]
            width = {"ucs2": len(first.encode("utf-16-be")), "gsm7": gsm7.septets(first)}.get(coding, 1)
            assert len(header_and_data(part)[1]) + width > limit


alphabets = st.sampled_from(["gsm7", "latin1", "ascii"])
concatenations = st.sampled_from(["udh8", "udh16", "sar", "payload"])
gsm_text = st.text(st.sampled_from(sorted(set(gsm7.BASIC + "".join(gsm7.EXTENSION.values())) - {"\x1b"})), max_size=700)
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=400)
latin_text = st.text(st.characters(max_codepoint=255), max_size=500)
mostly_euro = st.text(st.sampled_from(["a", EURO, "["]), min_size=150, max_size=700)
mostly_emoji = st.text(st.sampled_from(["a", "ł", EMOJI]), min_size=60, max_size=400)


@quick
@given(gsm_text | any_text | latin_text | mostly_euro | mostly_emoji, alphabets, concatenations, st.integers(0, 0xFFFF))
def test_segments_joined_are_the_text(text, alphabet, concatenation, reference):
    """Nothing is lost, doubled or damaged, and no part is longer than the air allows."""
    check(text, alphabet, concatenation, reference)


@pytest.mark.parametrize("concatenation", ["udh8", "udh16", "sar", "payload"])
@pytest.mark.parametrize("wide", ["", EURO, "[", EMOJI, "ł"])
@pytest.mark.parametrize("length", LENGTHS)
def test_a_wide_character_on_every_side_of_a_boundary(length, wide, concatenation):
    """Around each limit, a character of two units stands before, across and behind the cut."""
    for place in {
        0,
        *(edge + step for edge in (66, 67, 70, 132, 134, 152, 153, 160, 304, 306) for step in (-2, -1, 0, 1)),
    }:
        if 0 <= place < length:
            check("x" * place + wide + "x" * (length - place - 1), "gsm7", concatenation)


@quick
@given(gsm_text)
def test_gsm7_is_its_own_inverse(text):
    """Decoding what was encoded gives the text; every septet fits in seven bits."""
    octets = gsm7.encode(text)

    assert gsm7.decode(octets) == text
    assert max(octets, default=0) < 0x80


@quick
@given(st.binary(max_size=300))
def test_gsm7_reads_any_octets(octets):
    """No octets raise, and no more characters come out than octets went in."""
    assert len(gsm7.decode(octets)) <= len(octets)


@quick
@given(any_text)
def test_gsm7_takes_a_text_when_and_only_when_the_tables_have_every_character(text):
    """The shortcut for plain ASCII and the table agree."""
    known = set(gsm7.BASIC + "".join(gsm7.EXTENSION.values())) - {"\x1b"}

    assert (gsm7.encode(text) is not None) == (set(text) <= known)
