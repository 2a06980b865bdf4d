"""The logs of one run as values: what the client saw, what was on the wire, what the SMSC did, what the tables say.

All instants are monotonic seconds of one host. A write is what a daemon put on the wire, also when it never reached
the SMSC; its answer counts as given at the instant the proxy handed it to the daemon's socket.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg
import smpplib.smpp

from tests.fakes.smsc import _Numbers
from tests.journey.handset import Piece, Taken, piece_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUBMIT_SM, SUBMIT_SM_RESP, GENERIC_NACK = 0x04, 0x8000_0004, 0x8000_0000
BIND_RESPS = (0x8000_0001, 0x8000_0002, 0x8000_0009)
DELIVERED = 2  # message_state

DATABASE = "database.json"
TOLD = {
    "states": "select job_id, state from tocsin.job_status",
    "places": """
        select id, array_agg(place order by place) as places from (
            select id, 'ready' as place from tocsin.ready union all select id, 'deferred' from tocsin.deferred
            union all select id, 'uncertain' from tocsin.uncertain union all select job_id, 'closed' from tocsin.closed
            union all select distinct job_id, 'sent' from tocsin.sent) p group by id
    """,
    "events": """
        select subject::bigint as job_id, type, extract(epoch from at)::float8 as at
        from tocsin.event_log where type like 'job.%' order by seq
    """,
    "claims": "select batch from tocsin.claim",
    "stored": "select message_id from tocsin.sent where message_id is not null",
}


class Enqueued(NamedTuple):
    """A job that the client saw committed."""

    recipient: str
    body: str
    category: str


class Cancel(NamedTuple):
    """What the client was told."""

    at: float
    job_id: int
    answer: str


class Connection(NamedTuple):
    """One connection of a daemon towards the SMSC."""

    daemon: str
    link: str
    number: int


@dataclass(slots=True)
class Life:
    """When a connection was opened, bound and over."""

    opened: float
    bound: float | None = None
    ended: float = float("inf")


class Write(NamedTuple):
    """One submit_sm as a daemon wrote it."""

    at: float
    connection: Connection
    piece: Piece
    answered_at: float | None = None  # handed to the daemon's socket
    status: int | None = None
    message_id: str = ""


class Drain(NamedTuple):
    """An orderly end that was asked for, and its exit code; None when it took too long."""

    daemon: str
    at: float
    code: int | None


class Halt(NamedTuple):
    """A daemon that did nothing for a while: killed, drained or stopped."""

    how: str
    daemon: str
    at: float
    until: float


class TakeOver(NamedTuple):
    """A daemon began or finished to take a link; so many jobs stood in the journals of earlier owners."""

    at: float
    daemon: str
    link: str
    journalled: int
    is_complete: bool


class Receipt(NamedTuple):
    """The last receipt of one message id that the SMSC sent."""

    state: int
    acknowledged: bool


class Event(NamedTuple):
    """A row of the event log, in its order."""

    job_id: int
    type: str
    at: float


@dataclass(slots=True)
class Evidence:
    """All that the judge looks at."""

    rate: int  # of each link: segments in any sliding second
    sessions: int
    window_size: int
    response_timeout_s: float
    receipts: bool
    resent: frozenset[str]  # categories whose rule is resend
    jobs: dict[int, Enqueued] = field(default_factory=dict)
    cancels: list[Cancel] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)  # in order
    lives: dict[Connection, Life] = field(default_factory=dict)
    halts: list[Halt] = field(default_factory=list)
    take_overs: list[TakeOver] = field(default_factory=list)
    drains: list[Drain] = field(default_factory=list)
    outcries: list[str] = field(default_factory=list)  # of a daemon: lines that are no log lines
    taken: list[tuple[Taken, str | None]] = field(default_factory=list)  # by the SMSC, with the message id if accepted
    receipts_sent: dict[str, Receipt] = field(default_factory=dict)
    states: dict[int, str] = field(default_factory=dict)  # by tocsin.job_status
    places: dict[int, list[str]] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    stored: set[str] = field(default_factory=set)  # message ids in tocsin.sent
    journalled: int = 0  # rows of tocsin.claim


def read_files(folder: Path, evidence: Evidence) -> None:
    """Take in the logs of client, faults, proxies and SMSC, and what the tables said."""
    ahead = _read_database(folder / DATABASE, evidence)
    for line in _lines(folder / "client.log"):
        if line["what"] == "committed":
            evidence.jobs[line["job_id"]] = Enqueued(line["recipient"], line["body"], line["category"])
        elif line["what"] == "cancel":
            evidence.cancels.append(Cancel(line["at"], line["job_id"], line["answer"]))
    for line in _lines(folder / "faults.log"):
        if line["what"] == "halt":
            evidence.halts.append(Halt(line["how"], line["daemon"], line["at"], line["until"]))
        elif line["what"] == "drained":
            evidence.drains.append(Drain(line["daemon"], line["at"], line["code"]))
    for path in sorted(folder.glob("daemon-*/daemon.log")):
        with path.open(encoding="utf-8") as file:
            evidence.outcries += [f"{path.parent.name}: {line.strip()}" for line in file if not line.startswith("{")]
        for line in _lines(path):
            if line["event"] in ("link_accounting", "link_taken"):
                at = datetime.fromisoformat(line["at"]).timestamp() - ahead
                daemon = path.parent.name.removeprefix("daemon-")
                complete = line["event"] == "link_taken"
                evidence.take_overs.append(TakeOver(at, daemon, line["link"], line["journalled"], complete))
    _read_wire(folder / "wire.log", evidence)
    for path in sorted(folder.glob("smsc-*.log")):
        _read_smsc(path, evidence)


def _read_wire(path: Path, evidence: Evidence) -> None:
    written: dict[tuple[Connection, int], int] = {}
    for line in _lines(path):
        connection = Connection(line["daemon"], line["link"], line["connection"])
        match line["what"]:
            case "open":
                evidence.lives[connection] = Life(line["at"])
            case "end":
                evidence.lives[connection].ended = line["at"]
            case "up" if line["command"] == SUBMIT_SM:
                written[connection, line["sequence"]] = len(evidence.writes)
                evidence.writes.append(Write(line["at"], connection, piece_of(_taken(bytes.fromhex(line["octets"])))))
            case "down" if line["command"] in (SUBMIT_SM_RESP, GENERIC_NACK):
                if (place := written.get((connection, line["sequence"]))) is not None:
                    write = evidence.writes[place]
                    message_id = bytes.fromhex(line.get("octets", ""))[16:].rstrip(b"\0").decode("latin-1")
                    evidence.writes[place] = write._replace(
                        answered_at=line["at"], status=line["status"], message_id=message_id
                    )
            case "down" if line["command"] in BIND_RESPS and not line["status"]:
                evidence.lives[connection].bound = line["at"]


def _taken(octets: bytes) -> Taken:
    """Read by smpplib, which shares no line with the codec under test."""
    pdu = smpplib.smpp.parse_pdu(octets, client=_Numbers(), allow_unknown_opt_params=True)
    return Taken(pdu.destination_addr.decode(), pdu.data_coding, pdu.esm_class, pdu.short_message)


def _read_smsc(path: Path, evidence: Evidence) -> None:
    submits: dict[tuple[int, int], int] = {}
    delivered: dict[tuple[int, int], str] = {}
    for line in _lines(path):
        key, fields = (line["session"], line["sequence"]), line["fields"]
        match line["command"]:
            case "submit_sm":
                submits[key] = len(evidence.taken)
                octets = bytes.fromhex(fields.get("short_message", ""))
                taken = Taken(fields["destination_addr"], fields["data_coding"], fields["esm_class"], octets)
                evidence.taken.append((taken, None))
            case "submit_sm_resp" if not line["status"]:
                place = submits[key]
                evidence.taken[place] = (evidence.taken[place][0], fields["message_id"])
            case "deliver_sm":
                message_id = fields["receipted_message_id"]
                delivered[key] = message_id
                earlier = evidence.receipts_sent.get(message_id)
                was = earlier is not None and earlier.acknowledged
                evidence.receipts_sent[message_id] = Receipt(fields["message_state"], was)
            case "deliver_sm_resp" if not line["status"]:
                if (message_id := delivered.get(key)) is not None:
                    receipt = evidence.receipts_sent[message_id]
                    evidence.receipts_sent[message_id] = receipt._replace(acknowledged=True)


async def dump_database(url: str, folder: Path) -> None:
    """Write down what the tables say at the end, beside the other logs."""
    connection = await asyncpg.connect(url)
    try:
        told = {name: [dict(row) for row in await connection.fetch(sql)] for name, sql in TOLD.items()}
    finally:
        await connection.close()
    told["ahead"] = time.time() - time.monotonic()  # the database's clock is this host's
    (folder / DATABASE).write_text(json.dumps(told), encoding="ascii")


def _read_database(path: Path, evidence: Evidence) -> float:
    """Return how far the clock of the day is ahead of the monotonic one."""
    told = json.loads(path.read_text(encoding="ascii"))
    states: dict[int, list[str]] = defaultdict(list)
    for row in told["states"]:
        states[row["job_id"]].append(row["state"])
    evidence.states = {job_id: "+".join(sorted(named)) for job_id, named in states.items()}
    evidence.places = {row["id"]: row["places"] for row in told["places"]}
    evidence.events = [Event(row["job_id"], row["type"], row["at"] - told["ahead"]) for row in told["events"]]
    evidence.journalled = len(told["claims"])
    evidence.stored = {row["message_id"] for row in told["stored"]}
    return float(told["ahead"])


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="ascii") as file:
        for line in file:
            with contextlib.suppress(ValueError):  # the last line of a killed process
                yield json.loads(line)
