"""dispatcher/status.py: the document, and the verdict on whether emergencies flow."""

from __future__ import annotations

import json

import pytest

from dispatcher.status import LATE_AFTER_S, STALE_AFTER_S, EmergencyStatus, emergencies, from_json
from tests.dispatcher.documents import document, lane, link


def judged(**changed: object) -> EmergencyStatus:
    """The verdict over a daemon that is well, but for what changed."""
    usual = {"draining": False, "database": "up", "read_age_s": 0.5, "links": [link()], "lanes": [lane(0)]}
    return emergencies(**(usual | changed))


def test_the_document_survives_json():
    """The command reads what the daemon wrote."""
    told = document()
    assert from_json(json.loads(json.dumps(told.as_json()))) == told


@pytest.mark.parametrize("name", ["links", "emergencies", "instance"])
def test_a_document_without_one_of_its_names_is_refused(name):
    """An older daemon, or something else that listens there."""
    given = json.loads(json.dumps(document().as_json()))
    del given[name]
    with pytest.raises(ValueError, match=r"."):
        from_json(given)


@pytest.mark.parametrize("given", [None, [], "x", {"links": 1}])
def test_what_is_no_document_is_refused(given):
    """Another service may answer on that port."""
    with pytest.raises(ValueError, match=r"."):
        from_json(given)


def test_names_of_a_later_version_are_passed_over():
    """A newer daemon may tell more."""
    given = json.loads(json.dumps(document().as_json()))
    given["moon"] = "full"
    given["links"][0]["colour"] = "blue"
    assert from_json(given) == document()


def test_emergencies_flow_when_nothing_is_in_their_way():
    """The one green verdict."""
    assert judged() == EmergencyStatus("flowing", ())


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"draining": True}, "drains"),
        ({"database": "ConnectionRefusedError: "}, "database"),
        ({"links": [link(state="waiting")]}, "bound"),
        ({"links": [link(paused=True)]}, "unpaused"),
        ({"links": []}, "bound"),
        ({"lanes": [lane(0, paused=("emergency",))]}, "paused: emergency"),
        ({"links": [link(owner="nobody")]}, "bound"),
        ({"links": [link(owner="another", beat_age_s=STALE_AFTER_S + 1)]}, "bound"),
    ],
)
def test_what_stops_emergencies_is_named(changed, word):
    """At 3 am the reason stands beside the verdict."""
    verdict = judged(**changed)
    assert verdict.state == "stopped"
    assert word in " ".join(verdict.reasons)


def test_one_link_that_carries_is_enough():
    """Whether it is ours or that of another instance whose beats are seen."""
    down = link(name="b", state="waiting")
    assert judged(links=[down, link()]).state == "flowing"
    assert judged(links=[down, link(owner="another", beat_age_s=1.0)]).state == "flowing"


def test_another_instance_that_was_not_watched_long_enough_is_neither_alive_nor_dead():
    """The first seconds of a look at a standby must not alarm anybody."""
    verdict = judged(links=[link(owner="another", owner_instance="b", beat_age_s=None)])
    assert verdict == EmergencyStatus("unknown", ("whether instance b lives shows in a moment",))


def test_an_old_emergency_is_late_and_an_old_reminder_is_not():
    """Lane 5 may wait for hours."""
    assert judged(lanes=[lane(0, jobs=1, oldest_s=LATE_AFTER_S + 1)]).state == "late"
    assert judged(lanes=[lane(0), lane(5, jobs=1, oldest_s=5000.0)]).state == "flowing"


def test_what_was_not_read_lately_is_not_called_well():
    """An old number is worse than none."""
    assert judged(read_age_s=None).state == "unknown"
    assert judged(lanes=[lane(0, jobs=None, oldest_s=None)]).state == "unknown"
    assert judged(read_age_s=STALE_AFTER_S + 1).state == "unknown"
