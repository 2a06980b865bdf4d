"""The text of a long message from its parts, as a handset cut it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import gsm7
from gateway.reassembly import GAP, Joined, Part, join

GSM7, LATIN1, UCS2, BINARY = 0x00, 0x03, 0x08, 0x04
HEADER = 0x40


def cut(octets: bytes, size: int, *, data_coding: int = GSM7, bits: int = 8, more: bytes = b"") -> list[Part]:
    """Parts of so many octets at most, wherever that falls; `more` are elements that stand before the counting."""
    bodies = [octets[at : at + size] for at in range(0, len(octets), size)] or [b""]
    parts = []
    for number, body in enumerate(bodies, start=1):
        counting = bytes((0, 3, 7, len(bodies), number)) if bits == 8 else bytes((8, 4, 0, 7, len(bodies), number))
        header = more + counting
        parts.append(Part(number, bytes((len(header),)) + header + body, data_coding, HEADER))
    return parts


def test_an_escape_pair_that_was_cut_is_read_as_one():
    """Handsets cut where the septets end."""
    octets = gsm7.encode("a€b[c]")
    assert octets is not None
    for size in range(1, len(octets)):
        parts = cut(octets, size)
        assert join(parts, len(parts)) == Joined("a€b[c]", True, ())


def test_a_surrogate_pair_that_was_cut_is_read_as_one():
    """Two octets to the one part, two to the other."""
    octets = "Hi 😀😀".encode("utf-16-be")
    for size in (2, 4, 6, 8, 10):
        parts = cut(octets, size, data_coding=UCS2)
        assert join(parts, len(parts)).text == "Hi 😀😀"


def test_parts_without_a_header_are_counted_by_tlvs():
    """sar: the octets are the text alone."""
    parts = [Part(2, b"world", LATIN1, 0), Part(1, b"Hello ", LATIN1, 0)]

    assert join(parts, 2) == Joined("Hello world", True, ())


def test_elements_beside_the_counting_do_not_matter():
    """They need not come second (an unknown one here stands first)."""
    parts = cut(b"Hello world", 6, bits=16, more=bytes((0x70, 1, 0)))

    assert join(parts, 2).text == "Hello world"


def test_parts_of_different_codings_are_each_read_by_their_own():
    """Some handsets choose for each part."""
    parts = [
        cut(b"Hello ", 10)[0],
        Part(2, cut("мир".encode("utf-16-be"), 99, data_coding=UCS2)[0].octets, UCS2, HEADER),
    ]

    assert join(parts, 2).text == "Hello мир"


@pytest.mark.parametrize(
    ("there", "text", "missing"),
    [
        ((1, 2, 3, 4), "abcd", ()),
        ((1, 4), f"a{GAP}d", (2, 3)),
        ((2, 3), f"{GAP}bc{GAP}", (1, 4)),
        ((4,), f"{GAP}d", (1, 2, 3)),
        ((1, 3), f"a{GAP}c{GAP}", (2, 4)),
    ],
)
def test_a_gap_is_marked_wherever_it_is(there, text, missing):
    """At the beginning and at the end too: a dose may have stood there."""
    parts = [part for part in cut(b"abcd", 1) if part.part in there]

    assert join(parts, 4) == Joined(text, True, missing)


@pytest.mark.parametrize(
    "odd",
    [
        Part(2, b"\x05\x00\x03\x07\x02\x02\x01\x02", BINARY, HEADER),
        Part(2, b"\xff\x00\x03", GSM7, HEADER),  # a header that is longer than the part
        Part(2, b"", GSM7, HEADER),
        Part(2, b"\x0b\x05\x04\x0b\x84\x23\xf0\x00\x03\x07\x02\x02x", GSM7, HEADER),  # ports
    ],
)
def test_a_part_that_is_no_text_makes_the_whole_none(odd):
    """Its octets are kept; a wrong letter is worse than none."""
    assert join([cut(b"ab", 1)[0], odd], 2) == Joined("", False, ())


def test_no_word_of_it_is_in_its_repr():
    """Nor in an exception's."""
    assert "secret" not in repr(Part(1, b"secret", 0, 0)) + repr(Joined("secret", True, ()))


@given(
    st.lists(st.tuples(st.integers(1, 8), st.binary(max_size=20), st.integers(0, 255), st.sampled_from([0, 0x40]))),
    st.integers(2, 8),
)
def test_nothing_that_a_peer_sends_can_raise(parts, of):
    """Hostile octets are read, or are no text."""
    joined = join([Part(number, octets, coding, esm) for number, octets, coding, esm in parts if number <= of], of)

    assert joined.is_text or joined.text == ""
    assert set(joined.missing) == set(range(1, of + 1)) - {number for number, *_ in parts}
