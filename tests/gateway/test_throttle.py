"""The throttle: never more than the rate in any sliding second, and what ESME_RTHROTTLED does."""

from bisect import bisect_left
from itertools import cycle, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.throttle import FIRST_HOLD_S, FORGIVEN_AFTER_S, LONGEST_HOLD_S, SPAN_S, Throttle
from gateway.window import reserve_of


class TestCongestion:
    """What an SMSC of v5.0 says of its own load (congestion_state)."""

    def test_below_90_it_asks_for_nothing(self):
        """80 to 89 is its best load."""
        throttle = Throttle(100)

        assert not any(throttle.congested(now, 89) for now in range(10))
        assert throttle.effective_rate(10.0) == 100

    def test_nearly_congested_it_gets_less_by_and_by_and_all_again_later(self):
        """A tenth a second; it climbs back by a twentieth a second."""
        throttle = Throttle(100)
        assert throttle.congested(10.0, 95)
        assert throttle.effective_rate(10.0) == 90
        assert not throttle.congested(10.5, 95)
        assert throttle.congested(11.0, 95)

        assert throttle.effective_rate(11.0) == 85
        assert throttle.effective_rate(15.0) == 100

    def test_congested_it_gets_half_without_a_hold(self):
        """It did not refuse anything."""
        throttle = Throttle(100)
        assert throttle.congested(10.0, 100)

        assert throttle.effective_rate(10.0) == 50
        assert throttle.held_for_s(10.0) == 0.0
        assert throttle.allowance(10.0, lane0=True) > 0

    def test_it_never_ends_a_hold(self):
        """ESME_RTHROTTLED says more."""
        throttle = Throttle(100)
        throttle.throttled(10.0, 9.9)
        throttle.congested(10.5, 100)

        assert throttle.held_for_s(10.5) == 0.5
        assert throttle.effective_rate(10.5) == 25


def most_in_a_second(instants: list[float]) -> int:
    """Most of the instants that any window [t, t + 1) holds."""
    most = first = 0
    for last, instant in enumerate(instants):
        while instants[first] <= instant - 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


def run(throttle: Throttle, until: float, *, lane0: bool, now: float = 0.0) -> list[float]:
    """Send as fast as it lets us."""
    sent = []
    while now < until:
        ready_at = throttle.ready_at(now, lane0=lane0)
        if ready_at <= now:
            throttle.take(now)
            sent.append(now)
        else:
            now = ready_at
    return sent


def test_lane_0_may_use_the_whole_rate_and_the_others_leave_it_its_reserve():
    """An emergency never waits for a token that bulk has just taken."""
    throttle = Throttle(100)
    throttle.restore([0.01 * n for n in range(90)], now=0.9)

    assert throttle.allowance(0.9, lane0=True) == 10
    assert throttle.allowance(0.9, lane0=False) == 0
    assert throttle.ready_at(0.9, lane0=True) == 0.9
    assert throttle.ready_at(0.9, lane0=False) == SPAN_S


def test_after_an_idle_time_a_tenth_goes_at_once_and_lane_0_has_its_reserve_besides():
    """The SMSC sees no second's worth in one piece; a single emergency, or a handful, goes at once all the same."""
    throttle = Throttle(100)

    assert throttle.allowance(0.0, lane0=False) == 11
    assert throttle.allowance(0.0, lane0=True) == 21

    throttle.take(0.0, 11)

    assert throttle.allowance(0.0, lane0=False) == 0
    assert throttle.allowance(0.0, lane0=True) == 10
    assert throttle.ready_at(0.0, lane0=True) == 0.0
    assert throttle.ready_at(0.0, lane0=False) == 0.02
    assert throttle.allowance(0.02, lane0=False) == 1


def most_in(instants: list[float], span_s: float) -> int:
    """Most of the instants that any window of this length holds."""
    return max(bisect_left(instants, instant + span_s) - n for n, instant in enumerate(instants))


@pytest.mark.parametrize("rate", [60, 100, 400, 6000])
@pytest.mark.parametrize("lane0", [False, True])
def test_under_a_backlog_segments_go_evenly_once_the_first_burst_has_worn_off(rate, lane0):
    """A confirmation waits for its place in the order and not for the next second."""
    sent = run(Throttle(rate), 65.0, lane0=lane0)
    limit = rate if lane0 else rate - reserve_of(rate)
    late = [instant for instant in sent if instant > 50.0]

    assert most_in(sent, 0.02 - 1e-6) <= 1 + max(1, rate // 10) + (reserve_of(rate) if lane0 else 0)
    assert most_in(late, 0.1) <= limit * 0.12 / 1.025 + 1
    assert max(later - sooner for sooner, later in pairwise(late)) <= 1.025 / limit + 0.02 + 1e-6
    assert len(late) >= 14.9 * limit / 1.025


@given(rate=st.integers(20, 6_000), late=st.lists(st.floats(0.0, 0.05), min_size=20, max_size=60), lane0=st.booleans())
def test_a_process_that_comes_late_makes_it_good(rate, late, lane0):
    """95 % of the rate are attained, though each timer is up to 50 ms late: no step is lost, and no second is too full."""
    throttle = Throttle(rate)
    limit = rate if lane0 else rate - reserve_of(rate)
    now, sent = 0.0, []
    for delay_s in cycle(late):
        now = max(now, throttle.ready_at(now, lane0=lane0)) + delay_s
        if now > 10.0:
            break
        free = throttle.allowance(now, lane0=lane0)
        throttle.take(now, free)
        sent += [now] * free

    assert most_in_a_second(sent) <= rate
    assert len(sent) >= 9.8 * limit * 0.95


@given(rate=st.integers(1, 100_000), steps=st.lists(st.tuples(st.floats(0.0, 0.3), st.booleans(), st.floats(0.0, 1.0))))
def test_something_may_go_when_it_says_so_and_only_then(rate, steps):
    """The link sleeps until that instant: were nothing free then, or ready in the past, it would never wake."""
    throttle = Throttle(rate)
    now = 86_400.0 * 300  # the clock of a host that has long been up
    for pause_s, lane0, share in steps:
        now += pause_s
        throttle.take(now, int(throttle.allowance(now, lane0=lane0) * share))
        ready_at = throttle.ready_at(now, lane0=lane0)
        if throttle.allowance(now, lane0=lane0):
            assert ready_at == now
        else:
            assert ready_at > now
            assert throttle.allowance(ready_at, lane0=lane0) > 0


def test_a_rate_of_one_has_no_reserve():
    """Keeping the only token would stop all other lanes for good."""
    throttle = Throttle(1)

    assert throttle.allowance(0.0, lane0=False) == 1


def test_ready_at_names_the_segment_that_has_to_be_forgotten():
    """The link sets one timer, and it is neither early nor late."""
    throttle = Throttle(3)
    for now in (0.0, 0.1, 0.2):
        throttle.take(now)

    assert throttle.ready_at(0.3, lane0=True) == 0.0 + SPAN_S
    assert throttle.ready_at(0.3, lane0=False) == 0.1 + SPAN_S
    assert throttle.allowance(0.0 + SPAN_S, lane0=True) == 1


@given(rate=st.integers(1, 40), steps=st.lists(st.tuples(st.floats(0.0, 0.5), st.booleans()), max_size=300))
def test_no_sliding_second_ever_holds_more_than_the_rate(rate, steps):
    """However the segments come, and wherever the second begins."""
    throttle = Throttle(rate)
    now = 0.0
    sent = []
    for pause, lane0 in steps:
        now += pause
        for _ in range(throttle.allowance(now, lane0=lane0)):
            throttle.take(now)
            sent.append(now)

    assert most_in_a_second(sent) <= rate


@pytest.mark.parametrize("rate", [1, 2, 7, 100, 1000])
def test_the_rate_is_used(rate):
    """The margin costs two in a hundred, the reserve what it says."""
    sent = run(Throttle(rate), 10.0, lane0=True)

    assert most_in_a_second(sent) <= rate
    assert len(sent) >= 10 * rate / SPAN_S - rate * SPAN_S


def test_throttled_holds_halves_and_climbs_back():
    """One second of silence, then half the rate, and a twentieth of it more each second."""
    throttle = Throttle(100)

    assert throttle.throttled(5.0, written_at=4.9)

    assert throttle.allowance(5.9, lane0=True) == 0
    assert throttle.ready_at(5.0, lane0=True) == 5.0 + FIRST_HOLD_S
    assert throttle.effective_rate(6.0) == 50
    assert throttle.allowance(6.0, lane0=False) == 6
    assert throttle.allowance(6.0, lane0=True) == 11
    assert throttle.effective_rate(7.0) == 55
    assert throttle.effective_rate(15.9) == 95
    assert throttle.effective_rate(16.0) == 100
    assert throttle.effective_rate(1e6) == 100


def test_a_window_refused_at_once_counts_once():
    """Fifty refusals of one burst say the same thing fifty times."""
    throttle = Throttle(100)
    throttle.throttled(5.0, written_at=4.9)

    assert not throttle.throttled(5.1, written_at=4.95)
    assert not throttle.throttled(6.4, written_at=5.0)
    assert throttle.effective_rate(6.4) == 50


def test_holds_double_while_the_smsc_keeps_refusing():
    """1, 2, 4 .. seconds, and a rate of at least one."""
    throttle = Throttle(8)
    now = 0.0
    holds = []
    for _ in range(8):
        assert throttle.throttled(now, written_at=now)
        holds.append(throttle.ready_at(now, lane0=True) - now)
        now += holds[-1]

    assert holds == [1.0, 2.0, 4.0, 8.0, 16.0, LONGEST_HOLD_S, LONGEST_HOLD_S, LONGEST_HOLD_S]
    assert throttle.effective_rate(now) >= 1


def test_an_old_refusal_is_forgiven():
    """A busy minute last night does not make today's hold longer."""
    throttle = Throttle(100)
    throttle.throttled(0.0, written_at=0.0)
    later = FIRST_HOLD_S + FORGIVEN_AFTER_S

    throttle.throttled(later, written_at=later)

    assert throttle.ready_at(later, lane0=True) == later + FIRST_HOLD_S


def test_a_climbing_rate_lets_the_next_segment_go_when_it_rises():
    """A timer set for the log alone would be late by most of a second."""
    throttle = Throttle(100)
    throttle.throttled(0.0, written_at=0.0)
    throttle.restore([1.1 + 0.01 * n for n in range(50)], 1.9)

    assert throttle.ready_at(1.9, lane0=True) == 2.0
    assert throttle.allowance(2.0, lane0=True) == 5


def test_taking_nothing_is_nothing():
    """An empty slice leaves no mark."""
    throttle = Throttle(10)

    throttle.take(0.0, 0)

    assert throttle.allowance(0.0, lane0=True) == 3


def test_a_new_owner_starts_as_if_the_last_second_had_been_full():
    """The dead predecessor may have sent at full rate until just now; lane 0's reserve is the risk taken."""
    throttle = Throttle(100)
    throttle.assume_busy(50.0)

    assert throttle.allowance(50.0, lane0=False) == 0
    assert throttle.allowance(50.0, lane0=True) == 10
    assert throttle.allowance(50.0 + SPAN_S, lane0=True) == 21


def test_what_is_only_assumed_of_a_predecessor_is_not_shown_as_written():
    """A rate that people read must be one that was measured."""
    throttle = Throttle(100)
    throttle.assume_busy(50.0)
    throttle.take(50.1, 7)

    assert throttle.written(50.2) == 7
    assert throttle.written(50.0 + SPAN_S) == 7
    assert throttle.written(50.1 + SPAN_S) == 0
    throttle.assume_busy(60.0)
    throttle.restore([59.5, 59.6], 60.0)
    assert throttle.written(60.0) == 2


def test_a_hold_is_told_with_what_is_left_of_it():
    """Nothing leaves meanwhile, so a look must not take it for an idle link."""
    throttle = Throttle(100)
    assert throttle.held_for_s(50.0) == 0.0
    throttle.throttled(50.0, 49.9)
    assert throttle.held_for_s(50.25) == 0.75
    assert throttle.held_for_s(51.5) == 0.0


def test_a_restart_in_place_knows_what_was_sent():
    """The local record says it, on the same clock; older and impossible instants say nothing."""
    throttle = Throttle(10)
    throttle.restore([49.5, 40.0, 49.9, 60.0, 49.7], now=50.0)

    assert throttle.written(50.0) == 3
    assert throttle.written(49.5 + SPAN_S) == 2


def test_a_changed_rate_holds_at_once():
    """What was sent stays counted."""
    throttle = Throttle(100)
    throttle.take(0.0, 50)

    throttle.set_rate(40)

    assert throttle.allowance(0.5, lane0=True) == 0
    assert throttle.effective_rate(0.5) == 40
    throttle.throttled(1.0, written_at=1.0)
    throttle.set_rate(10)
    assert throttle.effective_rate(2.0) == 10
    throttle.set_rate(100)
    assert throttle.effective_rate(2.0) in {10, 100}
