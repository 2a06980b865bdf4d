"""dispatcher/policy.py: whether a claimed job may go."""

from __future__ import annotations

from dataclasses import replace

import asyncpg
import pytest

from dispatcher.policy import BINDS_ALL, EXPIRED, LEAST_LIFE_S, SEND, CategoryRules, Stop, before_send
from tests.dispatcher.test_job import job

NOW = 50.0
OPTED_OUT = Stop("blocked", "SUPPRESSED_OPT_OUT")
STOPPABLE = CategoryRules(max_parts=10, stop_applies=True)
EXEMPT = CategoryRules(max_parts=10, stop_applies=False)


def test_a_job_with_time_left_goes():
    """The usual case."""
    assert before_send(replace(job(), expires_at=NOW + 60), STOPPABLE, NOW) == SEND


def test_a_job_whose_time_is_over_or_nearly_so_expires():
    """A segment with no life left costs money and reaches nobody."""
    assert before_send(replace(job(), expires_at=NOW - 1), STOPPABLE, NOW) == EXPIRED
    assert before_send(replace(job(), expires_at=NOW + LEAST_LIFE_S / 2), STOPPABLE, NOW) == EXPIRED
    assert before_send(replace(job(), expires_at=NOW + LEAST_LIFE_S), STOPPABLE, NOW) == SEND


def test_a_suppressed_job_is_blocked():
    """Its recipient said STOP."""
    assert before_send(replace(job(), expires_at=NOW + 60, suppressed="OPT_OUT"), STOPPABLE, NOW) == OPTED_OUT


@pytest.mark.parametrize("reason", sorted(BINDS_ALL))
def test_what_nobody_wants_to_hear_blocks_every_category(reason):
    """Nobody is there, or it is somebody else: a code would reach a stranger."""
    assert before_send(replace(job(), expires_at=NOW + 60, suppressed=reason), EXEMPT, NOW) == Stop(
        "blocked", f"SUPPRESSED_{reason}"
    )


async def test_the_database_has_the_same_reasons(shared_url):
    connection = await asyncpg.connect(shared_url)
    try:
        for reason in ("OPT_OUT", "SOFT_HOLD", "OTHER_CHANNEL", "ABUSE", *BINDS_ALL):
            assert await connection.fetchval("select tocsin.binds_all($1)", reason) is (reason in BINDS_ALL)
    finally:
        await connection.close()


def test_a_category_that_recipients_cannot_decline_goes_all_the_same():
    """A code that somebody has just asked for."""
    assert before_send(replace(job(), expires_at=NOW + 60, suppressed="OPT_OUT"), EXEMPT, NOW) == SEND


def test_of_an_unknown_category_a_stop_is_obeyed():
    """When in doubt, nobody is written to against their will."""
    assert before_send(replace(job(), expires_at=NOW + 60, suppressed="OPT_OUT"), CategoryRules(), NOW) == OPTED_OUT


def test_an_expired_job_is_expired_even_when_it_is_suppressed():
    """One reason each, in the order of the gates."""
    assert before_send(replace(job(), expires_at=NOW, suppressed="OPT_OUT"), STOPPABLE, NOW) == EXPIRED
