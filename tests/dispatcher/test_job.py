"""dispatcher/job.py: what becomes of a job, by what became of its segments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.job import (
    KEEP,
    MOST_AMBIGUOUS_ATTEMPTS,
    MOST_ATTEMPTS,
    RELEASED,
    SESSION_LOST,
    SUBMITTED,
    UNCERTAIN,
    Batch,
    Job,
    What,
    after_submit,
    bits,
    closed,
    mask,
    retry_delay_s,
)
from gateway import Segment, Submission, Verdict

QUEUE_FULL = 0x14
BAD_NUMBER = 0x0B


def job(parts: int = 1, *, lane: int = 3, attempt: int = 1, done: int = 0, **its: object) -> Job:
    """A claimed job; `its` are attributes that are otherwise."""
    made = Job(
        id=7,
        link="carrier-a",
        lane=lane,
        epoch=1,
        batch=Batch(1, 1),
        recipient="447700900123",
        sender="Northside",
        body="Hello",
        category="transactional",
        flash=False,
        options=None,
        attempt=attempt,
        resends=0,
        parts=parts,
        done=done,
        enqueued_us=1,
        expires_at=100.0,
        due_at=0.0,
    )
    segments = tuple(Segment(part, parts, 0, False, b"") for part in range(1, parts + 1))
    made.submission = Submission(lane, None, segments, 100.0)  # type: ignore[arg-type]
    for name, value in its.items():
        setattr(made, name, value)
    return made


def note(a_job: Job, part: int, verdict: Verdict, status: int = 0) -> None:
    """What the link tells: any verdict but ACCEPTED stops the submission."""
    assert a_job.submission is not None
    a_job.submission.stopped |= verdict is not Verdict.ACCEPTED
    a_job.note(part, verdict, status, f"m{part}", 1.0)


def test_a_job_is_kept_while_parts_are_on_their_way():
    """The row stays where it is, with what is done."""
    two = job(2)

    note(two, 1, Verdict.ACCEPTED)

    assert after_submit(two) == KEEP


def test_a_job_is_submitted_once_every_part_was_accepted():
    """In whatever order the answers came."""
    two = job(2)

    note(two, 2, Verdict.ACCEPTED)
    note(two, 1, Verdict.ACCEPTED)

    assert after_submit(two) == SUBMITTED


def test_nothing_is_decided_before_the_last_answer_of_a_stopped_submission():
    """Answers to parts on the wire still come, and may put the job in doubt."""
    two = job(2)
    note(two, 1, Verdict.REJECTED, BAD_NUMBER)
    assert two.submission is not None
    two.submission.unanswered = 1

    assert after_submit(two) == KEEP


@pytest.mark.parametrize("refused_first", [True, False])
def test_doubt_outweighs_a_refusal(refused_first):
    """A part that may have arrived must not be reported as failed, nor be sent again by itself."""
    two = job(2)
    verdicts = [Verdict.RETRY, Verdict.UNANSWERED]

    for part, verdict in zip((1, 2), verdicts if refused_first else reversed(verdicts), strict=True):
        note(two, part, verdict, QUEUE_FULL)

    assert after_submit(two) == UNCERTAIN


@pytest.mark.parametrize(
    ("lost", "outcome"), [((), UNCERTAIN), ((1,), UNCERTAIN), ((2,), UNCERTAIN), ((1, 2), SESSION_LOST)]
)
def test_no_answer_can_come_once_the_session_of_every_part_in_doubt_is_over(lost, outcome):
    """One that can still be answered is worth its minute's wait."""
    two = job(2)
    assert two.submission is not None
    two.submission.stopped = True
    for part in (1, 2):
        two.note(part, Verdict.UNANSWERED, 0, "", float(part), session_over=part in lost)

    assert after_submit(two) == outcome
    assert two.doubted_at == 2.0


@pytest.mark.parametrize("state", ["expired", "blocked"])
@pytest.mark.parametrize(("done", "doubt"), [(0b00, 0b11), (0b01, 0b10)])
def test_a_resend_that_may_not_go_any_more_is_in_doubt_as_before(state, done, doubt):
    """Its earlier write was never answered: to say that it was not accepted would be a guess."""
    two = job(2, done=done)
    two.resends = 1

    assert closed(two, state, "WHY") == UNCERTAIN
    assert two.doubt == doubt


def test_a_resend_that_the_smsc_refuses_for_good_has_failed():
    """It would have said the same of the earlier one."""
    one = job()
    one.resends = 1
    note(one, 1, Verdict.REJECTED, BAD_NUMBER)

    assert after_submit(one).state == "failed"


def test_an_acceptance_takes_away_the_doubt_of_its_part():
    """A late answer within the same life of the submission."""
    one = job()
    note(one, 1, Verdict.UNANSWERED)
    note(one, 1, Verdict.ACCEPTED)

    assert after_submit(one) == SUBMITTED


def test_a_job_whose_segments_were_never_written_is_released():
    """Nothing happened to it."""
    one = job()
    one.submission = None

    assert after_submit(one) == RELEASED


@pytest.mark.parametrize(
    ("verdict", "status", "most"),
    [(Verdict.RETRY, QUEUE_FULL, MOST_ATTEMPTS), (Verdict.AMBIGUOUS, 0x45, MOST_AMBIGUOUS_ATTEMPTS)],
)
def test_a_passing_refusal_defers_until_the_attempts_are_used_up(verdict, status, most):
    """A queue that is full empties; a number that is always refused must not be tried for ever."""
    early, last = job(attempt=most - 1), job(attempt=most)
    note(early, 1, verdict, status)
    note(last, 1, verdict, status)

    assert after_submit(early).what is What.DEFERRED
    assert after_submit(early).reason.startswith("RETRY_ESME_")
    assert (after_submit(last).what, after_submit(last).state) == (What.CLOSED, "failed")


@pytest.mark.parametrize(
    ("verdict", "status", "reason"),
    [
        (Verdict.REJECTED, BAD_NUMBER, "ESME_RINVDSTADR"),
        (Verdict.MISCONFIGURED, 0x0A, "ESME_RINVSRCADR"),
        (Verdict.MISCONFIGURED, 0, "UNENCODABLE"),
    ],
)
def test_a_final_refusal_fails_the_job_with_its_name(verdict, status, reason):
    """An operator reads the reason in the row."""
    one = job()
    note(one, 1, verdict, status)

    outcome = after_submit(one)

    assert (outcome.what, outcome.state, outcome.reason) == (What.CLOSED, "failed", reason)


def test_a_job_that_expired_in_the_waiting_room_is_expired():
    """Nothing of it was written."""
    one = job()
    note(one, 1, Verdict.EXPIRED)

    outcome = after_submit(one)

    assert (outcome.what, outcome.state, outcome.reason) == (What.CLOSED, "expired", "EXPIRED")


@pytest.mark.parametrize("done", [0, 1])
def test_a_job_whose_window_closed_in_the_waiting_room_goes_back(done):
    """Its own time is not over: the policy says until when it waits."""
    two = job(2)
    assert two.submission is not None
    two.submission.deadline = two.expires_at - 1
    if done:
        note(two, 1, Verdict.ACCEPTED)
    note(two, 1 + done, Verdict.EXPIRED)

    assert after_submit(two) is RELEASED


@pytest.mark.parametrize(("verdict", "status"), [(Verdict.REJECTED, BAD_NUMBER), (Verdict.EXPIRED, 0)])
def test_a_part_that_ends_after_others_were_accepted_makes_a_partial_failure(verdict, status):
    """The recipient has a piece of it: that is neither delivered nor expired."""
    two = job(2)
    note(two, 1, Verdict.ACCEPTED)
    note(two, 2, verdict, status)

    outcome = after_submit(two)

    assert (outcome.what, outcome.state, outcome.reason) == (What.CLOSED, "failed", "PARTIAL")


def test_parts_accepted_in_an_earlier_attempt_count():
    """Only the rest is sent again."""
    two = job(2, done=0b01)
    note(two, 2, Verdict.ACCEPTED)

    assert after_submit(two) == SUBMITTED
    assert closed(job(2, done=0b01), "expired", "EXPIRED").reason == "PARTIAL"


def test_a_retry_waits_longer_each_time_and_less_for_urgent_lanes():
    """A refusing SMSC is not hammered; an emergency is back within a second."""
    assert [retry_delay_s(0, n) for n in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert [retry_delay_s(3, n) for n in range(1, 9)] == [5, 10, 20, 40, 80, 160, 300, 300]


def test_a_job_shows_no_text_and_no_number():
    """It turns up in exceptions."""
    assert "Hello" not in repr(job())
    assert "447700900123" not in repr(job())


@given(st.integers(1, 255).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, 2**n - 1))))
def test_bits_and_mask_are_inverse(parts_and_done):
    """Part 1 is the first bit, as get_bit counts in Postgres."""
    parts, done = parts_and_done

    text = bits(done, parts)

    assert len(text) == parts
    assert mask(text) == done
    assert (text[0] == "1") == bool(done & 1)


def test_no_bits_are_an_empty_mask():
    """Null in the row."""
    assert mask(None) == 0
    assert mask("") == 0


@given(
    st.lists(
        st.tuples(
            st.integers(1, 3), st.sampled_from([v for v in Verdict if v not in (Verdict.THROTTLED, Verdict.LINK_FAULT)])
        ),
        max_size=6,
    )
)
def test_every_sequence_of_answers_has_one_outcome_and_no_accepted_part_is_forgotten(answers):
    """Whatever an SMSC says, in whatever order, the decision is defined and never says less than was accepted."""
    three = job(3)
    for part, verdict in answers:
        note(three, part, verdict, QUEUE_FULL)

    outcome = after_submit(three)

    accepted = {part for part, verdict in answers if verdict is Verdict.ACCEPTED}
    assert mask(bits(three.done, 3)) == sum(1 << (part - 1) for part in accepted)
    if three.doubt:
        assert outcome in {UNCERTAIN, KEEP}
    elif accepted == {1, 2, 3}:
        assert outcome == SUBMITTED
    elif outcome.what is What.CLOSED and accepted:
        assert outcome.reason == "PARTIAL"
