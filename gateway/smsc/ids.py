"""Message ids in the forms that SMSCs give them, for the answer and for the receipt.

Behind every form is one number, so an answer in hexadecimal and its receipt in decimal name the same message, as
they do at carriers that write the two differently.
"""

from __future__ import annotations

import hashlib
import uuid
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

IdForm = Literal[
    "text",
    "decimal",
    "decimal_padded",
    "hex",
    "hex_upper",
    "hex_padded",
    "uuid",
    "longest",
    "constant",
    "empty",
]
ReceiptIdForm = Literal["same", IdForm]

FORMS: Final[dict[IdForm, str]] = {  # what each form looks like; the manual's table is held to it
    "text": "6 hexadecimal digits of this run, a dash, 8 decimal digits",
    "decimal": "a decimal number",
    "decimal_padded": "a decimal number of 10 digits, a zero in front",
    "hex": "a hexadecimal number in lower case",
    "hex_upper": "a hexadecimal number in upper case",
    "hex_padded": "a hexadecimal number of 10 digits in lower case, zeros in front",
    "uuid": "a UUID: 36 characters, four of them dashes",
    "longest": "64 hexadecimal digits, the longest id of SMPP v3.4",
    "constant": "1, for every message",
    "empty": "no character at all",
}
LOWEST_START: Final = 0x1000_0000  # numbers have 8 hexadecimal digits or 9 decimal ones
STARTS: Final = 700_000_000  # how many numbers a run may start at: the ids of 31 million messages keep their length


class MessageIds:
    """Gives ids, each one once, but in the forms that cannot."""

    __slots__ = ("_answer_form", "_given", "_receipt_form", "_start")

    def __init__(self, answer_form: IdForm = "text", receipt_form: ReceiptIdForm = "same", *, start: int = 0) -> None:
        """`start` tells one run from another, modulo `STARTS`."""
        self._answer_form = answer_form
        self._receipt_form: IdForm = answer_form if receipt_form == "same" else receipt_form
        self._start = LOWEST_START + start % STARTS
        self._given = 0

    def next(self) -> tuple[str, str]:
        """Name one message: for its answer, and for its receipt."""
        self._given += 1
        answer_id = self._in_form(self._answer_form)
        return answer_id, answer_id if self._receipt_form == self._answer_form else self._in_form(self._receipt_form)

    def _in_form(self, form: IdForm) -> str:
        return _WRITTEN[form](self._start, self._given)


def _digest(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


_WRITTEN: Final[dict[IdForm, Callable[[int, int], str]]] = {  # of where the run began, and which message of it this is
    "text": lambda start, place: f"{start & 0xFF_FFFF:06x}-{place:08d}",
    "decimal": lambda start, place: str(start + place),
    "decimal_padded": lambda start, place: f"{start + place:010d}",
    "hex": lambda start, place: f"{start + place:x}",
    "hex_upper": lambda start, place: f"{start + place:X}",
    "hex_padded": lambda start, place: f"{start + place:010x}",
    "uuid": lambda start, place: str(uuid.UUID(bytes=_digest(start + place)[:16], version=4)),
    "longest": lambda start, place: _digest(start + place).hex(),
    "constant": lambda _, __: "1",
    "empty": lambda _, __: "",
}
