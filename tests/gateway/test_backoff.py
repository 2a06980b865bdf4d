"""How long a link waits before it binds again."""

import pytest

from gateway.backoff import ALREADY_BOUND_DELAY_S, LONGEST_DELAY_S, REFUSED_DELAY_S, Backoff


def test_delays_double_up_to_a_minute():
    """An SMSC that is down is not hammered, and found again within a minute."""
    backoff = Backoff(1.0)

    assert [backoff.delay_s(0.0) for _ in range(8)] == [
        1.0,
        2.0,
        4.0,
        8.0,
        16.0,
        32.0,
        LONGEST_DELAY_S,
        LONGEST_DELAY_S,
    ]


def test_chance_takes_up_to_half_off():
    """Many links that were lost together do not come back together."""
    assert Backoff(8.0).delay_s(1.0) == 4.0
    assert Backoff(8.0).delay_s(0.5) == 6.0


def test_a_good_session_starts_over():
    """The first loss after a good day is repaired at once."""
    backoff = Backoff(1.0)
    for _ in range(50):
        backoff.delay_s(0.0)

    backoff.proven()

    assert backoff.delay_s(0.0) == 1.0


@pytest.mark.parametrize("command_status", [0x0D, 0x0E, 0x0F, 0x53])
@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_refused_credentials_wait_five_minutes(command_status, chance):
    """They do not mend by themselves, and carriers lock accounts that insist."""
    assert Backoff(1.0).delay_s(chance, command_status) >= REFUSED_DELAY_S == 300.0


def test_already_bound_waits_for_the_smsc_to_forget():
    """Our old session still lives there, for 30 s at the least."""
    assert Backoff(1.0).delay_s(1.0, 0x05) >= ALREADY_BOUND_DELAY_S == 30.0
