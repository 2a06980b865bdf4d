"""Why a message did not arrive, as its receipt says: one reason of a closed set, whatever the carrier writes.

SMPP v3.4 leaves the ``err`` of a receipt to each SMSC (appendix B). Most quote the error codes of GSM networks
(3GPP TS 29.002, section 17.6.6, and what SMSCs add to them) in decimal; a link overrides any of them, and says with
``*`` that none of them holds. A reason has one decision about sending the same text again, which is the app's to take.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from gateway.messages import DeliveryState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from config.code_tables import ReceiptReason

Retry = Literal["later", "never", "unclear"]

# later: it may arrive when sent again after a while; never: it will meet the same end; unclear: nobody said why.
# Equal to tocsin.receipt_retry (a test compares the two).
RETRY: Final[Mapping[ReceiptReason, Retry]] = MappingProxyType(
    {
        "EXPIRED_SMSC": "later",  # the SMSC tried for as long as the message was to live
        "DELETED_SMSC": "unclear",  # by cancel_sm, or by the carrier
        "REJECTED_SMSC": "never",
        "UNKNOWN_SUBSCRIBER": "never",
        "ILLEGAL_SUBSCRIBER": "never",
        "BARRED": "never",
        "UNSUPPORTED": "never",
        "OPTED_OUT": "never",  # in no code of GSM: by a link's own table alone
        "BUSY": "later",
        "NETWORK_FAILURE": "later",
        "MEMORY_FULL": "later",
        "ABSENT": "later",
        "UNDELIVERED_SMSC": "unclear",
        "UNKNOWN_SMSC": "unclear",  # the receipt does not say whether it arrived
    }
)

# Codes without zeros in front
GSM_ERRORS: Final[Mapping[str, ReceiptReason]] = MappingProxyType(
    {
        "1": "UNKNOWN_SUBSCRIBER",
        "2": "UNKNOWN_SUBSCRIBER",
        "5": "UNKNOWN_SUBSCRIBER",  # unidentified
        "9": "ILLEGAL_SUBSCRIBER",
        "12": "ILLEGAL_SUBSCRIBER",  # the device
        "11": "BARRED",  # teleservice not provisioned
        "13": "BARRED",
        "15": "BARRED",
        "21": "UNSUPPORTED",
        "22": "UNSUPPORTED",
        "42": "UNSUPPORTED",
        "31": "BUSY",
        "32": "BUSY",
        "34": "NETWORK_FAILURE",
        "40": "MEMORY_FULL",
        "49": "MEMORY_FULL",
        "52": "MEMORY_FULL",
        "27": "ABSENT",
        "28": "ABSENT",  # on platforms that count so; 60 and 61 on others
        "60": "ABSENT",
        "61": "ABSENT",
    }
)
ANY_OTHER: Final = "*"  # of a link's table: codes that it does not name; the table above does not hold then

ENDED_BY_NUMBER: Final[Mapping[int, ReceiptReason]] = MappingProxyType(  # message_state, section 5.2.28
    {3: "EXPIRED_SMSC", 4: "DELETED_SMSC", 8: "REJECTED_SMSC"}
)
ENDED_BY_WORD: Final[Mapping[str, ReceiptReason]] = MappingProxyType(
    {
        "EXPIRED": "EXPIRED_SMSC",
        "DELETED": "DELETED_SMSC",
        "REJECTD": "REJECTED_SMSC",
        "REJECTED": "REJECTED_SMSC",
    }
)
_NO_ERRORS: Final[Mapping[str, ReceiptReason]] = MappingProxyType({})


def receipt_reason(
    state: DeliveryState,
    ended: ReceiptReason | None,
    code: str,
    errors: Mapping[str, ReceiptReason] = _NO_ERRORS,
    *,
    of_gsm: bool = True,
) -> ReceiptReason:
    """Judge a receipt whose state is undelivered or unknown; never raises, whatever the code is.

    ``ended`` is what its state says beyond that (the two mappings above). An end by time or by deletion is the reason
    whatever the code is, for the code is that of the last attempt before it. Else a code goes before a rejection, and
    before the state alone. ``code`` is as the carrier wrote it: zeros in front and the case of letters say nothing, no
    digit but 0 says nothing either. ``errors`` is the link's own table, by codes as ``GSM_ERRORS`` has them.
    ``of_gsm`` False: the code is known to be of another kind of network.
    """
    if ended in {"EXPIRED_SMSC", "DELETED_SMSC"}:
        return ended
    code = code.lstrip("0").upper()
    if code:
        found = errors.get(code) if code != ANY_OTHER else None
        if found is None and of_gsm and ANY_OTHER not in errors:
            found = GSM_ERRORS.get(code)
        if found is not None:
            return found
    if ended is not None:
        return ended
    if state is DeliveryState.UNKNOWN:
        return "UNKNOWN_SMSC"
    return errors.get(ANY_OTHER, "UNDELIVERED_SMSC") if code else "UNDELIVERED_SMSC"
