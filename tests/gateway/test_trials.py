"""gateway/trials.py: what a carrier is tried with."""

from __future__ import annotations

import pytest

from config.settings import LinkSettings
from gateway import trials
from gateway.trials import PLAIN


def link(**settings):
    return LinkSettings(name="a", hosts=("127.0.0.1",), system_id="clinic", password="secret", **settings)


def by_key(**settings):
    return {trial.key: trial for trial in trials(link(**settings))}


@pytest.mark.parametrize("alphabet", ["gsm7", "latin1", "ascii"])
@pytest.mark.parametrize("version", ["3.3", "3.4"])
def test_each_text_says_its_number_how_many_there_are_and_what_it_is(alphabet, version):
    """The person with the handset has nothing else to go by."""
    planned = trials(link(default_alphabet=alphabet, interface_version=version))
    for number, trial in enumerate(planned, start=1):
        assert trial.number == number
        assert trial.text.startswith(f"Tocsin test {number} of {len(planned)}: {trial.about}")
    assert len({trial.text for trial in planned}) == len({trial.key for trial in planned}) == len(planned)


@pytest.mark.parametrize(("alphabet", "octets"), [("gsm7", 160), ("latin1", 140), ("ascii", 160)])
def test_one_segment_is_full(alphabet, octets):
    """One character more would be two: a carrier that counts otherwise cuts it, and END is missing."""
    plain = by_key(default_alphabet=alphabet)[PLAIN]
    (segment,) = plain.segments(1)
    assert (len(segment.octets), segment.data_coding) == (octets, 0)
    assert plain.text.endswith("END")
    assert len(plain._replace(text=plain.text + "x").segments(1)) == 2


def test_one_segment_of_ucs2_is_full():
    """70 code units, one of its characters outside the BMP."""
    (segment,) = by_key()["ucs2"].segments(1)
    assert (len(segment.octets), segment.data_coding) == (140, 0x08)
    assert any(character > "\uffff" for character in by_key()["ucs2"].text)


def test_the_same_characters_go_as_gsm7_and_as_latin1():
    """The handset shows one of the two as it was sent, and that is the default alphabet."""
    tried = by_key()
    gsm7, latin1 = tried["gsm7"].segments(1)[0], tried["latin1"].segments(1)[0]
    assert gsm7.data_coding == latin1.data_coding == 0
    assert tried["gsm7"].text.rpartition(": ")[2] == tried["latin1"].text.rpartition(": ")[2]
    compared = [(a, b) for a, b in zip(gsm7.octets[-17::2], latin1.octets[-17::2], strict=True)]
    assert len(compared) == 9
    assert all(a != b for a, b in compared)
    assert b"\x1b\x65" in tried["extension"].segments(1)[0].octets  # the euro sign


def test_long_texts_go_in_each_form_and_are_charged_as_they_are_cut():
    """One submit_sm with message_payload is two messages on the bill."""
    tried = by_key()
    assert {key: len(tried[key].segments(1)) for key in ("udh8", "udh16", "sar", "payload")} == {
        "udh8": 2,
        "udh16": 2,
        "sar": 2,
        "payload": 1,
    }
    assert {tried[key].messages for key in ("udh8", "udh16", "sar", "payload")} == {2}
    assert {trial.messages for key, trial in tried.items() if key not in ("udh8", "udh16", "sar", "payload")} == {1}


def test_smpp_v3_3_is_not_tried_with_optional_parameters():
    """It has none."""
    assert by_key().keys() - by_key(interface_version="3.3").keys() == {"sar", "payload", "dest_addr_subunit"}


def test_each_trial_differs_from_the_plain_one_in_one_thing():
    """A refusal means that thing, and no other."""
    tried = by_key()
    plain = tried.pop(PLAIN)
    things = ("alphabet", "concatenation", "flash", "validity", "priority_flag", "registered_delivery")
    for trial in tried.values():
        assert sum(getattr(trial, thing) != getattr(plain, thing) for thing in things) <= 1, trial.key


@pytest.mark.parametrize(("of_link", "tried"), [(None, 3), (2, 2), (0, None)])
def test_the_priority_flag_is_the_one_that_would_be_sent(of_link, tried):
    """A link that sends 0 always has nothing to try."""
    trial = by_key(priority_flag=of_link).get("priority_flag")
    assert (None if trial is None else trial.priority_flag) == tried
