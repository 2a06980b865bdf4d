"""What is held back from an SMSC that refuses again and again, and for how long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import breaker as breaker_module
from gateway.breaker import (
    FAULTS,
    FAULTS_WITHIN_S,
    FULL_SHARE,
    FULL_SPREADS_AT,
    FULL_WITHIN_S,
    PROBE_WAIT_S,
    SENDER_REFUSALS,
    Breaker,
    Holds,
)
from tests.compiled import swaps_a_part


def failing(breaker: Breaker, now: float = 0.0, accepted: int = 0) -> float:
    """Let it take as many faults as it takes; gives the hold."""
    return [breaker.fault(now + n / 100, accepted) for n in range(FAULTS)][-1]


class TestHolds:
    def test_each_hold_is_twice_as_long_as_the_last_up_to_the_longest(self):
        """A full handset may stay full for hours."""
        holds, now, lengths = Holds(5.0, 60.0), 0.0, []
        for _ in range(6):
            lengths.append(holds.hold("a", now))
            now += lengths[-1]

        assert lengths == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]

    def test_a_hold_that_runs_is_not_made_longer(self):
        """A whole window may be refused at once."""
        holds = Holds(5.0, 60.0)
        holds.hold("a", 0.0)

        assert holds.hold("a", 3.0) == pytest.approx(2.0)
        assert holds.held_s("a", 4.9) > 0.0
        assert holds.held_s("a", 5.0) == 0.0

    def test_a_trouble_long_past_begins_anew(self):
        """A hold twice as long is for what goes on."""
        holds = Holds(5.0, 60.0)
        holds.hold("a", 0.0)
        holds.hold("a", 5.0)

        assert holds.hold("a", 100.0) == 5.0

    def test_what_was_accepted_is_held_no_more(self):
        """And another key is not touched."""
        holds = Holds(5.0, 60.0)
        holds.hold("a", 0.0)
        holds.hold("b", 0.0)
        holds.release("a")

        assert (holds.held_s("a", 1.0), holds.held_s("b", 1.0)) == (0.0, 4.0)

    @swaps_a_part
    def test_memory_is_bounded(self, monkeypatch):
        """The oldest goes."""
        monkeypatch.setattr(breaker_module, "MOST_HELD", 3)
        holds = Holds(5.0, 60.0)
        for key in "abcd":
            holds.hold(key, 0.0)

        assert [holds.held_s(key, 1.0) > 0 for key in "abcd"] == [False, True, True, True]


class TestFullQueues:
    def test_a_full_destination_is_held_alone(self):
        """ESME_RMSGQFUL can mean this recipient's queue."""
        breaker = Breaker()

        assert not breaker.full("1", 0.0, 0)
        assert breaker.destinations.held_s("1", 1.0) == 4.0
        assert breaker.destinations.held_s("2", 1.0) == 0.0

    def test_several_at_once_are_the_smsc(self):
        """Then the link holds, as after ESME_RTHROTTLED."""
        breaker = Breaker()

        told = [breaker.full(str(n), n / 10, accepted=n) for n in range(FULL_SPREADS_AT)]
        assert told == [False] * (FULL_SPREADS_AT - 1) + [True]

    def test_the_same_destination_again_and_again_is_not_the_smsc(self):
        """However often."""
        breaker = Breaker()

        assert not any(breaker.full("1", n / 10, 0) for n in range(50))

    def test_a_few_among_many_accepted_are_handsets(self):
        """A busy link meets five full handsets within ten seconds."""
        breaker = Breaker()

        assert not any(breaker.full(str(n), n / 10, accepted=n * (FULL_SHARE + 2)) for n in range(50))

    def test_those_of_long_ago_do_not_count(self):
        """Ten seconds."""
        breaker = Breaker()

        assert not any(breaker.full(str(n), n * FULL_WITHIN_S / 3, 0) for n in range(50))


class TestRefusedSenders:
    def test_a_sender_is_held_once_it_is_refused_three_times_in_a_row(self):
        """It is not provisioned; the other senders of the link are."""
        breaker = Breaker()
        holds = [breaker.sender_refused("Northside", 0.0) for _ in range(SENDER_REFUSALS)]

        assert holds == [0.0] * (SENDER_REFUSALS - 1) + [60.0]
        assert breaker.senders.held_s("Southside", 1.0) == 0.0

    def test_one_that_is_accepted_between_begins_anew(self):
        """In a row, or it is another trouble."""
        breaker = Breaker()
        for _ in range(10):
            breaker.sender_refused("Northside", 0.0)
            breaker.sender_refused("Northside", 0.0)
            breaker.accepted("Northside", "1")

        assert breaker.senders.held_s("Northside", 1.0) == 0.0
        assert not breaker.is_wary


class TestAFailingLink:
    def test_faults_alone_hold_it(self):
        """Twenty within thirty seconds, and nothing accepted."""
        breaker = Breaker()

        assert failing(breaker) == 10.0
        assert breaker.is_open
        assert breaker.others(1.0) == 0

    def test_where_more_is_accepted_than_refused_it_is_not_failing(self):
        """Half of the answers."""
        breaker = Breaker()

        assert not any(breaker.fault(n / 10, accepted=n * 2) for n in range(200))

    def test_faults_far_apart_are_no_failing_link(self):
        """Thirty seconds."""
        breaker = Breaker()

        assert not any(breaker.fault(n * FAULTS_WITHIN_S / (FAULTS - 2), 0) for n in range(200))

    def test_after_the_hold_one_segment_goes_and_its_answer_decides(self):
        """Refused: held again, twice as long. Accepted: as before."""
        breaker = Breaker()
        failing(breaker)
        assert breaker.others(10.2) == 1
        breaker.probing(10.2)

        assert breaker.others(10.3) == 0
        assert breaker.fault(10.4, 0) == 20.0
        assert breaker.others(30.5) == 1
        breaker.probing(30.5)
        assert breaker.accepted("Northside", "1")
        assert not breaker.is_open
        assert failing(breaker, 40.0) == 10.0

    def test_a_probe_without_an_answer_is_followed_by_another(self):
        """Nobody waits for ever."""
        breaker = Breaker()
        failing(breaker)
        breaker.probing(10.2)

        assert breaker.others(10.2 + PROBE_WAIT_S) == 1

    def test_what_was_on_the_wire_when_it_was_held_does_not_hold_it_longer(self):
        """A window's worth of refusals comes after the one that decided."""
        breaker = Breaker()
        failing(breaker)

        assert not any(breaker.fault(1.0, 0) for _ in range(100))
        assert breaker.others(10.2) == 1

    @given(st.lists(st.tuples(st.sampled_from(["fault", "accepted", "probe"]), st.floats(0.0, 20.0)), max_size=200))
    def test_it_always_lets_one_go_within_five_minutes(self, steps):
        """Whatever the SMSC answers, a link that works again is found out."""
        breaker, now, accepted = Breaker(), 0.0, 0
        for step, later in steps:
            now += later
            if step == "fault":
                breaker.fault(now, accepted)
            elif step == "accepted":
                accepted += 1
                breaker.accepted("Northside", "1")
                assert not breaker.is_open
            elif breaker.is_open and breaker.others(now):
                breaker.probing(now)
            assert breaker.until <= now + 300.0
