"""The waiting rooms of a link, one a lane, and the choice of the segment that goes next.

Lane 0 goes first, strictly, but for one segment in 50 that goes to lane 1 while it waits: so that the answer to
a STOP leaves even under a flood of emergencies. Lanes 1 to 5 share the rest by deficit round robin with the
weights 16, 8, 4, 2, 1, counted in segments. The parts of one submission go one after the other; a lane-0
segment may go between them, but for one to the same destination, which goes after them. A lane that
began a long submission pays for it in the following rounds.

A segment that has to be repeated goes before everything else of its own lane.

The rooms hold about a second's worth; what waits in the queue behind them they do not know. Whoever fills them says
so: while more of lane 0 is expected, lanes 1 to 5 do not go when lane 0 is empty for a moment, until an instant at the
latest.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gateway.messages import Segment, Submission

    Token = tuple[Submission, Segment]

WEIGHTS: Final = (0, 16, 8, 4, 2, 1)  # of lanes 0 to 5; lane 0 needs none
LANES: Final = range(len(WEIGHTS))
LANE_1_EVERY: Final = 50  # one token in so many goes to lane 1 even against lane 0
SMALLEST_ROOM: Final = 16  # submissions
LARGEST_ROOM: Final = 2_000


def room_size(throughput_per_s: int) -> int:
    """About a second of the rate.

    Enough to keep the wire busy over a claim, and little enough that what was claimed early does not stand before
    what is urgent.
    """
    return max(SMALLEST_ROOM, min(throughput_per_s, LARGEST_ROOM))


class WaitingRooms:
    """Submissions that wait for throttle and window; at most about `size` in each lane."""

    __slots__ = (
        "_again",
        "_before_lane_1",
        "_credit",
        "_midway",
        "_rooms",
        "_turn",
        "_was_high",
        "expired",
        "lane_0_until",
        "size",
    )

    def __init__(self, size: int) -> None:
        self.size = size
        self.expired: list[Token] = []  # found too late by `take`; whoever calls it empties this
        self.lane_0_until = 0.0  # more of lane 0 is expected before this instant: lanes 1 to 5 wait for it
        self._rooms: tuple[deque[Submission], ...] = tuple(deque() for _ in LANES)
        self._again: tuple[deque[Token], ...] = tuple(deque() for _ in LANES)
        self._credit = [0] * len(WEIGHTS)
        self._turn = 1
        self._midway: Submission | None = None  # of lanes 1 to 5, some parts written, others not
        self._before_lane_1 = 0  # lane-0 segments in a row while lane 1 waited
        self._was_high = [False] * len(WEIGHTS)

    def room(self, lane: int) -> int:
        """Submissions that the lane can still take."""
        return max(0, self.size - len(self._rooms[lane]))

    def waits(self, lane: int) -> bool:
        """Say whether anything waits in the lane."""
        return bool(self._rooms[lane] or self._again[lane])

    def __bool__(self) -> bool:
        """Say whether anything waits at all."""
        return any(self._rooms) or any(self._again)

    def put(self, submission: Submission) -> None:
        """Let a submission wait at the end of its lane."""
        room = self._rooms[submission.lane]
        room.append(submission)
        if 2 * len(room) > self.size:
            self._was_high[submission.lane] = True

    def repeat(self, token: Token) -> None:
        """Let a refused segment go again, behind those refused before it and before all else of its lane."""
        self._again[token[0].lane].append(token)

    def put_back(self, tokens: Iterable[Token]) -> None:
        """Undo `take` for the segments taken last, in the order in which they were taken."""
        for token in reversed(list(tokens)):
            self._again[token[0].lane].appendleft(token)

    def take(self, now: float, *, others: bool) -> Token | None:
        """Choose the segment that goes next; lanes 1 to 5 take part only if `others`, and while no lane 0 is expected.

        Submissions found stopped are dropped; those found past their deadline are stopped and noted in
        `expired`.
        """
        if self._rooms[0] or self._again[0]:
            if self._midway is not None and (token := self._rest_for_the_same(self._midway, now)) is not None:
                return token
            lane_1_waits = self.waits(1)
            if lane_1_waits and self._before_lane_1 >= LANE_1_EVERY - 1:
                token = self._next_of(1, now)
                if token is not None:
                    self._charge(1)
                    return token
            token = self._next_of(0, now)
            if token is not None:
                self._before_lane_1 = self._before_lane_1 + 1 if lane_1_waits else 0
                return token
        return self._take_by_weight(now) if others and now >= self.lane_0_until else None

    def _rest_for_the_same(self, midway: Submission, now: float) -> Token | None:
        """Give the next part of a message that has begun, where the next of lane 0 is for the same destination.

        Some handsets lose a long message whose parts another one to the same number comes between. So they take
        lane 0's place, and its tokens: a message to another number still goes before them.
        """
        if midway.stopped or self._again[0]:
            return None
        if self._rooms[0][0].message.destination.value != midway.message.destination.value:
            return None
        token = self._next_of(midway.lane, now)
        if token is not None:
            self._charge(token[0].lane)
        return token

    def has_sunk(self) -> bool:
        """Say, once, that a lane which was more than half full no longer is."""
        sunk = False
        for lane in LANES:
            if self._was_high[lane] and 2 * len(self._rooms[lane]) <= self.size:
                self._was_high[lane] = False
                sunk = True
        return sunk

    def drain(self, lanes: Iterable[int] = LANES) -> list[Submission]:
        """Empty the rooms of these lanes: every submission that is not stopped, once."""
        lanes = tuple(lanes)
        found = {id(token[0]): token[0] for lane in lanes for token in self._again[lane]}
        found.update((id(submission), submission) for lane in lanes for submission in self._rooms[lane])
        for lane in lanes:
            self._again[lane].clear()
            self._rooms[lane].clear()
            self._was_high[lane] = False
        if self._midway is not None and self._midway.lane in lanes:
            self._midway = None
        return [submission for submission in found.values() if not submission.stopped]

    def withdraw(self, is_wanted: Callable[[Submission], bool]) -> list[Submission]:
        """Take these out of the rooms: every one that is not stopped, once."""
        found: dict[int, Submission] = {}
        for lane in LANES:
            for submission in (*(token[0] for token in self._again[lane]), *self._rooms[lane]):
                if is_wanted(submission):
                    found[id(submission)] = submission
        for submission in found.values():
            lane = submission.lane
            again = [token for token in self._again[lane] if token[0] is not submission]
            self._again[lane].clear()
            self._again[lane].extend(again)
            if submission in self._rooms[lane]:
                self._rooms[lane].remove(submission)
            if submission is self._midway:
                self._midway = None
        return [submission for submission in found.values() if not submission.stopped]

    def _take_by_weight(self, now: float) -> Token | None:
        if self._midway is not None:
            lane = self._midway.lane
            token = None if self._midway.stopped else self._next_of(lane, now)
            if token is not None:
                self._charge(lane)
                return token
            self._midway = None
        lane = self._turn
        empty = 0  # lanes in a row that had nothing
        while empty < len(LANES) - 1:
            if self._credit[lane] > 0:
                token = self._next_of(lane, now)
                if token is not None:
                    self._turn = lane
                    self._charge(lane)
                    return token
            if self._rooms[lane] or self._again[lane]:
                empty = 0
            else:
                empty += 1
                self._credit[lane] = min(0, self._credit[lane])  # nothing is saved up while there is nothing to send
            lane = lane + 1 if lane < LANES[-1] else 1
            if self._rooms[lane] or self._again[lane]:
                self._credit[lane] += WEIGHTS[lane]
        self._turn = lane
        return None

    def _charge(self, lane: int) -> None:
        self._credit[lane] -= 1
        if lane == 1:
            self._before_lane_1 = 0

    def _next_of(self, lane: int, now: float) -> Token | None:
        again = self._again[lane]
        while again:
            token = again.popleft()
            if self._is_due(token, now):
                return token
        room = self._rooms[lane]
        while room:
            submission = room[0]
            segments = submission.segments
            index = submission.next_index
            if submission.spared:
                while index < len(segments) and submission.spared >> (segments[index].part - 1) & 1:
                    index += 1
                if index == len(segments):
                    self._leave(submission)
                    continue
            token = (submission, segments[index])
            if not self._is_due(token, now):
                room.popleft()
                continue
            submission.next_index = index + 1
            if index + 1 == len(segments):
                self._leave(submission)
            elif lane:
                self._midway = submission
            return token
        return None

    def _leave(self, submission: Submission) -> None:
        """Take the first of its lane's room out: nothing of it waits any more."""
        self._rooms[submission.lane].popleft()
        if submission is self._midway:
            self._midway = None

    def _is_due(self, token: Token, now: float) -> bool:
        submission = token[0]
        if submission.stopped:
            return False
        if submission.deadline <= now or submission.written_before <= now:
            submission.stopped = True
            self.expired.append(token)
            return False
        return True
