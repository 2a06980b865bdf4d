"""The inquiries of one link that wait for their turn: behind lane 0, before the segments of lanes 1 to 5.

A person waits for each of them, and they are few: on a link that is full of other traffic they would else never go.
They take slots and tokens that lane 0 does not keep for itself. One that could not go in time is `busy`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from gateway.inquiry import Reply, body_of

if TYPE_CHECKING:
    from gateway.binds import Binds, Live
    from gateway.inquiry import Ended, Inquiry
    from gateway.throttle import Throttle

Waiting = tuple["Inquiry", "asyncio.Future[Reply]"]


class Asking:
    """What is to be asked over one link."""

    def __init__(self, binds: Binds, throttle: Throttle) -> None:
        self._binds = binds
        self._throttle = throttle
        self._waiting: deque[Waiting] = deque()

    def __bool__(self) -> bool:
        """Say whether an inquiry waits."""
        return bool(self._waiting)

    def put(self, inquiry: Inquiry, wait_s: float) -> asyncio.Future[Reply]:
        """Let an inquiry wait for so long at most. Raises LocalError for a field that does not fit."""
        body_of(inquiry)
        loop = asyncio.get_running_loop()
        waiting: Waiting = (inquiry, loop.create_future())
        self._waiting.append(waiting)
        loop.call_later(wait_s, self._give_up, waiting)
        return waiting[1]

    def write(self, now: float) -> None:
        """Write what throttle and windows allow."""
        while self._waiting and self._throttle.allowance(now, lane0=False):
            live = self._binds.freest()
            if live is None or not live.session.free(lane0=False):
                break
            inquiry, future = self._waiting.popleft()
            if inquiry.kind in live.unsupported:
                _end(future, Reply("unsupported"))
                continue
            live.session.inquire(inquiry, (future, inquiry.kind), now)
            self._throttle.take(now)
            if not live.transport.flush():
                _end(future, Reply("session_lost"))  # fenced, or the socket is gone: it was not written

    def recall(self) -> None:
        """Let nothing wait any more: nothing can leave."""
        while self._waiting:
            _end(self._waiting.popleft()[1], Reply("session_lost"))

    def _give_up(self, waiting: Waiting) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)
            _end(waiting[1], Reply("busy"))


def replied(live: Live, event: Ended) -> None:
    """Take what came of an inquiry."""
    future, kind = event.token
    if event.reply.outcome == "unsupported":
        live.unsupported.add(kind)
    _end(future, event.reply)


def _end(future: asyncio.Future[Reply], reply: Reply) -> None:
    if not future.done():  # whoever asked may have gone
        future.set_result(reply)
