"""A real Prometheus scrapes a real daemon: every series that rules and dashboards ask for is there.

The daemon has delivered a message, failed one, been throttled, lost an answer, taken a reply and a stranger's
receipt. What it then exports is the measure: names, labels, values of labels, bounds of buckets.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.fakes.smsc import DELIVERED as DELIVRD
from tests.fakes.smsc import THROTTLED, UNDELIVERABLE, Answer
from tests.journey.running import LINK, http_get, journey, until
from tests.sre.promql import Selector, grouped_by, selectors
from tests.sre.server import prometheus
from tests.sre.shipped import ALERTS, RECORDED, filled_in, shown, tool

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.smsc import Logged
    from tests.journey.running import Journey

DELIVERED, REFUSED, HELD_UP, SILENT, OFF = (f"44770090010{n}" for n in range(5))
SCRAPE = {"job": {"tocsin"}, "instance": {"127.0.0.1"}}  # what Prometheus adds
WORDS = re.compile(r"[\w|]+")
EMPTY_IN_HEALTH = {"tocsin-sre: Alerts firing"}

Series = dict[str, dict[str, set[str]]]  # metric -> label -> its values


def script(smsc) -> None:
    """Answer by recipient; throttle the first of its kind each time."""
    throttled: set[bytes] = set()

    def answer(submit: Logged) -> Answer:
        to, text = submit.fields["destination_addr"], submit.fields["short_message"]
        if to == HELD_UP and text not in throttled:
            throttled.add(text)
            return Answer(status=THROTTLED)
        return {REFUSED: Answer(status=0x0B), SILENT: Answer(withhold=True)}.get(to, Answer())

    smsc.on_submit = answer


async def traffic(world: Journey, turn: int) -> None:
    """One of each, until the daemon has counted it; the lost answer last, as it ends the session."""
    app, smsc = world.app, world.smsc
    await world.daemon.until_bound()

    async def enqueue(to: str, category: str) -> int:
        return await app.enqueue(to, f"turn {turn}", category=category)

    await app.until_state(await enqueue(REFUSED, "informational"), "failed")
    await app.until_state(await enqueue(HELD_UP, "staff"), "submitted")
    for to, category, state, end in (
        (DELIVERED, "emergency", DELIVRD, "delivered"),
        (OFF, "transactional", UNDELIVERABLE, "undelivered"),
    ):
        number = await enqueue(to, category)
        await app.until_state(number, "submitted")
        name = await app.value("select message_id from tocsin.sent where job_id = $1", number)
        (*_, submit) = [pdu for pdu in smsc.received("submit_sm") if pdu.fields["destination_addr"] == to]
        assert smsc.deliver_receipt(name, submit, state)
        await app.until_state(number, end)
    smsc.deliver(source_addr=DELIVERED, short_message=b"yes")
    smsc.deliver_receipt(f"stranger{turn}")
    await app.until_state(await enqueue(SILENT, "marketing"), "uncertain")

    async def counted() -> bool:
        for sharing in world.daemon.daemon._receipts._parked.values():
            for item in sharing:
                item.parked_at -= 31  # move its clock
        world.daemon.hurry()
        told = world.daemon.counter
        return (
            told("tocsin_receipts_total", link=LINK, state="unmatched") >= turn
            and told("tocsin_inbound_total", link=LINK, **{"class": "text"}) >= turn
            and told("tocsin_uncertain_segments", link=LINK) >= turn
        )

    await until(counted, timeout_s=20)


def exported(exposition: str) -> Series:
    """Every series of one scrape, by its full name (``_bucket`` and the like)."""
    found: Series = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


def missing(selector: Selector, series: Series) -> str | None:
    """What the selector asks for and no series has."""
    if selector.name not in series:
        return f"no metric {selector.name}"
    labels = series[selector.name] | SCRAPE
    for label, operator, value in selector.matchers:
        if label not in labels:
            return f"{selector.name} has no label {label}"
        if label in SCRAPE:
            continue
        wanted = value.split("|") if operator in {"=~", "!~"} and WORDS.fullmatch(value) else [value]
        for each in wanted:
            if operator in {"=~", "!~"}:
                if not any(re.fullmatch(each, there) for there in labels[label]):
                    return f"{selector.name} has no {label} like {each}"
            elif each not in labels[label]:
                return f"{selector.name} has no {label}={each}"
    return None


def complaints(series: Series) -> list[str]:
    """All that rules and dashboards ask for and no series has."""
    found = []
    expressions = [(name, rule["expr"]) for name, rule in [*RECORDED.items(), *ALERTS.items()]]
    for place, expression in [*expressions, *((place, filled_in(shows)) for place, shows in shown())]:
        asked = selectors(expression)
        assert asked, place
        plain = [selector for selector in asked if ":" not in selector.name and selector.name not in {"up", "ALERTS"}]
        found += [f"{place}: {problem}" for selector in plain if (problem := missing(selector, series))]
        if len(plain) == len(asked):
            known = {label for selector in plain for label in series.get(selector.name, {})} | set(SCRAPE)
            found += [f"{place}: groups by {label}" for label in grouped_by(expression) - known]
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "daemon").mkdir()
    return tmp_path


@pytest.mark.slow
async def test_what_rules_and_dashboards_ask_for_is_exported_and_evaluates(folder, queue_url):
    """One journey for all of it: a Prometheus takes seconds to see a rate."""
    tool("prometheus")  # without it nothing needs to start
    async with journey(folder / "daemon", queue_url, script=script, response_timeout_s=0.5) as world:
        async with prometheus(folder, world.daemon.port) as server:
            for turn in (1, 2):  # a series that is born with its first count has a rate from the second
                await traffic(world, turn)
                await server.until_scraped()

            _, exposition = await http_get(world.daemon.port, "/metrics")
            assert complaints(exported(exposition)) == []

            for name, rule in [*RECORDED.items(), *ALERTS.items()]:
                await server.evaluate(rule["expr"])
                assert name in ALERTS or await server.evaluate(name), f"nothing is recorded as {name}"
            groups = (await server.get("/api/v1/rules"))["data"]["groups"]
            assert {rule["name"]: rule["health"] for group in groups for rule in group["rules"]} == dict.fromkeys(
                [*RECORDED, *ALERTS], "ok"
            )

            empty = [place for place, shows in shown() if not await server.evaluate(filled_in(shows))]
            assert set(empty) <= EMPTY_IN_HEALTH


def test_a_name_a_label_a_value_or_a_bucket_that_is_not_there_is_told():
    """The measure of the test above can find fault."""
    series = {"a_bucket": {"le": {"1.0", "+Inf"}, "state": {"failed", "expired"}}}
    for selector, problem in (
        (Selector("a_bucket", (("le", "=", "1.0"), ("job", "=~", ".*"))), None),
        (Selector("a_bucket", (("state", "=~", "failed|expired"),)), None),
        (Selector("a_buckets"), "no metric a_buckets"),
        (Selector("a_bucket", (("lane", "=", "0"),)), "a_bucket has no label lane"),
        (Selector("a_bucket", (("le", "=", "1"),)), "a_bucket has no le=1"),
        (Selector("a_bucket", (("state", "=~", "failed|lost"),)), "a_bucket has no state like lost"),
    ):
        assert missing(selector, series) == problem
