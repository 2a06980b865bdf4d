"""dispatcher/policy.py: whether a claimed job may go."""

from __future__ import annotations

import math
from dataclasses import replace

import asyncpg
import pytest

from dispatcher.policy import (
    BINDS_ALL,
    EXPIRED,
    EXPIRED_BY_WINDOW,
    LEAST_LIFE_S,
    PAUSED,
    REACHES_NOBODY,
    SEND,
    CategoryRules,
    Defer,
    Send,
    Stop,
    before_send,
)
from dispatcher.windows import Hours
from tests.dispatcher.test_job import job

NOW = 50.0
OPTED_OUT = Stop("blocked", "SUPPRESSED_OPT_OUT")
STOPPABLE = CategoryRules(max_parts=10, stop_applies=True)
EXEMPT = CategoryRules(max_parts=10, stop_applies=False)


def test_a_job_with_time_left_goes():
    """The usual case."""
    assert before_send(job(expires_at=NOW + 60), STOPPABLE, NOW) == SEND


def test_a_job_whose_time_is_over_or_nearly_so_expires():
    """A segment with no life left costs money and reaches nobody."""
    assert before_send(job(expires_at=NOW - 1), STOPPABLE, NOW) == EXPIRED
    assert before_send(job(expires_at=NOW + LEAST_LIFE_S / 2), STOPPABLE, NOW) == EXPIRED
    assert before_send(job(expires_at=NOW + LEAST_LIFE_S), STOPPABLE, NOW) == SEND


def test_a_suppressed_job_is_blocked():
    """Its recipient said STOP."""
    assert before_send(job(expires_at=NOW + 60, suppressed="OPT_OUT"), STOPPABLE, NOW) == OPTED_OUT


@pytest.mark.parametrize("reason", sorted(BINDS_ALL))
def test_what_nobody_wants_to_hear_blocks_every_category(reason):
    """Nobody is there, or it is somebody else: a code would reach a stranger."""
    assert before_send(job(expires_at=NOW + 60, suppressed=reason), EXEMPT, NOW) == Stop(
        "blocked", f"SUPPRESSED_{reason}"
    )


@pytest.mark.parametrize("reason", sorted(BINDS_ALL))
def test_an_answer_goes_to_whoever_asked_where_it_can_arrive(reason):
    """Who has the number now may well ask for HELP, and may say STOP."""
    answer = job(category="reply", expires_at=NOW + 60, suppressed=reason)
    blocked = Stop("blocked", f"SUPPRESSED_{reason}")
    assert before_send(answer, EXEMPT, NOW) == (blocked if reason in REACHES_NOBODY else SEND)


async def test_the_database_has_the_same_reasons(shared_url):
    connection = await asyncpg.connect(shared_url)
    try:
        for reason in ("OPT_OUT", "SOFT_HOLD", "OTHER_CHANNEL", "ABUSE", *BINDS_ALL):
            assert await connection.fetchval("select tocsin.binds_all($1)", reason) is (reason in BINDS_ALL)
    finally:
        await connection.close()


def test_a_category_that_recipients_cannot_decline_goes_all_the_same():
    """A code that somebody has just asked for."""
    assert before_send(job(expires_at=NOW + 60, suppressed="OPT_OUT"), EXEMPT, NOW) == SEND


def test_of_an_unknown_category_a_stop_is_obeyed():
    """When in doubt, nobody is written to against their will."""
    assert before_send(job(expires_at=NOW + 60, suppressed="OPT_OUT"), CategoryRules(), NOW) == OPTED_OUT


def test_an_expired_job_is_expired_even_when_it_is_suppressed():
    """One reason each, in the order of the gates."""
    assert before_send(job(expires_at=NOW, suppressed="OPT_OUT"), STOPPABLE, NOW) == EXPIRED


# ---------------------------------------------------------------- hours

UTC_NOW = 1_000_000.0
OPEN = Hours(is_open=True, since=UTC_NOW, until=UTC_NOW + 30)
CLOSED = Hours(is_open=False, since=UTC_NOW, until=UTC_NOW + 30)


def test_within_its_hours_a_job_goes_and_is_written_before_they_end():
    """What waits in the link's room is not written after that."""
    assert before_send(job(expires_at=NOW + 60), STOPPABLE, NOW, OPEN, UTC_NOW) == Send(NOW + 30)


def test_outside_of_its_hours_it_waits_until_they_begin():
    """Not until it is looked at again."""
    waits = Defer("WINDOW_CLOSED", 30.0)

    assert before_send(job(expires_at=NOW + 60), STOPPABLE, NOW, CLOSED, UTC_NOW) == waits


@pytest.mark.parametrize("life_s", [29.0, 30.0, 30.0 + LEAST_LIFE_S / 2])
def test_a_job_that_would_expire_before_its_hours_begin_expires_now(life_s):
    """There is still time to call."""
    waiting = job(expires_at=NOW + life_s)

    assert before_send(waiting, STOPPABLE, NOW, CLOSED, UTC_NOW) == EXPIRED_BY_WINDOW


def test_a_job_whose_hours_never_come_expires_now():
    """However long it may live."""
    never = CLOSED._replace(until=math.inf)

    assert before_send(job(expires_at=NOW + 1e9), STOPPABLE, NOW, never, UTC_NOW) == EXPIRED_BY_WINDOW


def test_hours_are_the_last_gate():
    """What will never go is said at once, and a pause is an operator's word."""
    until = NOW + 60

    assert before_send(job(expires_at=NOW), STOPPABLE, NOW, CLOSED, UTC_NOW) == EXPIRED
    assert before_send(job(expires_at=until, suppressed="OPT_OUT"), STOPPABLE, NOW, CLOSED, UTC_NOW) == OPTED_OUT
    assert before_send(job(expires_at=until), replace(STOPPABLE, paused=True), NOW, CLOSED, UTC_NOW) == PAUSED
