"""The waiting rooms: who goes next."""

from collections import Counter

import pytest

from gateway.messages import Address, Segment, ShortMessage, Submission
from gateway.rooms import WEIGHTS, WaitingRooms

MESSAGE = ShortMessage(Address("Northside", 5, 0), Address("4915112345678"))


def submission(lane: int, parts: int = 1, deadline: float = 1e9) -> Submission:
    segments = tuple(Segment(part, parts, 0, udhi=parts > 1, octets=b"x") for part in range(1, parts + 1))
    return Submission(lane, MESSAGE, segments, deadline)


def rooms_with(*submissions: Submission, size: int = 1000) -> WaitingRooms:
    rooms = WaitingRooms(size)
    for each in submissions:
        rooms.put(each)
    return rooms


def take_all(
    rooms: WaitingRooms, most: int = 10_000, *, others: bool = True, now: float = 0.0
) -> list[tuple[Submission, Segment]]:
    taken = []
    while len(taken) < most and (token := rooms.take(now, others=others)) is not None:
        taken.append(token)
    return taken


def lanes(tokens: list[tuple[Submission, Segment]]) -> list[int]:
    return [token[0].lane for token in tokens]


def test_lane_0_goes_first():
    """Whatever waited before it."""
    rooms = rooms_with(*(submission(lane) for lane in (5, 4, 3, 2, 1, 0, 0)))

    taken = lanes(take_all(rooms))

    assert taken[:2] == [0, 0]
    assert sorted(taken[2:]) == [1, 2, 3, 4, 5]
    assert not rooms


def test_lane_1_gets_one_in_fifty_even_against_lane_0():
    """The answer to a STOP leaves under any flood of emergencies."""
    rooms = rooms_with(*(submission(0) for _ in range(200)), *(submission(1) for _ in range(10)))

    taken = lanes(take_all(rooms, 200, others=False))

    assert [at for at, lane in enumerate(taken) if lane == 1] == [49, 99, 149, 199]


def test_without_lane_1_waiting_lane_0_gives_nothing_away():
    """The token in fifty is for lane 1 only while it has something to send."""
    rooms = rooms_with(*(submission(0) for _ in range(120)), *(submission(2) for _ in range(10)))

    assert lanes(take_all(rooms, 120)) == [0] * 120


def test_a_lane_1_that_has_only_stopped_submissions_does_not_stop_lane_0():
    """The token goes to lane 0 then."""
    gone = submission(1)
    gone.stopped = True
    rooms = rooms_with(*(submission(0) for _ in range(60)), gone)

    assert lanes(take_all(rooms)) == [0] * 60


def test_the_others_share_by_weight():
    """16 : 8 : 4 : 2 : 1 while all of them wait."""
    rooms = rooms_with(*(submission(lane) for lane in range(1, 6) for _ in range(1000)))

    shares = Counter(lanes(take_all(rooms, 31 * 30)))

    assert [shares[lane] for lane in range(1, 6)] == [weight * 30 for weight in WEIGHTS[1:]]


def test_long_messages_pay_for_all_their_segments():
    """Weights count segments: ten parts are not one turn."""
    rooms = rooms_with(*(submission(4, parts=10) for _ in range(200)), *(submission(5) for _ in range(2000)), size=3000)

    shares = Counter(lanes(take_all(rooms, 900)))

    assert 2 * 0.95 <= shares[4] / shares[5] <= 2 * 1.05


def test_an_idle_lane_saves_nothing_up():
    """A lane that was empty for an hour does not take the next minute for itself."""
    rooms = rooms_with(*(submission(5) for _ in range(500)))
    take_all(rooms, 400)
    for _ in range(100):
        rooms.put(submission(4))

    shares = Counter(lanes(take_all(rooms, 90)))

    assert shares[4] <= 62


def test_a_trickling_lane_saves_nothing_up_either():
    """What a round did not use is gone: a later burst gets its share and no more."""
    rooms = rooms_with(*(submission(5) for _ in range(500)))
    for _ in range(100):
        rooms.put(submission(1))
        take_all(rooms, 2)
    for _ in range(200):
        rooms.put(submission(1))

    shares = Counter(lanes(take_all(rooms, 85)))

    assert shares[5] >= 4


def test_parts_of_one_submission_go_one_after_the_other():
    """Other lanes wait until it is whole, for handsets join parts best that arrive together."""
    long = submission(5, parts=5)
    rooms = rooms_with(long, *(submission(1) for _ in range(50)))

    taken = take_all(rooms)

    at = [index for index, token in enumerate(taken) if token[0] is long]
    assert at == list(range(at[0], at[0] + 5))
    assert [taken[index][1].part for index in at] == [1, 2, 3, 4, 5]


def test_a_lane_0_segment_goes_between_the_parts():
    """An emergency does not wait for the rest of a long text."""
    long = submission(3, parts=5)
    rooms = rooms_with(long)
    taken = take_all(rooms, 2)
    rooms.put(to_another(0))

    taken += take_all(rooms)

    assert lanes(taken) == [3, 3, 0, 3, 3, 3]


def test_others_wait_while_only_the_reserve_is_left():
    """The last tokens and slots are lane 0's."""
    rooms = rooms_with(submission(0), submission(1))

    assert lanes(take_all(rooms, others=False)) == [0]
    assert rooms.waits(1)
    assert not rooms.waits(0)


def test_a_refused_segment_goes_before_all_else_of_its_lane():
    """In the order of refusal, and before the parts that follow it."""
    long = submission(3, parts=4)
    rooms = rooms_with(long, submission(3))
    first, second, *_ = take_all(rooms, 2)

    rooms.repeat(first)
    rooms.repeat(second)

    assert [(token[0] is long, token[1].part) for token in take_all(rooms)] == [
        (True, 1),
        (True, 2),
        (True, 3),
        (True, 4),
        (False, 1),
    ]


def test_what_was_taken_and_not_written_comes_back_in_order():
    """As if it had never been taken."""
    rooms = rooms_with(*(submission(3, parts=2) for _ in range(3)))
    refused, *taken = take_all(rooms, 4)
    rooms.repeat(refused)

    rooms.put_back(taken)

    again = take_all(rooms)
    assert again[:3] == taken
    assert len(again) == 6


def to_another(lane: int, parts: int = 1) -> Submission:
    one = submission(lane, parts)
    one.message = one.message._replace(destination=Address("4915199999999"))
    return one


@pytest.mark.parametrize("others", [True, False])
def test_lane_0_does_not_come_between_the_parts_of_a_message_to_the_same_destination(others):
    """Some handsets lose the long one then; even without a token for the other lanes it goes on."""
    long, urgent = submission(3, parts=3), submission(0)
    rooms = rooms_with(long)
    first = rooms.take(0.0, others=True)
    rooms.put(urgent)

    taken = [first, *take_all(rooms, others=others)]

    assert [(token[0].lane, token[1].part) for token in taken] == [(3, 1), (3, 2), (3, 3), (0, 1)]


def test_lane_0_to_another_destination_does_not_wait_for_the_parts():
    """Nobody waits for another's long message."""
    rooms = rooms_with(submission(3, parts=3))
    rooms.take(0.0, others=True)
    rooms.put(to_another(0))
    rooms.put(submission(0))

    assert [(token[0].lane, token[1].part) for token in take_all(rooms)] == [(0, 1), (3, 2), (3, 3), (0, 1)]


def test_a_stopped_long_message_keeps_nobody():
    """A part of it was refused: its others never go."""
    long = submission(3, parts=3)
    rooms = rooms_with(long)
    rooms.take(0.0, others=True)
    long.stopped = True
    rooms.put(submission(0))

    assert lanes(take_all(rooms)) == [0]


def test_a_stopped_submission_is_dropped():
    """No further segment of a refused message is written."""
    stopped = submission(3, parts=3)
    rooms = rooms_with(stopped, submission(3))
    refused = rooms.take(0.0, others=True)
    rooms.repeat(refused)
    stopped.stopped = True

    assert [token[0] is stopped for token in take_all(rooms)] == [False]
    assert rooms.drain() == []


@pytest.mark.parametrize("parts_written", [0, 1])
def test_what_waited_too_long_is_stopped_and_noted(parts_written):
    """Nothing is written at or after its deadline."""
    late = submission(3, parts=2, deadline=10.0)
    rooms = rooms_with(late, submission(3))
    for _ in range(parts_written):
        rooms.take(9.9, others=True)

    token = rooms.take(10.0, others=True)

    assert token[0] is not late
    assert late.stopped
    assert [(noted[0] is late, noted[1].part) for noted in rooms.expired] == [(True, 1 + parts_written)]


def test_a_repeated_segment_expires_too():
    """A throttled link may hold it past its deadline."""
    late = submission(3, deadline=10.0)
    rooms = rooms_with(late)
    rooms.repeat(rooms.take(0.0, others=True))

    assert rooms.take(11.0, others=True) is None
    assert [noted[0] for noted in rooms.expired] == [late]


def test_room_is_told_and_never_negative():
    """Whoever claims takes no more than that."""
    rooms = rooms_with(submission(3), submission(3), submission(3), size=2)

    assert (rooms.room(3), rooms.room(2)) == (0, 2)


def test_sinking_to_half_is_told_once():
    """The next claim is made while there is still something to send."""
    rooms = rooms_with(*(submission(3) for _ in range(3)), size=4)

    assert not rooms.has_sunk()
    rooms.take(0.0, others=True)
    assert rooms.has_sunk()
    assert not rooms.has_sunk()


def test_draining_gives_each_submission_once():
    """Though it waits in two places: a refused segment and the parts that follow."""
    long, short, done = submission(3, parts=3), submission(0), submission(1)
    rooms = rooms_with(long, done)
    rooms.repeat(rooms.take(0.0, others=True))
    for token in take_all(rooms, 2):
        rooms.repeat(token)
    rooms.put(short)

    drained = rooms.drain()

    assert {id(each) for each in drained} == {id(long), id(short), id(done)}
    assert len(drained) == 3
    assert not rooms
    assert rooms.room(3) == rooms.size


@pytest.mark.parametrize(
    ("spared", "left"), [([1], [2, 3]), ([2], [1, 3]), ([3], [1, 2]), ([1, 3], [2]), ([1, 2, 3], [])]
)
def test_a_spared_part_is_not_taken_and_its_message_leaves_the_room(spared, left):
    """An SMSC took it after all, while the others of its message still waited."""
    long, other = submission(3, parts=3), submission(3)
    rooms = rooms_with(long, other)
    assert all(long.spare(part) for part in spared)

    taken = take_all(rooms)

    assert [token[1].part for token in taken if token[0] is long] == left
    assert [token[0] for token in taken][-1] is other
    assert not rooms


def test_a_part_that_was_taken_cannot_be_spared():
    """It may be on the wire."""
    long = submission(3, parts=3)
    rooms = rooms_with(long)
    rooms.take(0.0, others=True)

    assert not long.spare(1)
    assert long.spare(2)
    assert [token[1].part for token in take_all(rooms)] == [3]


def test_while_more_of_lane_0_is_expected_the_others_wait_for_it_until_an_instant():
    """A room that is empty for a moment does not let bulk in between; and whoever expects in vain holds nothing up."""
    rooms = rooms_with(submission(0), *(submission(lane) for lane in (1, 5)))
    rooms.lane_0_until = 2.0

    assert lanes(take_all(rooms, now=1.9)) == [0]
    assert sorted(lanes(take_all(rooms, now=2.0))) == [1, 5]


def test_lane_1_gets_its_one_in_fifty_while_more_of_lane_0_is_expected():
    """The answer to a STOP leaves all the same."""
    rooms = rooms_with(*(submission(0) for _ in range(100)), *(submission(1) for _ in range(10)))
    rooms.lane_0_until = 1.0

    assert [at for at, lane in enumerate(lanes(take_all(rooms))) if lane == 1] == [49, 99]
