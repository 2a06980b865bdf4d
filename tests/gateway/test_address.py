"""Senders and recipients, as they stand in a submit_sm; smpplib reads what was written."""

import pytest
import smpplib.smpp

from gateway import destination_address, source_address
from gateway.codec import encode_submit_sm, header
from gateway.messages import Address, Segment, ShortMessage
from gateway.pdu import CommandId
from tests.fakes.esme import NUMBERS


def read(source: Address, destination: Address) -> object:
    """A submit_sm with these addresses, read by smpplib."""
    body = encode_submit_sm(ShortMessage(source, destination), Segment(1, 1, 0, udhi=False, octets=b"x"))
    return smpplib.smpp.parse_pdu(header(CommandId.SUBMIT_SM, 0, 1, len(body)) + body, client=NUMBERS)


@pytest.mark.parametrize("sender", ["+447700900123", "447700900123", "4477009"])
def test_a_number_goes_without_its_plus_as_international(sender):
    """TON 1, NPI 1; a plus in the field is refused by some SMSCs and kept by others."""
    found = read(source_address(sender), destination_address("447700900555"))

    assert (found.source_addr, found.source_addr_ton, found.source_addr_npi) == (sender.lstrip("+").encode(), 1, 1)
    assert (found.destination_addr, found.dest_addr_ton, found.dest_addr_npi) == (b"447700900555", 1, 1)


@pytest.mark.parametrize("sender", ["Northside", "St.Mary 24", "A&E@Nrthsde"])
def test_a_name_goes_whole_as_alphanumeric(sender):
    """TON 5, NPI 0. In GSM 03.38 an @ is septet 0, which would end the field."""
    found = read(source_address(sender), destination_address("447700900555"))

    assert (found.source_addr, found.source_addr_ton, found.source_addr_npi) == (sender.encode("ascii"), 5, 0)
    assert found.destination_addr == b"447700900555"


@pytest.mark.parametrize("sender", ["60777", "123456"])
def test_a_short_code_is_network_specific(sender):
    """TON 3, NPI 0: no more than six digits, where a number has seven."""
    found = read(source_address(sender), destination_address("447700900555"))

    assert (found.source_addr, found.source_addr_ton, found.source_addr_npi) == (sender.encode(), 3, 0)


@pytest.mark.parametrize("sender", ["60777", "+447700900123", "Northside"])
@pytest.mark.parametrize(("ton", "npi"), [(6, 0), (0, 9), (0, 0)])
def test_a_link_s_type_and_plan_go_before_the_form_of_the_address(sender, ton, npi):
    """Some carriers want a short code as TON 6, or a number as TON 0; zero is a value too."""
    found = read(source_address(sender, ton=ton, npi=npi), destination_address("447700900555", ton=ton, npi=npi))

    assert (found.source_addr_ton, found.source_addr_npi) == (ton, npi)
    assert (found.dest_addr_ton, found.dest_addr_npi) == (ton, npi)
