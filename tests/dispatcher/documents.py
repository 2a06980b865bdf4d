"""Status documents for tests: one in which all is well, and ways to change it."""

from __future__ import annotations

from dispatcher.status import EmergencyStatus, EventStatus, LaneStatus, LinkStatus, Status


def link(**changed: object) -> LinkStatus:
    """A link that is bound here and half used."""
    usual = {
        "name": "carrier-a",
        "state": "bound",
        "state_detail": "transceiver",
        "state_for_s": 60.0,
        "owner": "this",
        "owner_instance": "1",
        "epoch": 3,
        "beat": 900,
        "beat_age_s": None,
        "in_file": True,
        "paused": False,
        "sessions_bound": 1,
        "sessions_configured": 1,
        "window_in_use": 5,
        "window_size": 50,
        "segments_per_s": 50,
        "limit_per_s": 100,
        "reserved_per_s": 10,
        "configured_per_s": 100,
        "held_for_s": 0.0,
        "throttled_total": 0,
        "unanswered_total": 0,
        "uncertain_segments": 0,
        "receipts_matched_total": 7,
        "receipts_unmatched_total": 0,
        "receipts_per_s": 1.5,
    }
    return LinkStatus(**(usual | changed))


def lane(number: int, **changed: object) -> LaneStatus:
    """A lane in which nothing waits."""
    usual = {"lane": number, "categories": ("emergency",), "paused": (), "jobs": 0, "at_least": False, "oldest_s": 0.0}
    return LaneStatus(**(usual | changed))


def document(**changed: object) -> Status:
    """A daemon that is well."""
    usual = {
        "at": "2030-01-01T00:00:00.000+00:00",
        "source": "daemon",
        "instance": "1",
        "version": "0.1.0",
        "started_at": "2029-12-31T23:00:00.000+00:00",
        "up_for_s": 3600.0,
        "ready": True,
        "missing": (),
        "emergencies": EmergencyStatus("flowing", ()),
        "database": "up",
        "schema": "current",
        "read_age_s": 0.5,
        "unsettled": 0,
        "receipts_waiting": 0,
        "uncertain_segments": 0,
        "paused_categories": (),
        "links": (link(),),
        "lanes": tuple(lane(number) for number in range(6)),
        "events": (EventStatus("job.delivered", "transactional", "", 3, 0.2, "17"),),
    }
    return Status(**(usual | changed))
