"""Logging: one line an event, on standard output; JSON, or key=value where a person watches a terminal.

Events are past-tense snake_case facts with fields (``job_settled``, ``link_lost``). Callers never pass a
message text, a password or a full number. ``guard`` is the last defence should one do it all the same:

* the value of a key that is known to hold text, a number or a secret is replaced;
* seven or more digits in a row, in any text, shrink to their last two, but under a key that holds an id;
* an exception becomes its type and code: messages and details of database errors quote rows.

Python's own logging (asyncpg, aiohttp, asyncio) comes out the same way, from warnings on.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, TextIO

import structlog

from config.reader import ConfigError
from dispatcher.errors import DispatcherError

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from structlog.typing import Processor

HIDDEN = "***"
NUMBER = re.compile(r"\d{7,}")  # an MSISDN has 7 to 15 digits; dates and ports have fewer in a row
FRAMES = 3  # innermost calls that a crash tells

PRIVATE_KEYS = frozenset(
    {
        "address", "addr", "body", "credentials", "destination", "destination_addr", "dsn", "forms", "message",
        "message_payload", "msisdn", "number", "octets", "parameters", "params", "password", "payload", "phone",
        "recipient", "row", "sender", "short_message", "source", "source_addr", "text", "url",
    }
)  # fmt: skip
ID_KEYS = frozenset(
    {
        "after", "batch", "batches", "epoch", "id", "ids", "inbound_id", "job_id", "job_ids", "receipt_id", "seq",
        "upto", "xid",
    }
)  # fmt: skip


def configure(stream: TextIO | None = None, *, console: bool | None = None) -> None:
    """Send structlog's events and Python's own logging to the stream.

    Args:
        stream: standard output when not given.
        console: key=value lines; None: when the stream is a terminal.

    """
    stream = stream or sys.stdout
    if console is None:
        console = stream.isatty()
    renderer: Processor = (
        structlog.processors.LogfmtRenderer(key_order=["at", "level", "event"], bool_as_flag=False)
        if console
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            guard,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: _Lines(stream),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [_Foreign()]
    root.setLevel(logging.WARNING)


def silence() -> None:
    """Keep events to ourselves: for a command that says on its own what it found."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL), cache_logger_on_first_use=False
    )
    logging.getLogger().setLevel(logging.CRITICAL)


def failure(error: BaseException) -> dict[str, str]:
    """Give the fields that may be logged of an error: never a text that a database or an SMSC wrote.

    ``error`` is the type; ``sqlstate``, ``command_status`` and ``errno`` stand there when the error has
    them; ``problem`` when the text is our own. Of a group it is the first error in it.
    """
    error = _first(error)
    fields = {"error": type(error).__name__}
    sqlstate = getattr(error, "sqlstate", None)
    command_status = getattr(error, "command_status", None)
    if isinstance(sqlstate, str):
        fields["sqlstate"] = mask(sqlstate)
    if isinstance(command_status, int):
        fields["command_status"] = f"0x{command_status:08X}"
    if isinstance(error, OSError) and error.errno is not None:
        fields["errno"] = str(error.errno)
    if isinstance(error, DispatcherError | ConfigError):
        fields["problem"] = mask(str(error))
    return fields


def mask(text: str) -> str:
    """Shorten each run of seven or more digits to its last two: ``447700900123`` is ``***23``."""
    return NUMBER.sub(lambda run: HIDDEN + run[0][-2:], text)


def guard(_logger: object, _method: str, event: MutableMapping[str, object]) -> MutableMapping[str, object]:
    """Take out of an event what no log may hold: the last processor before the line is written."""
    error = event.pop("exc_info", None)
    if error:
        error = error if isinstance(error, BaseException) else sys.exception()
    guarded: dict[str, object] = {key: _value(key, value) for key, value in event.items()}
    if isinstance(error, BaseException):
        guarded |= failure(error)
        guarded["at_line"] = place(error)
    return guarded


def _value(key: str, value: object) -> object:
    if value is None or isinstance(value, bool):
        return value
    if key in PRIVATE_KEYS and not (key == "octets" and isinstance(value, int)):  # a length tells nothing
        return HIDDEN
    if isinstance(value, int | float):
        return value
    if isinstance(value, str):
        return str(value) if key in ID_KEYS else mask(value)
    if isinstance(value, Mapping):
        return {mask(str(name)): _value(str(name), inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_value(key, inner) for inner in value]
    return f"<{type(value).__name__}>"  # a repr may quote anything


def place(error: BaseException) -> str:
    """Say where it was raised, innermost call first, without the source lines. Of a group: its first error."""
    frames = traceback.extract_tb(_first(error).__traceback__)[-FRAMES:]
    return " < ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in reversed(frames))


def _first(error: BaseException) -> BaseException:
    """What a task group wraps."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class _Lines:
    """Writes lines. A log that cannot be written must not stop a message: such a line is lost."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # the reader went away; the stream is closed
            return

    debug = info = warning = warn = error = critical = exception = fatal = log = msg


class _Foreign(logging.Handler):
    """Takes over what libraries log through Python's logging.

    Of the message only the first line of the template is kept: arguments, and the further lines of asyncio,
    quote objects.
    """

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        structlog.get_logger().log(
            record.levelno,
            "library_reported",
            library=record.name,
            said=str(record.msg).partition("\n")[0],
            exc_info=error,
        )
