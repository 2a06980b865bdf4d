"""dispatcher/log.py: what a log line may hold, whatever the caller passed."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from enum import StrEnum

import pytest
import structlog

from config.reader import ConfigError
from dispatcher import log
from dispatcher.errors import StoreUnavailable

MSISDN = "447700900123"
TEXT = "Your biopsy result is ready"


class DatabaseError(Exception):
    """Shaped like a driver's: a message that quotes the statement, a detail that quotes the row."""

    sqlstate = "23505"
    detail = f"Key (recipient)=({MSISDN}) already exists."


class Color(StrEnum):
    RED = "red"


@pytest.fixture(autouse=True)
def _unconfigured():
    """Leave logging as it was found."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    structlog.reset_defaults()
    root.handlers, root.level = handlers, level


def lines(*, console: bool = False):
    """A configured logger and what it has written."""
    stream = io.StringIO()
    log.configure(stream, console=console)
    return structlog.get_logger(), stream


def only(stream: io.StringIO) -> dict:
    (line,) = stream.getvalue().splitlines()
    return json.loads(line)


def test_an_event_is_one_json_line_with_its_time_and_level():
    """Journals and collectors read lines."""
    logger, stream = lines()
    logger.info("job_settled", job_id=17, link="carrier-a", segments=3, waited_s=0.41, first=None, flash=True)
    event = only(stream)
    assert event.pop("at").endswith("Z")
    assert event == {
        "event": "job_settled", "level": "info", "job_id": 17, "link": "carrier-a", "segments": 3, "waited_s": 0.41,
        "first": None, "flash": True,
    }  # fmt: skip


def test_a_terminal_gets_key_value_lines():
    """A person reads along in a terminal; a line break in a value cannot forge a second line."""
    logger, stream = lines(console=True)
    logger.warning("link_lost", link="carrier-a", side="peer\nforged")
    (line,) = stream.getvalue().splitlines()
    assert "level=warning event=link_lost link=carrier-a" in line


def test_the_stream_decides_the_form():
    """A service without a terminal writes JSON without being told."""
    stream = io.StringIO()
    log.configure(stream)
    structlog.get_logger().info("started")
    assert only(stream)["event"] == "started"


def test_debug_events_are_not_written():
    """The log has one level; what is below it costs nothing."""
    logger, stream = lines()
    logger.debug("octets_read", octets=16)
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    "key", ["text", "body", "recipient", "destination", "source", "password", "short_message", "url"]
)
def test_a_private_key_never_shows_its_value(key):
    """Even a short text under a key that holds texts is somebody's."""
    logger, stream = lines()
    logger.info("mistake_made", **{key: TEXT}, inner={key: TEXT}, several=[{key: TEXT}])
    assert TEXT not in stream.getvalue()
    assert only(stream)[key] == "***"


@pytest.mark.parametrize(
    "value",
    [MSISDN, f"to +{MSISDN}!", [MSISDN], {"a": {"b": (MSISDN,)}}, {MSISDN: 1}, "٤٤٧٧٠٠٩٠٠١٢٣", frozenset({MSISDN})],
    ids=["plain", "within", "list", "nested", "key", "arabic-indic", "set"],
)
def test_seven_digits_in_a_row_are_masked_wherever_they_stand(value):
    """A full number must not come out through a field that nobody thought of."""
    logger, stream = lines()
    logger.info("mistake_made", detail=value)
    written = json.dumps(only(stream), ensure_ascii=False)
    assert MSISDN not in written
    assert "٤٤٧٧٠٠٩" not in written


def test_the_event_itself_is_masked():
    """An f-string as event is the commonest mistake."""
    logger, stream = lines()
    logger.info(f"sent to {MSISDN}")  # noqa: G004
    assert only(stream)["event"] == "sent to ***23"


def test_ids_and_short_digits_stay_readable():
    """A log without ids, times and ports would be of no use."""
    logger, stream = lines()
    logger.info(
        "seen", job_id=12345678901, batch="12345678", ids=[123456789], port=2775, day="2026-11-22", color=Color.RED
    )
    event = only(stream)
    assert (event["job_id"], event["batch"], event["ids"]) == (12345678901, "12345678", [123456789])
    assert (event["port"], event["day"], event["color"]) == (2775, "2026-11-22", "red")


def test_an_object_shows_its_type_alone():
    """A repr quotes what an object holds: a job its text, bytes a message."""
    logger, stream = lines()
    logger.info("seen", job=ValueError(TEXT), raw=TEXT.encode())
    assert (only(stream)["job"], only(stream)["raw"]) == ("<ValueError>", "<bytes>")


def test_a_crash_shows_type_code_and_place_but_no_message():
    """Messages of database errors quote rows; the place is enough to find the fault."""
    logger, stream = lines()
    try:
        raise DatabaseError(f"duplicate key for {TEXT}")
    except DatabaseError:
        logger.exception("settle_failed")
    event = only(stream)
    assert (event["error"], event["sqlstate"]) == ("DatabaseError", "23505")
    assert event["at_line"].startswith("test_log.py:")
    assert TEXT not in stream.getvalue()
    assert MSISDN not in stream.getvalue()


def test_failure_gives_safe_fields():
    """Loops log what went wrong through this and nothing else."""
    assert log.failure(DatabaseError(TEXT)) == {"error": "DatabaseError", "sqlstate": "23505"}
    assert log.failure(ValueError(TEXT)) == {"error": "ValueError"}
    assert log.failure(ConnectionRefusedError(111, TEXT)) == {"error": "ConnectionRefusedError", "errno": "111"}
    refused = type("BindRefused", (Exception,), {"command_status": 14})()
    assert log.failure(refused) == {"error": "BindRefused", "command_status": "0x0000000E"}


def test_failure_gives_our_own_words():
    """Our own errors are written without texts and numbers, so their message may be read."""
    problem = ConfigError("a.toml", "[http]", "listen", "is wrong")
    assert log.failure(problem) == {"error": "ConfigError", "problem": "a.toml: [http]: listen: is wrong"}
    assert log.failure(StoreUnavailable(f"no {MSISDN}"))["problem"] == "no ***23"


def test_library_warnings_come_out_the_same_way_without_their_arguments():
    """Asyncio and drivers quote objects in their messages; only what they always say is kept."""
    _, stream = lines()
    logging.getLogger("aiohttp.server").warning("Error handling request from %s", MSISDN)
    event = only(stream)
    assert (event["event"], event["level"], event["library"]) == ("library_reported", "warning", "aiohttp.server")
    assert event["said"] == "Error handling request from %s"


def test_library_exceptions_lose_their_message():
    """'Task exception was never retrieved' carries the exception's text on its second line."""
    _, stream = lines()
    error = DatabaseError(TEXT)
    message = f"Task exception was never retrieved\nfuture: {error!r}"
    logging.getLogger("asyncio").error(message, exc_info=error)
    event = only(stream)
    assert (event["said"], event["error"]) == ("Task exception was never retrieved", "DatabaseError")
    assert TEXT not in stream.getvalue()


def test_library_chatter_below_warning_is_dropped():
    """Asyncpg and aiohttp tell much that is no event of ours."""
    _, stream = lines()
    logging.getLogger("asyncpg").info("listening")
    assert stream.getvalue() == ""


def test_a_broken_stream_stops_nobody():
    """An emergency must go out although the journal is gone."""
    logger, stream = lines()
    stream.close()
    logger.info("job_settled")


def test_mask_keeps_the_last_two_digits():
    """Two digits let a person compare and tell nobody the number."""
    assert log.mask("+447700900123 and 123456") == "+***23 and 123456"


async def test_of_a_group_the_first_error_is_told():
    """A task group's own name says nothing about what broke."""

    async def broken() -> None:
        raise KeyError(TEXT)

    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(broken())

    assert log.failure(caught.value) == {"error": "KeyError"}
    assert log.place(caught.value).startswith("test_log.py:")
