"""The judge finds each kind of violation in made-up logs, and nothing in sound ones. A judge that cannot fail is none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.chaos.evidence import (
    Cancel,
    Connection,
    Drain,
    Enqueued,
    Event,
    Evidence,
    Halt,
    Life,
    Receipt,
    TakeOver,
    Write,
)
from tests.chaos.judge import SLICE, judge
from tests.journey.handset import Piece, Taken

FIRST = Connection("0", "carrier-0", 1)
OTHER = Connection("1", "carrier-0", 1)
HELD, RESENT, LONG = 1, 2, 3  # job ids: under hold, under resend, of two parts
DELIVERED, UNDELIVERABLE = 2, 5


def recipient(job: int) -> str:
    return f"44770090{job:04d}"


def piece(job: int, part: int = 1, parts: int = 1) -> Piece:
    return Piece(recipient(job), job if parts > 1 else 0, part, parts)


def taken(job: int, text: str, part: int = 1, parts: int = 1) -> Taken:
    head = bytes((5, 0, 3, job, parts, part)) if parts > 1 else b""
    return Taken(recipient(job), 0, 0x40 if parts > 1 else 0, head + text.encode("ascii"))


def sound() -> Evidence:
    """Three jobs that were delivered: one a second, each answered after 10 ms."""
    evidence = Evidence(
        rate=10, sessions=1, window_size=5, response_timeout_s=1.0, receipts=True, resent=frozenset({"staff"})
    )
    evidence.lives[FIRST] = Life(opened=0.0, bound=0.1, ended=100.0)
    evidence.jobs = {
        HELD: Enqueued(recipient(HELD), "one", "auth"),
        RESENT: Enqueued(recipient(RESENT), "two", "staff"),
        LONG: Enqueued(recipient(LONG), "three and a half", "auth"),
    }
    texts = [(HELD, "one", 1, 1), (RESENT, "two", 1, 1), (LONG, "three and", 1, 2), (LONG, " a half", 2, 2)]
    for n, (job, text, part, parts) in enumerate(texts, 1):
        evidence.writes.append(Write(float(n), FIRST, piece(job, part, parts), n + 0.01, 0, f"m{n}"))
        evidence.stored.add(f"m{n}")
        evidence.taken.append((taken(job, text, part, parts), f"m{n}"))
        evidence.receipts_sent[f"m{n}"] = Receipt(DELIVERED, acknowledged=True)
    for job in evidence.jobs:
        evidence.states[job] = "delivered"
        evidence.places[job] = ["sent"]
        evidence.events.append(Event(job, "job.delivered", 5.0))
    return evidence


def rules(evidence: Evidence) -> set[str]:
    return {finding.rule for finding in judge(evidence)}


def write_again(evidence: Evidence, job: int, at: float, **named: object) -> None:
    evidence.writes.append(Write(at, FIRST, piece(job), at + 0.01, 0, f"m-{at}")._replace(**named))
    evidence.stored.add(f"m-{at}")


def unanswered(evidence: Evidence, job: int, *, from_at: float = -1.0) -> None:
    """Take the answers to a job's writes away."""
    evidence.writes = [
        write._replace(answered_at=None, status=None)
        if write.piece.destination == recipient(job) and write.at > from_at
        else write
        for write in evidence.writes
    ]


def test_sound_logs_give_no_finding():
    """Else every run would fail."""
    assert judge(sound()) == []


@pytest.mark.parametrize("state", ["queued", "deferred", "uncertain", "submitted", "delivered+failed", "nowhere"])
def test_a_job_that_is_open_lost_or_in_two_states_is_found(state):
    """Rule 1; with receipts on, submitted is not the end."""
    evidence = sound()
    evidence.states[HELD] = state
    assert "lost" in rules(evidence)


def test_without_receipts_submitted_is_the_end():
    """The SMSC took every segment, and nothing more is to come."""
    evidence = sound()
    evidence.receipts = False
    evidence.states = dict.fromkeys(evidence.states, "submitted")
    assert judge(evidence) == []


@pytest.mark.parametrize("places", [[], ["ready", "sent"], ["closed", "closed"], ["uncertain"]])
def test_a_job_in_no_place_or_in_two_is_found(places):
    """Rule 1, by the tables."""
    evidence = sound()
    evidence.places[HELD] = places
    assert rules(evidence) == {"lost"}


def test_a_job_of_a_transaction_that_was_rolled_back_is_found():
    """It is in the tables, and the client never saw it committed."""
    evidence = sound()
    evidence.places[99] = ["sent"]
    assert rules(evidence) == {"lost"}


def test_a_segment_whose_answer_was_read_and_that_is_written_again_is_found():
    """Rule 2, also where its category is resend and doubt was told."""
    evidence = sound()
    evidence.events.append(Event(RESENT, "job.uncertain", 6.0))
    evidence.halts.append(Halt("kill", "0", 5.5, 5.9))
    write_again(evidence, RESENT, 7.0)
    assert "rewritten" in rules(evidence)


@pytest.mark.parametrize(
    "halt", [Halt("kill", "0", 2.05, 2.5), Halt("kill", "0", 2.0, 2.5), Halt("drain", "0", 1.99, 2.5)]
)
def test_an_answer_given_within_the_grace_of_a_kill_may_be_unread(halt):
    """Doubt and a repetition under resend are then right."""
    evidence = sound()
    evidence.halts.append(halt)
    evidence.events.append(Event(RESENT, "job.uncertain", 2.6))
    write_again(evidence, RESENT, 7.0)
    assert judge(evidence) == []


def test_an_answer_given_while_the_daemon_was_stopped_is_read_when_it_goes_on():
    """It lies in the socket: a repetition after that is none that doubt could excuse."""
    evidence = sound()
    evidence.halts.append(Halt("stop", "0", 1.99, 4.0))
    evidence.events.append(Event(RESENT, "job.uncertain", 4.05))
    write_again(evidence, RESENT, 5.0)
    assert rules(evidence) == {"rewritten"}


def test_another_daemon_that_took_the_link_cannot_know_our_answers():
    """It goes by the journal: a repetition under resend is right, once doubt was told."""
    evidence = sound()
    evidence.lives[FIRST] = replace(evidence.lives[FIRST], ended=5.5)
    evidence.lives[OTHER] = Life(opened=6.0, bound=6.1)
    evidence.take_overs += [TakeOver(0.05, "0", "carrier-0", 0, is_complete=True), *taken_over(6.05, "1", 1)]
    evidence.events.append(Event(RESENT, "job.uncertain", 6.06))
    write_again(evidence, RESENT, 7.1, connection=OTHER)
    assert judge(evidence) == []


@pytest.mark.parametrize("status", [None, 0])
def test_under_hold_a_segment_written_again_after_doubt_or_acceptance_is_found(status):
    """Rule 3: the connection was lost in between, so that nothing was read."""
    evidence = sound()
    evidence.lives[FIRST] = replace(evidence.lives[FIRST], ended=1.05)
    evidence.writes[0] = evidence.writes[0]._replace(status=status, answered_at=None if status is None else 1.01)
    evidence.events.append(Event(HELD, "job.uncertain", 1.1))
    write_again(evidence, HELD, 6.0)
    assert "held" in rules(evidence)


def test_under_hold_a_segment_may_be_written_again_after_a_refusal():
    """The SMSC said that it did not take it."""
    evidence = sound()
    evidence.writes[0] = evidence.writes[0]._replace(status=8)
    write_again(evidence, HELD, 6.0)
    assert judge(evidence) == []


def test_a_repetition_without_doubt_is_found():
    """Rule 3: duplicates are a subset of doubt."""
    evidence = sound()
    unanswered(evidence, RESENT)
    write_again(evidence, RESENT, 7.0)
    assert rules(evidence) == {"doubled"}


def test_more_than_three_transmissions_are_found():
    """Rule 3: at most two resends."""
    evidence = sound()
    unanswered(evidence, RESENT)
    for at in (7.0, 9.0, 11.0):
        write_again(evidence, RESENT, at)
        evidence.events.append(Event(RESENT, "job.uncertain", at - 0.5))
    unanswered(evidence, RESENT, from_at=6.0)
    assert rules(evidence) == {"doubled"}


def test_a_segment_of_no_job_is_found():
    """Nobody enqueued it, or its transaction was rolled back."""
    evidence = sound()
    write_again(evidence, 77, 7.0)
    assert rules(evidence) == {"doubled"}


def test_doubt_about_a_segment_whose_answer_was_read_is_found():
    """Rule 4: no connection ended, no daemon was halted, the answer came in time."""
    evidence = sound()
    evidence.events.append(Event(HELD, "job.uncertain", 3.0))
    assert rules(evidence) == {"doubt"}


def test_doubt_about_a_segment_that_is_still_awaited_is_found():
    """Rule 4: the answer might come, and nothing had happened."""
    evidence = sound()
    unanswered(evidence, HELD)
    evidence.events.append(Event(HELD, "job.uncertain", 1.5))
    assert rules(evidence) == {"doubt"}


@pytest.mark.parametrize("at", [2.1, 30.0])
def test_doubt_after_the_time_out_of_the_answer_is_none_to_blame(at):
    """Rule 4: it was unanswered."""
    evidence = sound()
    unanswered(evidence, HELD)
    evidence.events.append(Event(HELD, "job.uncertain", at))
    assert judge(evidence) == []


def test_marking_everything_uncertain_at_a_kill_is_found():
    """Rule 4: of what was never on the wire, no more than one write's worth may be in doubt."""
    evidence = sound()
    evidence.halts.append(Halt("kill", "0", 6.0, 6.5))
    for job in range(100, 101 + SLICE):
        evidence.jobs[job] = Enqueued(recipient(job), "x", "auth")
        evidence.states[job] = "unknown"
        evidence.places[job] = ["sent"]
        evidence.events += [Event(job, "job.uncertain", 7.0), Event(job, "job.unknown", 20.0)]
    assert rules(evidence) == {"doubt"}
    evidence.jobs.pop(100)
    evidence.places.pop(100)
    assert judge(evidence) == []


def test_more_doubt_than_a_take_over_found_journalled_is_found():
    """Rule 4: the loss of a host makes doubt of what the journal names, and of no more."""
    evidence = sound()
    evidence.take_overs += [TakeOver(0.05, "0", "carrier-0", 0, is_complete=True), *taken_over(6.1, "1", 2)]
    evidence.events += [Event(job, "job.uncertain", 6.11) for job in (HELD, LONG)]
    assert judge(evidence) == []
    evidence.events.append(Event(RESENT, "job.uncertain", 6.11))
    assert rules(evidence) == {"doubt"}


def taken_over(at: float, daemon: str, journalled: int) -> list[TakeOver]:
    """The beginning and the end of one take-over of carrier-0."""
    return [TakeOver(at + ends * 0.01, daemon, "carrier-0", journalled, is_complete=ends) for ends in (False, True)]


def test_a_take_over_that_broke_off_makes_doubt_of_what_was_journalled_too():
    """Rule 4: for itself, and for the owner before it, whose record does not know what the other one ended."""
    evidence = sound()
    evidence.take_overs += [
        TakeOver(0.05, "0", "carrier-0", 0, is_complete=True),
        TakeOver(5.9, "1", "carrier-0", 1, is_complete=False),
        *taken_over(6.0, "0", 1),
    ]
    evidence.events += [Event(job, "job.uncertain", 6.01) for job in (HELD, LONG)]
    assert judge(evidence) == []
    evidence.events.append(Event(RESENT, "job.uncertain", 6.01))
    assert rules(evidence) == {"doubt"}


def test_a_daemon_that_takes_its_own_link_again_has_its_record():
    """Rule 4: on the same host the journal is no excuse."""
    evidence = sound()
    evidence.take_overs += [TakeOver(0.05, "0", "carrier-0", 0, is_complete=True), *taken_over(6.1, "0", 2)]
    evidence.events.append(Event(HELD, "job.uncertain", 6.0))
    assert rules(evidence) == {"doubt"}


def test_another_text_is_found():
    """Rule 5, in one part of two."""
    evidence = sound()
    evidence.taken[3] = (taken(LONG, " a helf", 2, 2), "m4")
    assert rules(evidence) == {"texts"}


def test_a_repetition_with_another_content_is_found():
    """Rule 5: it must be the same segment."""
    evidence = sound()
    evidence.taken.append((taken(LONG, " a helf", 2, 2), "m5"))
    assert rules(evidence) == {"texts"}


def test_a_delivered_job_that_never_arrived_is_found():
    """Rules 5 and 6."""
    evidence = sound()
    evidence.taken = [(one, message_id) for one, message_id in evidence.taken if one.destination != recipient(HELD)]
    assert rules(evidence) == {"texts", "receipts"}


def test_a_part_that_never_arrived_is_found():
    """Rules 5 and 6: the job is delivered, and the handset waits for its second part."""
    evidence = sound()
    evidence.taken.pop()
    assert rules(evidence) == {"texts", "receipts"}


def test_a_cancelled_job_on_the_wire_is_found():
    """Rule 5: whether it was written after the cancel, or had been accepted before."""
    for at in (0.5, 30.0):
        evidence = sound()
        evidence.cancels.append(Cancel(at, HELD, "cancelled"))
        evidence.states[HELD] = "cancelled"
        evidence.places[HELD] = ["closed"]
        assert "cancelled" in rules(evidence)


def test_a_job_that_was_said_to_be_cancelled_and_is_not_is_found():
    """Rule 5; too_late and unknown promise nothing."""
    evidence = sound()
    evidence.cancels.append(Cancel(6.0, HELD, "too_late"))
    assert judge(evidence) == []
    evidence.writes.pop(0)
    evidence.cancels.append(Cancel(6.0, HELD, "cancelled"))
    assert rules(evidence) == {"cancelled"}


@pytest.mark.parametrize(
    "told", [("job.delivered", "job.undelivered"), ("job.unknown", "job.unknown"), ("job.failed", "job.expired")]
)
def test_a_state_that_falls_or_ends_twice_is_found(told):
    """Rule 5, by the event log."""
    evidence = sound()
    evidence.events = [Event(HELD, kind, 5.0 + n) for n, kind in enumerate(told)]
    assert rules(evidence) == {"rising"}


def test_a_claim_that_is_left_is_found():
    """Rule 5: its jobs could not be cancelled."""
    evidence = sound()
    evidence.journalled = 1
    assert rules(evidence) == {"journal"}


def test_more_segments_in_a_second_than_the_link_allows_are_found():
    """Rule 5, over all daemons together."""
    evidence = sound()
    evidence.lives[OTHER] = Life(opened=0.0)
    for n in range(6):
        for connection in (FIRST, OTHER):
            write = Write(0.2 + n / 10, connection, piece(HELD), 0.25 + n / 10, 0x58)
            evidence.writes.insert(0, write)
    evidence.writes.sort()
    assert rules(evidence) == {"rate"}


def test_more_sessions_than_the_link_has_are_found():
    """Rule 5: two daemons are bound to one account."""
    evidence = sound()
    evidence.lives[OTHER] = Life(opened=50.0, bound=50.1)
    assert rules(evidence) == {"binds"}


def test_the_session_of_a_daemon_that_is_stopped_cannot_end():
    """Another one may have taken its link; it ends its session when it goes on."""
    evidence = sound()
    evidence.halts.append(Halt("stop", "0", 49.0, 99.0))
    evidence.lives[OTHER] = Life(opened=60.0, bound=60.1)
    assert judge(evidence) == []


def test_delivered_without_a_receipt_that_says_so_is_found():
    """Rule 6: of two parts one was not delivered."""
    evidence = sound()
    evidence.receipts_sent["m4"] = Receipt(UNDELIVERABLE, acknowledged=True)
    assert rules(evidence) == {"receipts"}


def test_an_acknowledged_receipt_that_changed_nothing_is_found():
    """Rule 6: it is acknowledged only after it is committed."""
    evidence = sound()
    evidence.states[LONG] = "unknown"
    evidence.events = [event for event in evidence.events if event.job_id != LONG]
    assert rules(evidence) == {"receipts"}
    evidence.receipts_sent["m4"] = Receipt(DELIVERED, acknowledged=False)
    assert judge(evidence) == []


def test_an_accepted_answer_that_nobody_kept_is_found():
    """Its receipt would find no segment; one that was never read may be missing."""
    evidence = sound()
    evidence.stored.remove("m1")
    assert rules(evidence) == {"stored"}
    evidence.halts.append(Halt("kill", "0", 1.05, 1.5))
    assert judge(evidence) == []


@pytest.mark.parametrize("code", [1, 3, -11, None])
def test_a_drain_that_fails_or_does_not_end_is_found(code):
    """It is an orderly end: 0."""
    evidence = sound()
    evidence.drains = [Drain("0", 6.0, 0), Drain("0", 7.0, code)]
    assert rules(evidence) == {"ended"}


def test_a_traceback_of_a_daemon_is_found():
    """Nothing that is done to it from outside may be news to it."""
    evidence = sound()
    evidence.outcries.append("daemon-0: KeyError: 7")
    assert rules(evidence) == {"ended"}
