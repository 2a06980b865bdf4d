"""Addresses as they go on the wire: type of number and numbering plan from the form of the address.

SMPP v3.4 sections 5.2.5 and 5.2.6. A link may fix both, because some carriers want other values.
"""

from __future__ import annotations

from functools import lru_cache

from gateway.messages import Address

UNKNOWN = 0
INTERNATIONAL = 1
NETWORK_SPECIFIC = 3  # short codes
ALPHANUMERIC = 5
ISDN = 1  # numbering plan E.163/E.164
LONGEST_SHORT_CODE = 6  # digits; E.164 numbers have 7 to 15


@lru_cache(maxsize=1024)  # a handful of senders make all the traffic
def source_address(sender: str, *, ton: int | None = None, npi: int | None = None) -> Address:
    """A sender: an E.164 number, a short code, or a text of at most 11 characters."""
    digits = sender.removeprefix("+")
    if digits.isascii() and digits.isdigit():
        kind, plan = (INTERNATIONAL, ISDN) if len(digits) > LONGEST_SHORT_CODE else (NETWORK_SPECIFIC, UNKNOWN)
        return Address(digits, kind if ton is None else ton, plan if npi is None else npi)
    return Address(sender, ALPHANUMERIC if ton is None else ton, UNKNOWN if npi is None else npi)


def destination_address(recipient: str, *, ton: int | None = None, npi: int | None = None) -> Address:
    """A recipient in the queue's form: E.164 digits without a plus."""
    return Address(recipient, INTERNATIONAL if ton is None else ton, ISDN if npi is None else npi)
