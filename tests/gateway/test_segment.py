"""Choice of alphabet, limits, headers and flash, by example; the properties stand in tests/properties."""

import pytest

from gateway.errors import TooManySegments, UnencodableText
from gateway.segment import count, segment

EMOJI = "\U0001f600"


@pytest.mark.parametrize(
    ("text", "alphabet", "coding", "parts"),
    [
        ("", "gsm7", "gsm7", 1),
        ("x" * 160, "gsm7", "gsm7", 1),
        ("x" * 161, "gsm7", "gsm7", 2),
        ("x" * 306, "gsm7", "gsm7", 2),
        ("x" * 307, "gsm7", "gsm7", 3),
        ("€" * 80, "gsm7", "gsm7", 1),
        ("€" * 81, "gsm7", "gsm7", 2),
        ("€" * 153, "gsm7", "gsm7", 3),  # 306 septets, and one is lost at each cut
        ("ł" * 70, "gsm7", "ucs2", 1),
        ("ł" * 71, "gsm7", "ucs2", 2),
        (EMOJI * 35, "gsm7", "ucs2", 1),
        (EMOJI * 67, "gsm7", "ucs2", 3),  # 33 pairs in 67 code units
        ("é" * 140, "latin1", "latin1", 1),
        ("é" * 141, "latin1", "latin1", 2),
        ("é" * 268, "latin1", "latin1", 2),
        ("€", "latin1", "ucs2", 1),
        ("x" * 160, "ascii", "ascii", 1),
        ("@$_", "ascii", "ascii", 1),
        ("é", "ascii", "ucs2", 1),
    ],
)
def test_a_text_is_counted_in_the_units_of_its_coding(text, alphabet, coding, parts):
    """What an estimate says is what is sent."""
    assert count(text, alphabet)[:2] == (coding, parts)
    assert len(segment(text, reference=1, alphabet=alphabet)) == parts


@pytest.mark.parametrize("character", list("^{}\\[~]|`\t\x1b\0"))
def test_ascii_that_would_not_stay_one_septet_goes_as_ucs2(character):
    """An SMSC with ASCII for its default turns these into two septets, or into nothing."""
    (only,) = segment(character, reference=1, alphabet="ascii")

    assert only.data_coding == 8
    assert only.octets == character.encode("utf-16-be")


def test_a_short_reference_is_taken_modulo_256():
    """The job's number names every part of it, on each resend the same."""
    parts = segment("x" * 200, reference=0x1234)

    assert [part.octets[:6] for part in parts] == [b"\x05\x00\x03\x34\x02\x01", b"\x05\x00\x03\x34\x02\x02"]
    assert all(part.udhi for part in parts)


def test_a_long_reference_is_taken_modulo_65536():
    """Sixteen bits in the header of seven octets."""
    parts = segment("x" * 200, reference=0x5_1234, concatenation="udh16")

    assert [part.octets[:7].hex() for part in parts] == ["06080412340201", "06080412340202"]
    assert [len(part.octets) for part in parts] == [7 + 152, 7 + 48]


def test_sar_leaves_room_for_the_header_that_the_smsc_makes():
    """The parts carry text alone; the link adds the TLVs."""
    parts = segment("x" * 200, reference=1, concatenation="sar")

    assert [(part.part, part.parts, part.udhi, len(part.octets)) for part in parts] == [
        (1, 2, False, 152),
        (2, 2, False, 48),
    ]


def test_payload_is_one_segment_of_everything():
    """The SMSC cuts."""
    (only,) = segment("x" * 5000, reference=1, concatenation="payload")

    assert (only.part, only.parts, only.udhi, only.octets) == (1, 1, False, b"x" * 5000)
    assert count("x" * 5000, concatenation="payload")[:2] == ("gsm7", 1)


@pytest.mark.parametrize(
    ("text", "flash_form", "data_coding"),
    [
        ("x", "class0", 0x10),
        ("ł", "class0", 0x18),
        ("x", "group_f", 0xF0),
        ("ł", "group_f", 0x18),
        ("x", "dest_addr_subunit", 0x00),
        ("ł", "dest_addr_subunit", 0x08),
    ],
)
def test_flash_is_in_the_data_coding_in_the_form_of_the_link(text, flash_form, data_coding):
    """Group F has no UCS-2; a sub-unit leaves data_coding plain."""
    (flash,) = segment(text, reference=1, flash=True, flash_form=flash_form)
    (plain,) = segment(text, reference=1, flash_form=flash_form)

    assert flash.data_coding == data_coding
    assert plain.data_coding in {0x00, 0x08}


@pytest.mark.parametrize("concatenation", ["udh8", "payload"])
def test_more_than_255_segments_are_refused_and_not_cut(concatenation):
    """The count is one octet; a text that loses its end is worse than none."""
    assert count("x" * 255 * 153, concatenation=concatenation)[1] == (255 if concatenation == "udh8" else 1)
    with pytest.raises(TooManySegments, match="256 segments, at most 255"):
        segment("x" * (255 * 153 + 1), reference=1, concatenation=concatenation)
    with pytest.raises(TooManySegments):
        count("x" * (255 * 153 + 1), concatenation=concatenation)


def test_half_a_surrogate_pair_is_refused_without_telling_the_text():
    """It has no encoding; neither the error nor what it hangs on holds the text."""
    with pytest.raises(UnencodableText, match="character 3 is not in UCS-2") as caught:
        segment("abc\ud83d", reference=1)

    assert caught.value.__context__ is None
