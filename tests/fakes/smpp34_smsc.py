"""An SMSC on the ``smpp34`` server, whose framing, codec and timers are Rust: it shares no line with ours.

Every submit_sm and every answer to a deliver_sm is kept. A receipt follows each accepted submit_sm.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from dataclasses import dataclass, field
from typing import Self

import smpp34

RECEIPT = 0x04  # esm_class, SMPP v3.4 section 5.2.12
WINDOW = 500  # deliver_sm without an answer; real SMSCs allow 1 to 100
TEMPORARY = {0x58, 0x64}  # an SMSC keeps what is refused so, and sends it again


@dataclass(slots=True)
class Submit:
    """One submit_sm as the server read it."""

    at: float  # monotonic seconds
    session: str
    source: str
    destination: str
    data_coding: int
    esm_class: int
    registered_delivery: int
    octets: bytes = field(repr=False)
    message_id: str


class Smpp34Smsc:
    """Accepts everything, and sends a receipt DELIVRD for it."""

    def __init__(self, *, receipts: bool = True) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port: int = found.getsockname()[1]
        self.submits: list[Submit] = []
        self.receipt_statuses: list[int] = []  # what the answers to our receipts said
        self._receipts = receipts
        self._server = smpp34.Server("127.0.0.1", self.port, system_id="smpp34")
        self._sessions: dict[str, smpp34.Esme] = {}
        self._numbers = itertools.count(1)
        self._serving: asyncio.Task[None] | None = None
        self._deliveries: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._window = asyncio.Semaphore(WINDOW)

    async def __aenter__(self) -> Self:
        """Listen."""
        await self._server.start()
        self._serving = asyncio.create_task(self._serve())
        return self

    async def __aexit__(self, *_: object) -> None:
        """End all connections."""
        assert self._serving is not None
        self._serving.cancel()
        await asyncio.gather(self._serving, *self._deliveries, return_exceptions=True)
        await self._server.stop()

    async def _serve(self) -> None:
        while True:
            event = await self._server.next()
            if isinstance(event, smpp34.Esme):
                self._sessions[event.session_id] = event
            elif isinstance(event, smpp34.SubmitSmEvent):
                self._accept(event)
            elif isinstance(event, smpp34.Unbound):
                self._sessions.pop(event.session_id, None)

    def _accept(self, event: smpp34.SubmitSmEvent) -> None:
        message_id = f"{next(self._numbers):010X}"
        submit = Submit(
            time.monotonic(),
            event.session_id,
            event.source_addr,
            event.destination_addr,
            event.data_coding,
            event.esm_class,
            event.registered_delivery,
            event.short_message,
            message_id,
        )
        self.submits.append(submit)
        event.accept(message_id)
        if self._receipts and submit.registered_delivery & 1:
            task = asyncio.ensure_future(self._deliver_receipt(self._sessions[event.session_id], submit))
            self._deliveries.add(task)
            task.add_done_callback(self._deliveries.discard)

    async def _deliver_receipt(self, session: smpp34.Esme, submit: Submit) -> None:
        day = time.strftime("%y%m%d%H%M")
        text = f"id:{submit.message_id} sub:001 dlvrd:001 submit date:{day} done date:{day} stat:DELIVRD err:000 text:"
        async with self._window:
            while True:
                answer = await session.deliver_sm(
                    source_addr=submit.destination,
                    destination_addr=submit.source,
                    esm_class=RECEIPT,
                    short_message=text.encode("ascii"),
                )
                self.receipt_statuses.append(answer.command_status)
                if answer.command_status not in TEMPORARY:
                    break
