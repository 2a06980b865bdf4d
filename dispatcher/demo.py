"""What ``tocsin demo`` runs: everything real but the SMSCs, for half a minute, and a look at who came first.

An embedded Postgres, thrown away afterwards; two simulated SMSCs in this process; the daemon as a process of its own.
Two thousand mixed jobs are enqueued at once onto links that need a quarter of a minute for them. Meanwhile emergencies
are enqueued, each in a transaction of its own, and patients answer. What came out is then judged from the SMSCs' own
logs (``demo_evidence``): exit code 0 means that all of it held, 1 that something did not, 3 that the database did not
start. Nothing printed holds a text or a number of anybody.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import sys
import textwrap
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from dispatcher import demo_stage as stage
from dispatcher.demo_evidence import Evidence, Job, LinkLog, judge
from dispatcher.demo_handset import Taken
from dispatcher.demo_load import EMERGENCIES, KINDS, LONG_ANSWER, RAISED_AT, load
from dispatcher.demo_stage import CARRIERS, SHORT_CODE, DemoFailed
from dispatcher.demo_view import View, as_json
from dispatcher.demo_watch import Turns, Watch, http_port
from dispatcher.errors import DispatcherError
from dispatcher.migrate import migrate
from dispatcher.store import array, connect
from dispatcher.unprivileged import EmbeddedError
from gateway import count
from gateway.smsc import DELIVERED, UNDELIVERABLE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dispatcher.demo_evidence import Judgement
    from dispatcher.demo_load import Load
    from dispatcher.demo_stage import Carrier
    from dispatcher.demo_watch import Now
    from dispatcher.store import Connection
    from gateway.smsc import Smsc, Submitted

DONE, FAILED, UNUSABLE = 0, 1, 3
INTERRUPTED = 130  # as shells report SIGINT

UNTIL_FREE_S = 1.1  # a daemon that is new to a link counts the second before as full
DONE_WITHIN_S = 40.0  # from the enqueue to the last receipt, which takes half of it
LOOK_S = 0.25  # between two looks
NOTABLE = {
    LONG_ANSWER: "a patient sent a reply of several parts",
    "STOP": "a patient sent STOP: confirmed, and nothing more goes there",
}
RECEIPT_STATES = {DELIVERED: "delivered", UNDELIVERABLE: "undelivered"}


def main(*, port: int = 0, json_wanted: bool = False) -> int:
    """Run the demonstration and return its exit code. It ends by itself, and on SIGINT, SIGTERM and SIGHUP.

    The daemon's HTTP listener takes `port`, 0 for any free one. With `json_wanted` the summary is one JSON object on
    standard output, and all else goes to standard error.
    """
    view = View(sys.stderr if json_wanted else sys.stdout)
    return asyncio.run(_run_until_signal(view, port, json_wanted=json_wanted))


async def _run_until_signal(view: View, port: int, *, json_wanted: bool) -> int:
    this = asyncio.current_task()
    assert this is not None
    signals: list[signal.Signals] = []

    def interrupt(number: signal.Signals) -> None:
        if not signals:  # the first one stops the demonstration, a second one must not stop the cleaning up
            this.cancel()
        signals.append(number)

    loop = asyncio.get_running_loop()
    for number in stage.SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            loop.add_signal_handler(number, interrupt, number)
    try:
        return await _run(this, view, port, json_wanted=json_wanted)
    except asyncio.CancelledError:
        if not signals:
            raise
        view.say("interrupted; nothing is left running")
        return INTERRUPTED


async def _run(this: asyncio.Task[object], view: View, port: int, *, json_wanted: bool) -> int:
    """Start everything, watch, judge, stop everything."""
    began = time.monotonic()
    folder = stage.folder()
    log = folder / "daemon.log"
    keep = True
    try:
        judgement = await _demonstrate(folder, log, began, view, port)
        took_s = time.monotonic() - began
        if json_wanted:
            sys.stdout.write(json.dumps(as_json(judgement, took_s)) + "\n")
        if not judgement.holds:
            raise DemoFailed("not all of it held: " + ", ".join(c.name for c in judgement.checks if c.problems))
        keep = False
        view.say(f"all of it held, and no emergency waited ({took_s:.0f} s in all)", "bold green")
        return DONE
    except (asyncio.CancelledError, SystemExit):  # the latter comes from rich: whoever read the output is gone
        keep = False
        raise
    except (DispatcherError, OSError) as error:
        if this.cancelling():  # Ctrl-C reaches every process of the terminal: this is what it broke
            keep = False
            raise asyncio.CancelledError from None
        view.say(f"FAILED: {error}", "bold red")
        return UNUSABLE if isinstance(error, EmbeddedError) else FAILED
    finally:
        if keep and log.is_file():
            view.say(f"the daemon's log: {log}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


async def _demonstrate(folder: Path, log: Path, began: float, view: View, port: int) -> Judgement:
    async with contextlib.AsyncExitStack() as stack:
        view.say("tocsin demo: everything is real but the SMSCs", "bold")
        url = await stack.enter_async_context(stage.postgres(folder / "postgres"))
        app = await connect(url)
        stack.push_async_callback(app.close)
        await migrate(app.raw)
        view.tell("Postgres", f"embedded, thrown away afterwards; ready after {time.monotonic() - began:.1f} s")

        day = load()
        receipts: dict[str, str] = {}  # message id -> what its receipt says

        def outcome(submitted: Submitted) -> int:
            is_reachable = submitted.pdu.text("destination_addr") not in day.unreachable
            state = DELIVERED if is_reachable else UNDELIVERABLE
            receipts[submitted.message_id] = RECEIPT_STATES[state]
            return state

        smscs: dict[Carrier, Smsc] = {}
        for carrier in CARRIERS:
            smscs[carrier] = await stack.enter_async_context(stage.simulator(carrier, outcome))
            view.tell(
                "SMSC",
                f"{carrier.name}, simulated, port {smscs[carrier].port}: {carrier.segments_per_s} segments/s,"
                f" answers in {carrier.latency_s * 1000:.0f} ms",
            )

        file = folder / "tocsin.toml"
        file.write_text(stage.configuration(url, [smsc.port for smsc in smscs.values()], port), encoding="utf-8")
        daemon = await stack.enter_async_context(stage.daemon(file, log))
        await stage.bound(smscs.values(), daemon, log)
        view.tell("daemon", f"process {daemon.pid}, bound to both")
        listens_on = http_port(log)
        page_url = f"http://127.0.0.1:{listens_on}/"
        view.tell("status", f"page at {page_url}")

        turns = Turns()
        turning = asyncio.create_task(turns.watch(), name="turns")
        stack.callback(turning.cancel)
        await asyncio.sleep(UNTIL_FREE_S)
        demo = Demo(day, app, smscs, Watch(app, smscs, listens_on), view)
        await demo.enqueue()
        with view.watch(page_url), contextlib.suppress(TimeoutError):  # the judgement says what is missing
            async with asyncio.timeout(DONE_WITHIN_S):
                await demo.run(lambda: stage.check_runs(daemon, log))
        judgement = judge(await demo.evidence(turns, receipts))
        view.summarize(judgement)
        await stage.drained(daemon)
        return judgement


@dataclass(slots=True)
class Alarm:
    """An emergency on its way."""

    name: str
    committed_at: float  # monotonic seconds, just before the commit
    seconds: float  # since the load was enqueued
    segments: int  # that have not come out yet
    waiting: int  # segments of others at its commit


class Demo:
    """What happens, from the enqueue to the last receipt."""

    def __init__(self, day: Load, app: Connection, smscs: dict[Carrier, Smsc], watch: Watch, view: View) -> None:
        self._load = day
        self._app = app
        self._smscs = smscs
        self._watch = watch
        self._view = view
        self._jobs: list[Job] = []
        self._alarms: dict[str, Alarm] = {}  # recipient -> emergency, in their order
        self._unsent = {answer.source: answer.text for answer in day.answers}

    async def enqueue(self) -> None:
        """Enqueue the load, all of it in one transaction."""
        requests = self._load.requests
        async with self._app.transaction():
            rows = await self._app.fetch("demo_enqueue_many", json.dumps([asdict(request) for request in requests]))
            enqueued_at = time.monotonic()
        for request, row in zip(requests, rows, strict=True):
            if row["outcome"] != "queued":
                raise DemoFailed(f"{request.category} was not taken: {row['outcome']}, {row['reason']}")
            self._jobs.append(Job(row["job_id"], request, enqueued_at))
        self._watch.note(requests)
        self._watch.begin()
        segments = sum(count(request.body)[1] for request in requests)
        self._view.tell("load", f"{len(requests):,} jobs, {segments:,} segments, enqueued in one transaction:")
        kinds = ", ".join(f"{kind.jobs} {kind.name}" for kind in KINDS)
        self._view.say(textwrap.fill(kinds, 79, initial_indent=" " * 12, subsequent_indent=" " * 12))
        self._view.say()

    async def run(self, check_daemon: Callable[[], None]) -> None:
        """Look on until every job has its end; raise emergencies and send answers meanwhile."""
        while True:
            await asyncio.sleep(LOOK_S)
            check_daemon()
            entries = self._watch.new_entries()
            for carrier, entry in entries:
                self._look_for_emergency(carrier, entry)
            for carrier, entry in entries:
                self._let_answer(carrier, entry)
            await self._watch.look()
            now = self._watch.now()
            self._view.show(now)
            await self._raise_emergency(now)  # after the picture was painted, which nothing may be late for
            if len(self._alarms) == len(EMERGENCIES) and self._watch.all_ended and self._all_told():
                return

    async def evidence(self, turns: Turns, receipts: dict[str, str]) -> Evidence:
        """Gather what is judged: the SMSCs' logs, and what an app reads of jobs and replies."""
        states = await self._app.fetch("demo_jobs", array(job.id for job in self._jobs))
        inbox = await self._app.fetch("demo_inbox")
        return Evidence(
            jobs=self._jobs,
            links=[
                LinkLog(carrier.name, carrier.segments_per_s, [_taken(entry, turns) for entry in smsc.log])
                for carrier, smsc in self._smscs.items()
            ],
            receipts=receipts,
            states={row["job_id"]: row["state"] for row in states},
            answers=self._load.answers,
            inbox=[(row["source"], row["text"]) for row in inbox],
        )

    def _all_told(self) -> bool:
        """Say whether every receipt and reply was sent and acknowledged, which is done once it is committed."""
        return not self._unsent and all(smsc.held == 0 for smsc in self._smscs.values())

    async def _raise_emergency(self, now: Now) -> None:
        """Commit the next emergency once its share of the load is on the wire."""
        raised = len(self._alarms)
        if raised == len(EMERGENCIES) or now.sent < RAISED_AT[raised] * now.segments:
            return
        request = EMERGENCIES[raised]
        async with self._app.transaction():
            (row,) = await self._app.fetch(
                "demo_enqueue", request.recipient, request.body, request.category, request.flash
            )
            committed_at = time.monotonic()
        self._jobs.append(Job(row["job_id"], request, committed_at))
        self._watch.note([request])
        alarm = Alarm(
            f"emergency {raised + 1}", committed_at, now.seconds, count(request.body)[1], now.segments - now.sent
        )
        self._alarms[request.recipient] = alarm
        self._view.moment(
            alarm.name, now.seconds, f"{alarm.name} committed; {alarm.waiting:,} segments wait", is_urgent=True
        )

    def _look_for_emergency(self, carrier: Carrier, entry: Submitted) -> None:
        """Tell when the last segment of one came out."""
        alarm = self._alarms.get(entry.pdu.text("destination_addr"))
        if alarm is not None:
            alarm.segments -= 1
            if not alarm.segments:
                waited_ms = 1000 * (entry.at - alarm.committed_at)
                said = f"on {carrier.name} after {waited_ms:.0f} ms, while {alarm.waiting:,} segments waited"
                self._view.moment(alarm.name, alarm.seconds, f"{alarm.name} {said}", is_urgent=True)

    def _let_answer(self, carrier: Carrier, entry: Submitted) -> None:
        """Send what this patient answers, the first time something comes."""
        number = entry.pdu.text("destination_addr")
        answer = self._unsent.pop(number, None)
        if answer is not None:
            self._smscs[carrier].send(number, SHORT_CODE, answer, system_id=carrier.name)
            self._watch.replies_sent += 1
            note = NOTABLE.get(answer)
            if note:
                self._view.moment(note, self._watch.now().seconds, note)


def _taken(entry: Submitted, turns: Turns) -> Taken:
    return Taken(
        at=entry.at,
        since=turns.since(entry.at),
        destination=entry.pdu.text("destination_addr"),
        data_coding=entry.pdu.number("data_coding"),
        esm_class=entry.pdu.number("esm_class"),
        octets=entry.pdu.octets("short_message"),
        message_id=entry.message_id,
    )
