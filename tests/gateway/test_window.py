"""The window: slots, sequence numbers, time-outs."""

import pytest

from gateway.errors import WindowFull
from gateway.window import LAST_SEQUENCE, Window, reserve_of


def full_window(size: int) -> tuple[Window, list[int]]:
    window = Window(size, response_timeout_s=10.0)
    return window, [window.open(0.0, f"token {number}") for number in range(size)]


@pytest.mark.parametrize(("size", "reserve"), [(1, 0), (2, 1), (10, 1), (50, 5), (200, 20), (1000, 20)])
def test_a_tenth_is_kept_for_lane_0(size, reserve):
    """An emergency finds a free slot even while bulk fills the window."""
    window = Window(size, response_timeout_s=10.0)

    assert reserve_of(size) == reserve
    assert window.free(lane0=True) == size
    assert window.free(lane0=False) == size - reserve


def test_a_full_window_refuses():
    """The SMSC would answer more with an error, or not at all."""
    window, _ = full_window(3)

    assert window.free(lane0=True) == window.free(lane0=False) == 0
    with pytest.raises(WindowFull) as caught:
        window.open(1.0, "one too many")
    assert caught.value.size == 3
    assert len(window) == 3


def test_an_answer_gives_the_slot_back_with_its_token():
    """Whoever sent the request learns which one was answered, and when it was written."""
    window, numbers = full_window(3)

    slot, late = window.close(numbers[1])

    assert (slot.token, slot.opened_at, late) == ("token 1", 0.0, False)
    assert window.free(lane0=True) == 1
    assert window.close(numbers[1]) is None


def test_requests_expire_once_and_in_order():
    """Each unanswered request is told exactly once."""
    window = Window(5, response_timeout_s=10.0)
    window.open(0.0, "first")
    window.open(3.0, "second")

    assert window.next_deadline() == 10.0
    assert window.expire(9.9) == []
    assert [slot.token for slot in window.expire(10.0)] == ["first"]
    assert window.expire(10.0) == []
    assert window.next_deadline() == 13.0
    assert [slot.token for slot in window.expire(99.0)] == ["second"]


def test_an_expired_request_keeps_its_slot():
    """The SMSC may still count it: taking the slot again would overrun its window."""
    window, _ = full_window(3)

    window.expire(10.0)

    assert (window.dead, len(window), window.free(lane0=True)) == (3, 3, 0)


def test_a_late_answer_still_gives_its_token_and_frees_the_slot():
    """It carries the message_id that resolves a doubt."""
    window, numbers = full_window(3)
    window.expire(10.0)

    slot, late = window.close(numbers[0])

    assert (slot.token, late) == ("token 0", True)
    assert (window.dead, window.free(lane0=True)) == (2, 1)


def test_half_dead_is_worn():
    """Fewer slots than that are no link any more."""
    window = Window(4, response_timeout_s=10.0)
    window.open(0.0, "a")
    window.expire(10.0)

    assert not window.is_worn(10.0)

    window.open(10.0, "b")
    window.expire(20.0)

    assert window.is_worn(20.0)


def test_three_time_outs_old_is_worn():
    """An SMSC that answers enquire_link alone is noticed by the age of the oldest request."""
    window = Window(100, response_timeout_s=10.0)
    window.open(0.0, "a")
    window.expire(10.0)

    assert window.next_deadline() == 30.0
    assert not window.is_worn(29.9)
    assert window.is_worn(30.0)

    window.open(15.0, "b")

    assert window.next_deadline() == 25.0


def test_nothing_open_has_no_deadline():
    """An idle session sets no timer for its window."""
    window = Window(4, response_timeout_s=10.0)

    assert window.next_deadline() is None
    assert not window.is_worn(1e9)


def test_the_end_of_the_session_empties_the_window():
    """Those that expired were told; the others are told now."""
    window, _ = full_window(4)
    window.close(1)
    window.expire(10.0)
    window.close(2)
    window.open(10.0, "young")

    assert [slot.token for slot in window.drain()] == ["young"]
    assert len(window) == 0


def test_sequence_numbers_wrap_to_one_and_skip_those_in_use():
    """SMPP v3.4 section 3.2: 1 to 0x7FFFFFFF; two open requests never share a number."""
    window = Window(5, response_timeout_s=10.0)
    oldest = window.open(0.0, "still open")
    dead = window.open(0.0, "dead")
    window._last = LAST_SEQUENCE - 1
    window.expire(10.0)
    window.close(oldest)
    oldest = window.open(11.0, "last number")

    following = window.open(12.0, "wrapped")

    assert oldest == LAST_SEQUENCE
    assert following == 1
    assert window.open(12.0, "after the dead one") == dead + 1


def test_a_number_taken_elsewhere_is_skipped():
    """enquire_link has a number and no slot."""
    window = Window(5, response_timeout_s=10.0)

    assert window.open(0.0, "a", taken=1) == 2
    assert window.next_sequence_number(taken=3) == 4
