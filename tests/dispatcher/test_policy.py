"""dispatcher/policy.py: whether a claimed job may go."""

from __future__ import annotations

from dataclasses import replace

from dispatcher.policy import EXPIRED, LEAST_LIFE_S, SEND, SUPPRESSED, CategoryRules, before_send
from tests.dispatcher.test_job import job

NOW = 50.0
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
    assert before_send(replace(job(), expires_at=NOW + 60, suppressed=True), STOPPABLE, NOW) == SUPPRESSED


def test_a_category_that_recipients_cannot_decline_goes_all_the_same():
    """A code that somebody has just asked for."""
    assert before_send(replace(job(), expires_at=NOW + 60, suppressed=True), EXEMPT, NOW) == SEND


def test_of_an_unknown_category_a_stop_is_obeyed():
    """When in doubt, nobody is written to against their will."""
    assert before_send(replace(job(), expires_at=NOW + 60, suppressed=True), CategoryRules(), NOW) == SUPPRESSED


def test_an_expired_job_is_expired_even_when_it_is_suppressed():
    """One reason each, in the order of the gates."""
    assert before_send(replace(job(), expires_at=NOW, suppressed=True), STOPPABLE, NOW) == EXPIRED
