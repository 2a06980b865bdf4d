"""Tables inside a table of the file: optional parameters, and what one carrier means by its codes.

Their keys are the user's own, so each is checked here. Errors are those of ``config.reader``: one line with file, table
and key.
"""

import difflib
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, get_args

from config.reader import Table

Verdict = Literal["accepted", "throttled", "retry", "ambiguous", "rejected", "opted_out", "misconfigured", "link_fault"]
ReceiptReason = Literal[
    "EXPIRED_SMSC",
    "DELETED_SMSC",
    "REJECTED_SMSC",
    "UNKNOWN_SUBSCRIBER",
    "ILLEGAL_SUBSCRIBER",
    "BARRED",
    "UNSUPPORTED",
    "OPTED_OUT",
    "BUSY",
    "NETWORK_FAILURE",
    "MEMORY_FULL",
    "ABSENT",
    "UNDELIVERED_SMSC",
    "UNKNOWN_SMSC",
]

# Tags that the gateway writes itself: dest_addr_subunit, sar_*, message_payload (SMPP v3.4 section 5.3.2)
OWN_TAGS = frozenset({0x0005, 0x020C, 0x020E, 0x020F, 0x0424})


def tlv(table: Table) -> tuple[tuple[int, bytes], ...]:
    """Give the tags and values under the key ``tlv``, none where it is absent.

    Raises:
        ConfigError: a tag that is none, or the gateway's own, or there twice; a value that is not hexadecimal.

    """
    if "tlv" not in table.entries:
        return ()
    inner = table.inner("tlv", table.label)
    found: dict[int, bytes] = {}
    for key, value in inner.entries.items():
        tag = _number(key)
        if tag is None or not 0 <= tag <= 0xFFFF:
            raise table.error("tlv", f'tag "{key[:20]}" must be a number from 0x0000 to 0xFFFF')
        if tag in OWN_TAGS:
            raise table.error("tlv", f"tag 0x{tag:04X} is written by the gateway itself")
        if tag in found:
            raise table.error("tlv", f"tag 0x{tag:04X} stands there twice")
        if not isinstance(value, str) or re.fullmatch(r"([0-9A-Fa-f]{2}){0,255}", value, re.ASCII) is None:
            raise table.error("tlv", f"the value of tag 0x{tag:04X} must be hexadecimal, at most 255 octets")
        found[tag] = bytes.fromhex(value)
    return tuple(found.items())


def status_overrides(table: Table) -> Mapping[int, Verdict]:
    """Give the verdicts by command_status under the key ``status_overrides``, none where it is absent.

    Raises:
        ConfigError: a key that is no command_status of an error, or there twice; a word that is no verdict.

    """
    if "status_overrides" not in table.entries:
        return MappingProxyType({})
    inner = table.inner("status_overrides", f"{table.label} status_overrides")
    found: dict[int, Verdict] = {}
    for key in inner.entries:
        status = _number(key)
        if status is None or not 1 <= status <= 0xFFFF_FFFF:
            raise inner.error(key[:20], "must be a command_status from 0x1 to 0xFFFFFFFF")
        if status in found:
            raise inner.error(key[:20], "stands there twice")
        found[status] = inner.value(key, Verdict)
    return MappingProxyType(found)


def receipt_errors(table: Table) -> Mapping[str, ReceiptReason]:
    """Give the reasons under the key ``receipt_errors`` by code, without zeros in front and in upper case.

    Raises:
        ConfigError: a key that no receipt can have for a code, or there twice; a word that is no reason.

    """
    if "receipt_errors" not in table.entries:
        return MappingProxyType({})
    inner = table.inner("receipt_errors", f"{table.label} receipt_errors")
    reasons: tuple[ReceiptReason, ...] = get_args(ReceiptReason)
    found: dict[str, ReceiptReason] = {}
    for key, word in inner.entries.items():
        code = key.lstrip("0").upper()
        if code != "*" and (not code or re.fullmatch(r"[0-9A-Za-z]{1,8}", key, re.ASCII) is None):
            raise inner.error(key[:20], "must be a code of 1 to 8 letters and digits, not all 0, or * for any other")
        if code in found:
            raise inner.error(key[:20], "stands there twice")
        if word not in reasons:
            near = difflib.get_close_matches(str(word).upper(), reasons, n=1, cutoff=0.0)
            raise inner.error(key[:20], f"is no reason of receipts; the nearest known is {near[0]}")
        found[code] = word
    return MappingProxyType(found)


def _number(text: str) -> int | None:
    if re.fullmatch(r"0[xX][0-9A-Fa-f]{1,8}", text, re.ASCII):
        return int(text, 16)
    return int(text) if re.fullmatch(r"\d{1,10}", text, re.ASCII) else None
