"""Every row of the retry classification, and what becomes of numbers that are not in it."""

import pytest

from gateway import status
from gateway.messages import Verdict

ROWS = {
    Verdict.ACCEPTED: [0x00],
    Verdict.THROTTLED: [0x58],
    Verdict.RETRY: [0x08, 0x14, 0x64, 0x102],
    Verdict.REJECTED: [0x0B, 0x65, 0x66],
    Verdict.LINK_FAULT: [0x02, 0x04, 0x05, 0x0D, 0x0E, 0x0F, 0x53],
    Verdict.MISCONFIGURED: [
        *(0x01, 0x03, 0x06, 0x07, 0x0A, 0x15, 0x33, 0x34, 0x40, 0x42, 0x43, 0x44, 0x48, 0x49, 0x50, 0x51, 0x54, 0x55),
        *(0x61, 0x62, 0x63, 0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0x100, 0x101, 0x103, 0x104, 0x105, 0x106),
    ],
    Verdict.AMBIGUOUS: [
        *(0x45, 0xFE, 0xFF),
        *(0x0C, 0x11, 0x13, 0x67, 0x107, 0x112),  # of other operations
        *(0x09, 0x10, 0x12, 0x400, 0x401, 0x4FF, 0x500, 0xFFFF_FFFF),  # reserved, vendor
    ],
}


@pytest.mark.parametrize(("verdict", "number"), [(verdict, number) for verdict, row in ROWS.items() for number in row])
def test_each_status_has_its_verdict(verdict, number):
    """The table decides between another try, another carrier and an operator's page."""
    assert status.verdict(number) is verdict


def test_every_row_of_the_table_is_tested():
    """A row that is added has its verdict stated here as well."""
    assert set(status.VERDICTS) <= {number for row in ROWS.values() for number in row}


def test_a_link_s_override_goes_before_the_table():
    """Some carriers mean a blocked number by 0x45, and have vendor numbers for what is permanent."""
    overrides = {0x45: Verdict.REJECTED, 0x401: Verdict.REJECTED, 0x00: Verdict.RETRY}

    assert status.verdict(0x45, overrides) is Verdict.REJECTED
    assert status.verdict(0x401, overrides) is Verdict.REJECTED
    assert status.verdict(0x00, overrides) is Verdict.RETRY
    assert status.verdict(0x08, overrides) is Verdict.RETRY


def test_a_link_fault_that_a_new_session_does_not_cure_ends():
    """One segment must not take a link down again and again."""
    assert status.verdict(0x02, repeated=True) is Verdict.MISCONFIGURED
    assert status.verdict(0x04, repeated=True) is Verdict.RETRY
    assert status.verdict(0x58, repeated=True) is Verdict.THROTTLED


def test_names_are_the_standard_s_and_unknown_numbers_keep_their_number():
    """What an operator reads can be looked up."""
    assert status.name(0x00) == "ESME_ROK"
    assert status.name(0x58) == "ESME_RTHROTTLED"
    assert status.name(0x104) == "ESME_RINVDCS"
    assert status.name(0x401) == "0x00000401"


def test_refused_binds_are_those_that_waiting_does_not_cure():
    """Credentials, system_type, bind failed; an old session that lives on is another matter."""
    assert {0x0D, 0x0E, 0x0F, 0x53} == status.BIND_REFUSED
    assert status.ALREADY_BOUND == 0x05
