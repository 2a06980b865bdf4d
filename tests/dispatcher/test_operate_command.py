"""dispatcher/commands/operate.py: pause, resume, requeue, as an operator types them."""

from __future__ import annotations

import json

import pytest

from dispatcher.commands import operate

IN_DOUBT = """
with gone as (delete from tocsin.ready returning *)
insert into tocsin.uncertain (id, link, lane, app, client_ref, recipient, sender, body, category, flash, options, enqueued_at,
                              due_at, expires_at, cancel_group, attempt, resends, parts, done, first_wire_at, doubt)
select id, link, lane, app, client_ref, recipient, sender, body, category, flash, options, enqueued_at, due_at, expires_at,
       cancel_group, 1, resends, parts, done, now(), B'1' from gone
"""
LOGGED = "select string_agg(verb || ' ' || kind || ' ' || subject || ': ' || reason, ', ' order by at) from tocsin.operator_log"


@pytest.fixture
def terminal(monkeypatch):
    """Answers of a person at a terminal."""
    answers: list[bool] = []
    monkeypatch.setattr(operate.os, "isatty", lambda _: True)
    monkeypatch.setattr(operate.click, "confirm", lambda *_, **__: answers.pop(0))
    return answers


def test_a_category_is_paused_and_resumed_with_who_and_why(command):
    """The row says it, and so does the log."""
    before = command.sql("select count(*) from tocsin.operator_log")
    assert command("pause", "category", "marketing", "--reason", "flood") == 0
    assert command.out == "paused\n"
    assert command.sql("select paused from tocsin.category where name = 'marketing'")
    assert command("pause", "category", "marketing") == 0
    assert command.out == "was paused already\n"
    assert command("resume", "category", "marketing", "--json") == 0
    assert json.loads(command.out) == {"kind": "category", "name": "marketing", "outcome": "changed"}
    assert command.sql("select count(*) from tocsin.operator_log") == before + 2
    assert "pause category marketing: flood" in command.sql(LOGGED)
    assert command.sql("select count(*) from tocsin.operator_log where person = ''") == 0


@pytest.mark.parametrize(("kind", "name"), [("link", "carrier-a"), ("category", "emergency")])
def test_what_stops_emergencies_needs_a_yes(command, kind, name):
    """A script that forgot it changes nothing."""
    assert command("pause", kind, name) == 1
    assert "emergencies" in command.err
    assert "--yes" in command.err
    assert not command.sql(f"select paused from tocsin.{kind} where name = '{name}'")
    assert command("pause", kind, name, "--yes") == 0
    assert command.sql(f"select paused from tocsin.{kind} where name = '{name}'")
    assert command("resume", kind, name) == 0


def test_a_person_is_asked(command, terminal):
    """No is no."""
    terminal += [False, True]
    assert command("pause", "link", "carrier-a") == 1
    assert command.err == "tocsin: nothing was changed\n"
    assert command("pause", "link", "carrier-a") == 0
    assert command("resume", "link", "carrier-a") == 0


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_a_name_that_is_not_there_is_refused(command, verb):
    """And nothing is noted."""
    assert command(verb, "category", "nonsense") == 1
    assert command.err == 'tocsin: there is no category "nonsense"\n'
    assert command(verb, "category", "nonsense", "--json") == 1
    assert command(verb, "lane", "0") == 2


def test_the_audit_log_is_never_changed(command):
    """Not by the owner of the schema either, as long as he does not take the trigger away."""
    command("pause", "category", "marketing")
    command("resume", "category", "marketing")
    with pytest.raises(Exception, match="never changed"):
        command.sql("update tocsin.operator_log set person = 'nobody'")
    with pytest.raises(Exception, match="never changed"):
        command.sql("delete from tocsin.operator_log")


def test_jobs_in_doubt_are_requeued_one_by_one(command):
    """Each with its own outcome; the exit code says whether all were."""
    number = command.job()
    command.sql(IN_DOUBT)
    assert command("requeue", str(number)) == 1
    assert "twice" in command.err
    assert command("requeue", str(number), "999", "--yes", "--reason", "lost") == 1
    assert command.out == f"{number} requeued\n999 unknown\n"
    assert command.sql("select reason from tocsin.job_status($1)", number) == "REQUEUED"
    assert command.sql("select resends from tocsin.deferred where id = $1", number) == 1
    assert command("requeue", str(number), "--yes") == 1
    assert command.out == f"{number} too_late\n"


def test_all_that_a_link_has_in_doubt_is_requeued(command):
    """After a carrier's accident."""
    numbers = [command.job(key=f"requeue-{n}") for n in range(3)]
    command.sql(IN_DOUBT)
    assert command("requeue", "--link", "carrier-a") == 1
    assert "3 jobs (3 segments)" in command.err
    assert command("requeue", "--link", "carrier-a", "--yes", "--json") == 0
    assert json.loads(command.out) == [{"job_id": number, "outcome": "requeued"} for number in numbers]
    assert command("requeue", "--link", "carrier-a") == 0
    assert command.out == "0 jobs requeued\n"


def test_jobs_or_a_link_and_a_bounded_reason(command):
    """Nothing is guessed."""
    assert command("requeue") == 2
    assert command("requeue", "1", "--link", "carrier-a") == 2
    assert command("pause", "category", "marketing", "--reason", "x" * 501) == 2
    assert "--reason" in command.err
