"""A day on one link as an SMSC's log has it, made by hand: for what the demonstration concludes from logs."""

from __future__ import annotations

from dataclasses import replace

from dispatcher.demo_evidence import Evidence, Job, LinkLog
from dispatcher.demo_handset import Taken
from dispatcher.demo_load import Answer, Request
from gateway import segment

LIMIT_PER_S = 100
LONG = "Before your examination: " + "please do not eat for six hours, €5 [desk] 👍. " * 6


def taken(text, *, at=0.0, destination="447700900100", flash=False, reference=1, since=None, message_id="m"):
    """The segments of a text as an SMSC takes them, one a hundredth of a second."""
    return [
        Taken(
            at=at + n / 100,
            since=at + n / 100 if since is None else since,
            destination=destination,
            data_coding=part.data_coding,
            esm_class=0x40 if part.udhi else 0,
            octets=part.octets,
            message_id=f"{message_id}.{n}",
        )
        for n, part in enumerate(segment(text, flash=flash, reference=reference))
    ]


def evidence_of_a_good_day():
    """200 reminders on one link, 90 a second, one of them long; an emergency after 100 of them; two who answer."""
    jobs, segments = [], []
    for n in range(200):
        at = (n // 90) * 1.02 + (n % 90) / 100
        if n == 100:
            request = Request("447700900999", "CODE BLUE, ward 4", "emergency", flash=True)
            jobs.append(Job(1000, request, at - 0.02))
        else:
            request = Request(f"447700900{n:03d}", LONG if n == 20 else f"Reminder {n}", "transactional")
            jobs.append(Job(n, request, -1.0))
        segments += taken(request.body, at=at, destination=request.recipient, flash=request.flash, message_id=f"m{n}")
    return Evidence(
        jobs=jobs,
        links=[LinkLog("carrier-a", LIMIT_PER_S, sorted(segments, key=lambda segment: segment.at))],
        receipts={segment.message_id: "delivered" for segment in segments},
        states={job.id: "delivered" for job in jobs},
        answers=[Answer("447700900001", "YES"), Answer("447700900002", LONG)],
        inbox=[("447700900001", "YES"), ("447700900002", LONG[:100]), ("447700900002", LONG[100:])],
    )


def changed(evidence, change):
    """The same evidence with another log."""
    (link,) = evidence.links
    segments = list(link.taken)
    change(segments)
    return replace(evidence, links=[replace(link, taken=segments)])
