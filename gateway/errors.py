"""What can go wrong in the gateway, sorted by what the caller must do about it.

    GatewayError
      LocalError            we broke a rule: a bug or bad input; nothing was written
        NotBound            the session is in no state that lets this PDU out
        WindowFull          every slot is taken
        FieldTooLong        a value does not fit its field (SMPP v3.4 section 4); nothing is ever cut
        FieldOutOfRange     a number does not fit its field
        UnknownField        the PDU has no field of that name
        UnencodableText     the text has a character that the chosen alphabet lacks
        TooManySegments     the text needs more segments than a concatenation header can count
      PduError              the peer sent something unusable
        MalformedBody       the header is good, the body is not: answer it, keep the session
        BrokenStream        the length is impossible: nothing after it can be trusted, drop the link

A refused submit_sm is no exception: it is a ``SubmitResult`` with its verdict. No message built here
carries a message text, a password or a full number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.pdu import Header


class GatewayError(Exception):
    """Root of everything the gateway raises."""


class LocalError(GatewayError):
    """We broke a rule; nothing was written."""


class NotBound(LocalError):
    """The session is in no state that lets this PDU out."""

    def __init__(self, state: str) -> None:
        self.state = state
        super().__init__(f"session is {state}")


class WindowFull(LocalError):
    """Every slot of the window is taken."""

    def __init__(self, size: int) -> None:
        self.size = size
        super().__init__(f"{size} requests are unanswered")


class FieldTooLong(LocalError):
    """A value does not fit its field; it is refused and never cut."""

    def __init__(self, field: str, length: int, limit: int) -> None:
        self.field = field
        self.length = length
        self.limit = limit
        super().__init__(f"{field}: {length} octets, at most {limit}")


class FieldOutOfRange(LocalError):
    """A number does not fit the octets of its field."""

    def __init__(self, field: str, value: int, limit: int) -> None:
        self.field = field
        self.value = value
        self.limit = limit
        super().__init__(f"{field}: {value} is not in 0..{limit}")


class UnknownField(LocalError):
    """The PDU's field table has no such name."""

    def __init__(self, command: str, field: str) -> None:
        self.command = command
        self.field = field
        super().__init__(f"{command} has no field {field}")


class UnencodableText(LocalError):
    """The text has a character that the alphabet lacks (the character itself is not told)."""

    def __init__(self, alphabet: str, position: int) -> None:
        self.alphabet = alphabet
        self.position = position
        super().__init__(f"character {position} is not in {alphabet}")


class TextDamaged(UnencodableText):
    """The segments, read as a handset reads them, are not the text: a fault of ours, found before an octet left."""

    def __init__(self) -> None:
        super().__init__("what was made of it", -1)
        self.args = ("what would be sent is not the text",)


class TooManySegments(LocalError):
    """The text needs more segments than a concatenation header can count; nothing is ever cut."""

    def __init__(self, parts: int, limit: int) -> None:
        self.parts = parts
        self.limit = limit
        super().__init__(f"{parts} segments, at most {limit}")


class PduError(GatewayError):
    """The peer sent something unusable."""


class MalformedBody(PduError):
    """The header is good, the body is not: answer it with ``status`` and keep the session."""

    def __init__(self, header: Header, field: str, problem: str, status: int) -> None:
        self.header = header
        self.field = field
        self.problem = problem
        self.status = status
        super().__init__(f"command_id 0x{header.command_id:08x}: {field}: {problem}")


class BrokenStream(PduError):
    """The length is impossible: nothing after it can be trusted."""

    def __init__(self, command_length: int) -> None:
        self.command_length = command_length
        super().__init__(f"command_length {command_length} is impossible")
