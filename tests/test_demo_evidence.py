"""What the demonstration concludes: the handset that reads the SMSCs' logs, and every check, made to fail."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest

from dispatcher import demo_handset
from dispatcher.demo_evidence import FEWEST_OVERTAKEN, Job, busiest_second, judge, percentile
from dispatcher.demo_handset import Message, read
from dispatcher.demo_load import Answer, Request
from gateway import count
from tests.demo_day import LONG, changed, evidence_of_a_good_day, taken
from tests.journey import handset


class TestHandset:
    """The witness must be right, and must see what is wrong."""

    @pytest.mark.parametrize(
        "text", ["hi", "[€]" * 60, "تذكير" * 40, "👩🏽‍⚕️" * 40, "Привет", LONG, "x" * 160, "x" * 161]
    )
    @pytest.mark.parametrize("flash", [False, True])
    def test_it_reads_what_was_enqueued(self, text, flash):
        """Each alphabet, one part and several."""
        segments = taken(text, flash=flash)

        assert read(segments) == (
            [Message("447700900100", text, flash, tuple(range(len(segments))))],
            [],
        )

    def test_its_alphabet_is_that_of_the_journeys_handset(self):
        """Two readings of the same specification."""
        assert (demo_handset.BASIC, demo_handset.EXTENSION) == (handset.BASIC, handset.EXTENSION)

    def test_parts_may_come_in_any_order(self):
        """A text is joined by part, and its places are told in that order."""
        first, second, *rest = taken(LONG)

        messages, problems = read([second, first, *rest])

        assert (messages[0].text, messages[0].places[:2], problems) == (LONG, (1, 0), [])

    def test_it_tells_what_cannot_be_joined(self):
        """By place, from 1, and without a text or a number."""
        parts = taken(LONG)
        broken = [
            ([parts[0], parts[0], *parts[1:]], "segments 1 and 2 are the same part"),
            (parts[1:], "parts are missing of the message that segment 1"),
            ([replace(parts[0], octets=b"\x08" + parts[0].octets[1:])], "segment 1 cannot be read: its header"),
            ([replace(parts[0], octets=parts[0].octets[:5] + b"\x09")], f"it is part 9 of {len(parts)}"),
            ([replace(taken("hi")[0], octets=b"\x1b")], "an escape pair is cut in two"),
            ([replace(taken("hi")[0], octets=b"\x1bz")], "no character"),
            ([replace(taken("👍")[0], octets=b"\xd8\x3d")], "a character is cut in two"),
            ([replace(taken("hi")[0], data_coding=0x04)], "data_coding is 0x04"),
        ]
        for segments, problem in broken:
            (told, *_) = read(segments)[1]
            assert problem in told
            assert "7700900" not in told


def failures(evidence):
    return {check.name: check.problem for check in judge(evidence).checks if check.problems}


class TestJudgement:
    """Every check can fail: an exit code that cannot be 1 shows nothing."""

    def test_a_good_day_holds(self):
        """And its figures are those of the log."""
        judgement = judge(evidence_of_a_good_day())

        assert (judgement.holds, [check.problem for check in judgement.checks]) == (True, [None] * 8)
        (place,) = judgement.emergencies
        assert place.number + place.overtook == place.total == 199 + count(LONG)[1]
        assert (place.overtook, place.overtaken_by) == (99, 2)
        assert place.waited_s == pytest.approx(0.02)
        emergency, transactional = judgement.categories
        assert (emergency.name, emergency.jobs, emergency.segments, emergency.delivered) == ("emergency", 1, 1, 1)
        assert (transactional.jobs, transactional.segments) == (199, 198 + count(LONG)[1])
        assert transactional.p50_s < transactional.p99_s < 4

    def test_a_doubled_segment(self):
        """A single one, and a part of a long text."""
        for n, problem in ((0, "begins job 0 once more"), (22, "the same part of one message")):
            found = failures(changed(evidence_of_a_good_day(), lambda log, n=n: log.insert(n + 1, log[n])))
            assert problem in found["once"]
            assert "203 were to come" in found["once"].replace(str(199 + count(LONG)[1]), "203")

    def test_a_damaged_text(self):
        """One octet; the job did not come, and something came that nobody enqueued."""

        def damage(log):
            log[5] = replace(log[5], octets=log[5].octets[:-1] + b"!")

        found = failures(changed(evidence_of_a_good_day(), damage))

        assert set(found) == {"texts"}
        assert (
            found["texts"]
            == "job 5 did not come as it was enqueued; carrier-a: segment 6 begins a text that nobody enqueued"
        )

    def test_a_lost_segment(self):
        """A job of one, and a part of a long text."""
        for n, job in ((5, 5), (22, 20)):
            found = failures(changed(evidence_of_a_good_day(), lambda log, n=n: log.pop(n)))
            assert f"job {job} did not come" in found["texts"]
            assert "segments came" in found["once"]

    def test_a_text_at_another_number(self):
        """The right words to the wrong person are as bad as wrong words."""

        def misdirect(log):
            log[5] = replace(log[5], destination="447700900777")

        assert "job 5 did not come" in failures(changed(evidence_of_a_good_day(), misdirect))["texts"]

    def test_an_emergency_that_came_late(self):
        """Last of all, or behind more than a quarter of a second's segments."""
        evidence = evidence_of_a_good_day()
        where = next(n for n, one in enumerate(evidence.links[0].taken) if one.destination == "447700900999")

        def move(log, to):
            emergency = log.pop(where)
            log.insert(to, replace(emergency, at=log[:to][-1].at))

        last = failures(changed(evidence, lambda log: move(log, len(log))))
        late = failures(changed(evidence, lambda log: move(log, where + 24)))
        just = failures(changed(evidence, lambda log: move(log, where + 23)))

        assert f"job 1000 overtook 0 segments, {FEWEST_OVERTAKEN} would show something" in last["emergency"]
        assert "26 segments went before job 1000 after its commit, 25 may" in late["emergency"]
        assert just == {}

    def test_no_emergency_at_all(self):
        """It is what the demonstration is for."""
        evidence = evidence_of_a_good_day()
        without = replace(evidence, jobs=[job for job in evidence.jobs if job.id != 1000])

        assert failures(without)["emergency"] == "none was enqueued"

    def test_a_later_emergency_was_not_overtaken(self):
        """What was enqueued after it did not wait when it came."""
        evidence = evidence_of_a_good_day()
        later = Request("447700900998", "FIRE ALARM", "emergency")
        end = evidence.links[0].taken[-1].at
        both = replace(
            changed(evidence, lambda log: log.extend(taken(later.body, at=end + 0.01, destination=later.recipient))),
            jobs=[*evidence.jobs, Job(1001, later, end)],
        )

        assert [place.overtook for place in judge(both).emergencies] == [99, 0]

    def test_a_rate_that_was_exceeded(self):
        """Eleven more within one second, though none comes twice."""

        def hurry(log):
            log[90:110] = [replace(one, at=0.95, since=0.95) for one in log[90:110]]

        found = failures(changed(evidence_of_a_good_day(), hurry))

        assert found["rate"] == "carrier-a took 110 segments within a second, 100 are its limit"

    def test_a_rate_that_a_busy_reader_makes_up_is_told_and_is_no_failure(self):
        """The same log, of a reader that was busy from 0.9 s before: they may have come in their time."""

        def late(log):
            log[90:110] = [replace(one, at=0.95, since=0.95) for one in log[90:110]]
            log[:110] = [replace(one, since=one.since - 0.9) for one in log[:110]]

        (rate,) = [check for check in judge(changed(evidence_of_a_good_day(), late)).checks if check.name == "rate"]

        assert rate.problem is None
        assert re.fullmatch(r"at most \d\d of 100/s on carrier-a \(110 read late, together\)", rate.fact)

    def test_a_flash_that_was_lost_or_not_asked_for(self):
        """Class 0 is shown at once to whoever looks at the screen."""

        def swap(log):
            for n, one in enumerate(log):
                if n == 5 or one.destination == "447700900999":
                    log[n] = replace(one, data_coding=one.data_coding ^ 0x10)

        found = failures(changed(evidence_of_a_good_day(), swap))

        assert found == {"flash": "job 5 was a flash that nobody asked for; job 1000 was no flash"}

    @pytest.mark.parametrize(
        ("receipt", "state", "problem"),
        [
            ("undelivered", "delivered", "job 5 is delivered, its receipts say undelivered"),
            ("delivered", "submitted", "job 5 is submitted, its receipts say delivered"),
            (None, "delivered", "job 5 is delivered, its receipts say nothing"),
            ("delivered", None, "job 5 is missing, its receipts say delivered"),
        ],
    )
    def test_a_state_that_no_receipt_said(self, receipt, state, problem):
        """Delivered means that the SMSC said so."""
        evidence = evidence_of_a_good_day()
        receipts = {**evidence.receipts, "m5.0": receipt}
        states = {**evidence.states, 5: state}
        if receipt is None:
            del receipts["m5.0"]
        if state is None:
            del states[5]

        assert failures(replace(evidence, receipts=receipts, states=states)) == {"receipts": problem}

    def test_a_job_is_the_worst_of_its_parts(self):
        """One part undelivered, and the state must be that."""
        evidence = evidence_of_a_good_day()
        receipts = {**evidence.receipts, "m20.1": "undelivered"}

        assert set(failures(replace(evidence, receipts=receipts))) == {"receipts"}
        assert "its receipts say nothing" in failures(replace(evidence, receipts={"m20.0": "delivered"}))["receipts"]
        assert failures(replace(evidence, receipts=receipts, states={**evidence.states, 20: "undelivered"})) == {}

    @pytest.mark.parametrize(
        ("inbox", "problem"),
        [
            ([("447700900001", "YES")], "1 of 2 are not in the inbox as they were sent"),
            ([("447700900001", "YES"), ("447700900002", LONG[:-1])], "1 of 2 are not in the inbox"),
            ([("447700900001", "YES"), ("447700900001", "YES"), ("447700900002", LONG)], "1 of 2 are not in the inbox"),
            (
                [("447700900001", "YES"), ("447700900002", LONG), ("447700900003", "YES")],
                "the inbox has rows of 1 people who sent nothing",
            ),
        ],
    )
    def test_a_reply_that_is_missing_damaged_doubled_or_invented(self, inbox, problem):
        """What patients sent is in the inbox word for word, once."""
        found = failures(replace(evidence_of_a_good_day(), inbox=inbox))

        assert problem in found["replies"]

    @pytest.mark.parametrize(
        ("confirmations", "state", "problems"),
        [
            (1, "blocked", {}),
            (0, "blocked", {"stop": "0 of 1 were confirmed"}),
            (2, "blocked", {"stop": "2 confirmations went to one number"}),
            (1, "failed", {"texts": "job 150 did not come", "once": "were to come"}),
        ],
    )
    def test_somebody_who_sent_stop(self, confirmations, state, problems):
        """What was not out yet is blocked, and the STOP is confirmed once."""
        evidence = evidence_of_a_good_day()
        number = "447700900150"

        def stop(log):
            log[:] = [segment for segment in log if segment.destination != number]
            log.extend(
                segment
                for n in range(confirmations)
                for segment in taken("You will get no more.", at=3.0 + n, destination=number, message_id=f"stop{n}")
            )

        answers = [*evidence.answers, Answer(number, "STOP")]
        inbox = [*evidence.inbox, (number, "STOP")]
        stopped = replace(changed(evidence, stop), answers=answers, inbox=inbox, states={**evidence.states, 150: state})
        found = failures(stopped)

        assert found.keys() == problems.keys()
        assert all(problem in found[name] for name, problem in problems.items())

    def test_many_problems_are_counted(self):
        """One line stays one line."""
        found = failures(changed(evidence_of_a_good_day(), lambda log: log.clear()))

        assert found["texts"].endswith("; and 197 more")

    def test_nothing_that_is_told_holds_a_number_or_a_text(self):
        """Problems name jobs and segments."""
        evidence = changed(evidence_of_a_good_day(), lambda log: [log.pop(3), log.insert(0, log[10]), log.pop(30)])
        told = repr(judge(evidence)) + repr(evidence.jobs) + repr(evidence.links)

        assert not re.search(r"4477009|Reminder|CODE BLUE|YES", told)


def test_a_second_is_counted_wherever_it_begins():
    """99 up to its end and 99 from there on are 198 in one second, if they are close."""
    end = [segment for n in range(99) for segment in taken("x", at=0.9 + n / 1000)]
    start = [segment for n in range(99) for segment in taken("x", at=1.0 + n / 1000)]

    assert busiest_second([*end, *start]) == 198
    assert busiest_second([*end, *(replace(one, at=one.at + 1.1, since=one.since + 1.1) for one in start)]) == 99
    assert busiest_second([]) == 0


def test_what_waited_for_a_busy_reader_counts_only_where_it_surely_was():
    """50 that came at any time in the last 0.2 s, 0.9 s before the next ones: a second holds both only perhaps."""
    early = [segment for _ in range(50) for segment in taken("x", at=1.0, since=0.8)]
    late = [segment for _ in range(50) for segment in taken("x", at=1.9)]

    assert busiest_second([*early, *late]) == 100
    assert busiest_second([*early, *late], surely=True) == 50
    assert busiest_second([*(replace(one, since=one.at) for one in early), *late], surely=True) == 100


def test_a_percentile_is_a_value_that_was_measured():
    """Nearest rank, and no number at all of nothing."""
    values = [float(value) for value in range(1, 11)]

    assert [percentile(values, percent) for percent in (1, 50, 51, 99, 100)] == [1.0, 5.0, 6.0, 10.0, 10.0]
    assert math.isnan(percentile([], 50))
