"""GSM 03.38, against smpplib's table (but for its mistakes) and against the standard's rules."""

import pytest
from smpplib.gsm import GSM_CHARACTER_TABLE

from gateway import gsm7


def test_the_basic_table_has_128_places():
    """A place too many or too few would shift every character behind it."""
    assert len(gsm7.BASIC) == 128
    assert len(set(gsm7.BASIC)) == 128


def test_the_tables_are_those_of_an_independent_source():
    """In smpplib a backtick stands where the section sign belongs, and the page break lacks; all else agrees."""
    theirs = GSM_CHARACTER_TABLE[:128]

    assert [septet for septet in range(128) if gsm7.BASIC[septet] != theirs[septet]] == [0x5F]
    assert (gsm7.BASIC[0x5F], theirs[0x5F]) == ("§", "`")
    extension = {septet: character for septet, character in enumerate(GSM_CHARACTER_TABLE[128:]) if character != "`"}
    assert extension | {0x0A: "\f"} == gsm7.EXTENSION


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("", ""),
        ("@", "00"),
        ("$_", "0211"),
        ("ab\r\n", "61620d0a"),
        ("ÄÖÑÜ§¿äöñüà", "5b5c5d5e5f607b7c7d7e7f"),
        ("ΔΦΓΛΩΠΨΣΘΞ", "1012131415161718191a"),
        ("€", "1b65"),
        ("^{}\\[~]|\f", "1b141b281b291b2f1b3c1b3d1b3e1b401b0a"),
    ],
)
def test_characters_have_the_standard_s_septets(text, octets):
    """Straight out of 3GPP TS 23.038 section 6.2.1."""
    assert gsm7.encode(text) == bytes.fromhex(octets)
    assert gsm7.decode(bytes.fromhex(octets)) == text
    assert gsm7.septets(text) == len(octets) // 2


@pytest.mark.parametrize("character", ["`", "ç", "á", "Ł", "\x1b", "\t", "\0", "\x7f", "’", "\U0001f600", "\ud83d"])
def test_a_character_outside_the_tables_is_not_encoded(character):
    """No look-alike is put in its place: the text goes as UCS-2."""
    assert gsm7.encode(f"a{character}") is None
    assert gsm7.septets(f"a{character}") is None


def test_an_unknown_extension_shows_the_basic_character():
    """Section 6.2.1.1: ESC and a septet outside the extension table."""
    assert gsm7.decode(b"\x1b\x41") == "A"
    assert gsm7.decode(b"a\x1b\x00b") == "a@b"


def test_an_escape_that_leads_nowhere_shows_a_space():
    """ESC at the end, and ESC behind ESC."""
    assert gsm7.decode(b"a\x1b") == "a "
    assert gsm7.decode(b"\x1b\x1be") == " e"


def test_an_octet_that_is_no_septet_is_marked():
    """Eight-bit data in a text is seen and not guessed."""
    assert gsm7.decode(b"a\xe9b\x1b\xe9") == "a\ufffdb\ufffd"
