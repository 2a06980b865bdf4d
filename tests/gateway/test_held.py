"""gateway/held.py: the time for which segments waited, by the part that held them."""

from gateway.held import PARTS, HeldBack


def test_a_wait_is_counted_until_another_part_holds_or_none():
    """And what is over stays counted."""
    held = HeldBack()
    held.by("throttle", 10.0)
    held.by("window", 10.5)
    held.by(None, 13.0)
    held.by(None, 99.0)

    assert held.seconds(100.0) == dict.fromkeys(PARTS, 0.0) | {"throttle": 0.5, "window": 2.5}


def test_a_wait_that_lasts_is_counted_up_to_now():
    """An SMSC that never answers brings no event that would end it."""
    held = HeldBack()
    held.by("window", 10.0)

    assert held.seconds(70.0)["window"] == 60.0
    assert held.seconds(80.0)["window"] == 70.0


def test_a_count_never_falls():
    """Prometheus takes a counter that falls for a restart, and the whole of it for a rise."""
    held = HeldBack()
    held.by("window", 10.0)
    held.by(None, 9.9)
    held.by("socket", 12.0)

    assert held.seconds(11.9) == dict.fromkeys(PARTS, 0.0)
