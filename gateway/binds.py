"""The sessions of one link, and what keeps them bound.

One task per session connects, binds, waits until the session has ended, and after a pause begins again. The
pauses belong to the account: each failure doubles the next one, and refused credentials hold back every session.
Several hosts are tried in turn; a session that was bound goes back to the host it was on.
"""

from __future__ import annotations

import asyncio
import random
import time
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from gateway import status
from gateway.backoff import PROVEN_AFTER_S, Backoff
from gateway.session import (
    BindKind,
    BindRefused,
    Bound,
    Closed,
    CloseReason,
    Event,
    Session,
    SessionSettings,
    SessionState,
    Unexpected,
    WornOut,
)
from gateway.tls import Tls, tls_context
from gateway.transport import Transport, connect

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from config.settings import LinkSettings
    from gateway.observer import LinkState

FENCED_PAUSE_S: Final = 0.5  # between looks at a fence that says no
INTERFACE_VERSIONS: Final = {"3.3": 0x33, "3.4": 0x34, "5.0": 0x50}

log = structlog.get_logger(__name__)


class End(NamedTuple):
    """Why a session ended, or never began."""

    reason: str
    command_status: int | None = None  # of a refused bind


class Live:
    """One session while its socket lives."""

    __slots__ = ("bound_at", "end", "kind", "session", "submitted", "transport", "unexpected", "unsupported", "why")

    def __init__(self, kind: BindKind, session: Session) -> None:
        self.kind = kind
        self.session = session
        self.transport: Transport
        self.end: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self.why = ""  # we unbound it, or the SMSC refused the bind
        self.bound_at: float | None = None
        self.submitted = 0  # segments
        self.unexpected: dict[str, int] = {}  # kind -> PDUs
        self.unsupported: set[str] = set()  # kinds of inquiry that the SMSC does not offer

    def answer(self, sequence_number: int, command_status: int) -> bool:
        """Put deliver_sm_resp out at the end of this turn of the loop; False when it cannot be."""
        if not self.session.answer(sequence_number, command_status):
            return False
        self.transport.flush_soon()
        return True


class Binds:
    """Keeps every session of a link bound."""

    def __init__(
        self,
        settings: LinkSettings,
        *,
        may_write: Callable[[], bool],
        on_events: Callable[[Live, list[Event]], None],
        on_state: Callable[[LinkState, str], None],
    ) -> None:
        self.live: list[Live] = []
        self._settings = settings
        self._may_write = may_write
        self._on_events = on_events
        self._on_state = on_state
        self._backoff = Backoff(settings.rebind_delay_s)
        self._not_before = 0.0  # no session binds earlier: the credentials were refused
        self._host_index = 0
        self._keepers: list[asyncio.Task[None]] = []
        self._is_stopping = False

    @property
    def can_submit(self) -> bool:
        """Say whether segments can leave."""
        return any(live.session.can_submit for live in self.live)

    @property
    def submitting(self) -> int:
        """Sessions that segments can leave on."""
        return sum(live.session.can_submit for live in self.live)

    @property
    def bound(self) -> int:
        """Sessions that are bound, of any kind."""
        return sum(live.session.state is SessionState.BOUND for live in self.live)

    @property
    def window_in_use(self) -> int:
        """Unanswered segments over all sessions, those past their time included."""
        return sum(len(live.session.window) for live in self.live)

    @property
    def is_quiet(self) -> bool:
        """Say that no session waits for an answer or owes one."""
        return all(live.session.is_quiet for live in self.live)

    def freest(self) -> Live | None:
        """Session with the most free slots, of those whose socket takes more."""
        found = None
        most = 0
        for live in self.live:
            free = live.session.free(lane0=True)
            if free > most and not live.transport.is_blocked:
                found, most = live, free
        return found

    @property
    def is_blocked(self) -> bool:
        """Say that a session with free slots waits for its socket to take more."""
        return any(live.transport.is_blocked and live.session.free(lane0=True) for live in self.live)

    def proven(self) -> None:
        """Note that a segment was accepted, so the account and the way to it are good."""
        self._backoff.proven()

    def reconfigure(self, settings: LinkSettings) -> None:
        """Take settings that differ in nothing that a bind depends on."""
        self._settings = settings
        self._backoff.base_s = settings.rebind_delay_s
        for live in self.live:
            live.session.reconfigure(self._session_settings(live.kind))
            live.transport.flush_soon()  # a deadline may be nearer now

    async def run(self) -> None:
        """Keep the sessions bound until `stop` is through, or this is cancelled: then the sockets close at once."""
        settings = self._settings
        tls = None if settings.tls is None else tls_context(settings.tls)
        kinds: tuple[BindKind, ...] = ("transceiver",)
        if settings.bind_type == "transmitter+receiver":
            kinds = ("transmitter", "receiver")
        async with asyncio.TaskGroup() as group:
            self._keepers = [
                group.create_task(self._keep(kind, tls), name=f"{settings.name} {kind} {number}")
                for number in range(settings.sessions)
                for kind in kinds
            ]

    async def stop(self, timeout_s: float) -> None:
        """Unbind every session, wait so long for the answers, and let `run` return."""
        self._is_stopping = True
        for live in list(self.live):
            live.transport.tell(live.session.unbind(time.monotonic()))
        if self.live:
            await asyncio.wait([live.end for live in self.live], timeout=timeout_s)
        for keeper in self._keepers:
            keeper.cancel()

    # One session's life after the other

    async def _keep(self, kind: BindKind, tls: ssl.SSLContext | None) -> None:
        while not self._is_stopping:
            await self._until_allowed()
            end = await self._live_once(kind, tls)
            if self._is_stopping:
                return
            delay_s = self._backoff.delay_s(random.random(), end.command_status)  # noqa: S311  # no secret
            if end.command_status in status.BIND_REFUSED:
                self._not_before = max(self._not_before, time.monotonic() + delay_s)
            self._tell("waiting", end.reason)
            log.info(
                "session_waiting", link=self._settings.name, kind=kind, reason=end.reason, delay_s=round(delay_s, 1)
            )
            await asyncio.sleep(delay_s)

    async def _until_allowed(self) -> None:
        """Wait until the credentials may be tried again, and until this process owns the link."""
        while (wait_s := self._not_before - time.monotonic()) > 0:  # noqa: ASYNC110  # it moves while we wait
            await asyncio.sleep(wait_s)
        while not self._may_write():  # the fence is a clock: nobody sets an event
            self._tell("waiting", "fenced")
            await asyncio.sleep(FENCED_PAUSE_S)

    async def _live_once(self, kind: BindKind, tls: ssl.SSLContext | None) -> End:
        """Connect, bind, and stay until the session has ended."""
        settings = self._settings
        host = settings.hosts[self._host_index % len(settings.hosts)]
        self._tell("binding", host)
        try:
            sock = await connect(
                host, settings.port, local_address=settings.local_address, timeout_s=settings.bind_timeout_s
            )
        except (OSError, UnicodeError) as error:  # UnicodeError: a host that cannot be a name at all
            self._host_index += 1
            log.warning("connect_failed", link=settings.name, host=host, error=type(error).__name__)
            return End("connect_failed")
        server_name = host if settings.tls is None else settings.tls.server_name or host
        live = Live(kind, Session(self._session_settings(kind), time.monotonic()))
        live.transport = Transport(
            sock,
            live.session,
            may_write=self._may_write,
            on_events=partial(self._on_events, live),
            tls=None if tls is None else Tls(tls, server_name),
        )
        self.live.append(live)
        try:
            live.transport.start()
            while not live.end.done():
                await asyncio.wait([live.end], timeout=FENCED_PAUSE_S)
                if not self._may_write():  # another may bind in a moment, and the account must not be bound twice
                    live.transport.close(CloseReason.FENCED)
            return live.end.result()
        finally:
            live.transport.close()
            if live.bound_at is None:
                self._host_index += 1

    def _session_settings(self, kind: BindKind) -> SessionSettings:
        settings = self._settings
        return SessionSettings(
            kind=kind,
            system_id=settings.system_id,
            password=settings.password,
            system_type=settings.system_type,
            interface_version=INTERFACE_VERSIONS[settings.interface_version],
            address_range=settings.address_range,
            window_size=settings.window_size,
            response_timeout_s=settings.response_timeout_s,
            bind_timeout_s=settings.bind_timeout_s,
            enquire_link_s=settings.enquire_link_s,
        )

    def _tell(self, state: LinkState, detail: str) -> None:
        """Tell what one session does, unless another one carries the link."""
        if not self.can_submit:
            self._on_state(state, detail)

    # What sessions tell of themselves

    def note(self, live: Live, event: Event, now: float) -> None:
        """Take an event that concerns the session and not a message."""
        link = self._settings.name
        if isinstance(event, Bound):
            live.bound_at = now
            log.info("session_bound", link=link, kind=live.kind)
            if live.kind != "receiver":
                self._on_state("bound", live.kind)
        elif isinstance(event, BindRefused):
            name = status.name(event.command_status)
            live.why = f"bind_refused {name}"
            live.end.set_result(End(live.why, event.command_status))
            log.error("bind_refused", link=link, kind=live.kind, command_status=name)
        elif isinstance(event, WornOut):
            live.why = "worn_out"
            log.warning("window_worn_out", link=link, dead=event.dead)
        elif isinstance(event, Unexpected):
            live.unexpected[event.kind] = live.unexpected.get(event.kind, 0) + 1
            if live.unexpected[event.kind] == 1:
                log.warning(
                    "pdu_unexpected",
                    link=link,
                    kind=event.kind,
                    command_id=f"0x{event.command_id:08x}",
                    command_status=status.name(event.command_status),
                )
        elif isinstance(event, Closed):
            self._note_end(live, event, now)

    def _note_end(self, live: Live, event: Closed, now: float) -> None:
        live.why = live.why or event.reason
        self.live.remove(live)
        if not live.end.done():  # first of all: whoever keeps the session waits for it
            live.end.set_result(End(live.why))
        bound_for_s = 0.0 if live.bound_at is None else now - live.bound_at
        if bound_for_s >= PROVEN_AFTER_S:
            self._backoff.proven()
        log.info(
            "session_ended",
            link=self._settings.name,
            kind=live.kind,
            reason=str(live.why),
            bound_for_s=round(bound_for_s, 1),
            submitted=live.submitted,
            unexpected=live.unexpected,
        )
        self._tell("waiting", live.why)
