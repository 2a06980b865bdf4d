"""dispatcher/receipt_ids.py: how receipts spell ids is learnt of a link, narrows what is tried, and is forgotten again."""

from __future__ import annotations

import pytest
import structlog

from dispatcher import receipt_ids
from dispatcher.receipt_ids import FORGOTTEN_AFTER, LEARNT_AFTER, RELATIONS, Learnt, relation, still_tried
from dispatcher.receipts import TELL_UNMATCHED_AFTER_S
from gateway import DeliveryState, Receipt, id_forms
from tests.dispatcher.instance import Instance, instance
from tests.journey.running import LINK

RECIPIENT = "447700900123"
FORMS = "tocsin_receipt_ids_total"


@pytest.mark.parametrize(
    ("told", "answered", "by"),
    [
        ("m-1", "m-1", "exact"),
        ("16", "16", "exact"),
        ("abcdef0", "ABCDEF0", "case"),
        ("12345", "0000012345", "zeros"),
        ("00ab", "ab", "zeros"),
        ("00bc614e", "12345678", "hex"),
        ("BC614E", "0012345678", "hex"),
        ("12345678", "00BC614E", "decimal"),
        ("10", "16", "hex"),  # 0x10 is 16
        ("16", "10", "decimal"),
    ],
)
def test_each_reading_has_its_relation(told, answered, by):
    """The answer's id is one of the readings of the receipt's, and the name is that of message_id_format."""
    assert answered in id_forms(told)
    assert relation(told, answered) == by
    if by in ("hex", "decimal"):
        assert answered in id_forms(told, by)


@pytest.mark.parametrize("told", ["1234", "00bc614e", "BC614E", "9" * 20, "m-1", "f" * 16, "", "²", "ß", "0" * 64])
def test_what_was_learnt_leaves_the_readings_of_its_kind_and_never_takes_the_exact_one(told):
    """Whatever the id is."""
    forms = id_forms(told)
    by_kind = {learnt: still_tried(told, forms, learnt) for learnt in ("exact", "hex", "decimal")}

    assert forms[0] in by_kind["exact"]
    assert by_kind["exact"] == by_kind["hex"] & by_kind["decimal"]
    assert by_kind["hex"] | by_kind["decimal"] == set(forms)


def test_a_hundred_matches_of_one_relation_are_learnt_and_fewer_are_not():
    """However they come."""
    learnt = Learnt()
    told = [learnt.matched(LINK, "hex", receipts) for receipts in (60, LEARNT_AFTER - 61, 1, 5)]

    assert told == ["", "", "learnt", ""]
    assert learnt.of(LINK) == "hex"
    assert learnt.of("carrier-b") is None


@pytest.mark.parametrize("by", ["exact", "case", "zeros"])
def test_capitals_and_zeros_are_no_conversion(by):
    """They go with the exact id, and with either conversion's absence."""
    learnt = Learnt()
    learnt.matched(LINK, "exact", 50)

    assert learnt.matched(LINK, by, 50) == "learnt"
    assert learnt.of(LINK) == "exact"


def test_a_link_that_shows_two_relations_learns_none():
    """A carrier of two systems behind one account."""
    learnt = Learnt()

    told = [learnt.matched(LINK, by, LEARNT_AFTER - 1) for by in ("exact", "hex", "exact", "decimal")]

    assert told == [""] * 4
    assert learnt.of(LINK) is None


def test_a_match_by_another_relation_is_the_end_of_what_was_learnt_and_then_more_are_wanted():
    """A link that changes to and fro learns, and says so, ever more seldom."""
    learnt = Learnt()
    learnt.matched(LINK, "exact", LEARNT_AFTER)

    assert learnt.matched(LINK, "hex") == "forgotten"
    assert learnt.of(LINK) is None
    assert learnt.matched(LINK, "hex", 2 * LEARNT_AFTER - 1) == ""
    assert learnt.matched(LINK, "hex") == "learnt"
    told = [learnt.matched(LINK, by, LEARNT_AFTER) for _ in range(10_000) for by in ("exact", "hex")]
    assert told.count("forgotten") == 1


def test_unmatched_receipts_in_a_row_are_the_end_of_what_was_learnt():
    """A match between them begins the row anew; those that contradict need none."""
    learnt = Learnt()
    learnt.matched(LINK, "hex", LEARNT_AFTER)

    assert not any(learnt.unmatched(LINK) for _ in range(FORGOTTEN_AFTER - 1))
    learnt.matched(LINK, "hex")
    assert [learnt.unmatched(LINK) for _ in range(FORGOTTEN_AFTER)] == [False] * (FORGOTTEN_AFTER - 1) + [True]
    assert learnt.of(LINK) is None
    assert not learnt.unmatched(LINK)

    learnt.matched(LINK, "hex", 2 * LEARNT_AFTER)
    for n in range(FORGOTTEN_AFTER):
        assert learnt.of(LINK) == "hex"
        learnt.matched(LINK, "hex")
        assert learnt.unmatched(LINK, contradicts=True) is (n == FORGOTTEN_AFTER - 1)


def test_links_that_are_gone_are_forgotten():
    """Their memory goes with them."""
    learnt = Learnt()
    for link in ("a", "b"):
        learnt.matched(link, "hex", LEARNT_AFTER)
    learnt.keep(["b", "c"])

    assert [learnt.of(link) for link in "abc"] == [None, "hex", None]


# ------------------------------------------------------------------ on a database


@pytest.fixture
def soon(monkeypatch):
    """Three matches are enough, and two receipts that do not match."""
    monkeypatch.setattr(receipt_ids, "LEARNT_AFTER", 3)
    monkeypatch.setattr(receipt_ids, "FORGOTTEN_AFTER", 2)


def receipt(message_id: str) -> Receipt:
    return Receipt(message_id, DeliveryState.DELIVERED, source=RECIPIENT, destination="Northside")


async def learn(one: Instance, told: str, *, numbers: range = range(20_001, 20_004)) -> None:
    """Let so many ids of answers come in receipts as `told` spells them; the answers have the other spelling."""
    spelt = {"hex": ("{:d}", "{:x}"), "decimal": ("{:X}", "{:d}"), "exact": ("{:d}", "{:d}")}[told]
    for number in numbers:
        await one.sent([spelt[0].format(number)])
        await one.receive(receipt(spelt[1].format(number)))


def forms(one: Instance) -> dict[str, float]:
    return {form: count for form in (*RELATIONS, "none") if (count := one.counter(FORMS, link=LINK, form=form))}


async def unmatched(one: Instance, message_id: str) -> None:
    await one.receive(receipt(message_id))
    one.clock.ahead_s += TELL_UNMATCHED_AFTER_S + 1
    await one.receipts.tell_unmatched(one.flushing)
    await one.bring_home()


@pytest.mark.parametrize(
    ("told", "answered", "wrong"),
    [
        ("hex", "4096", "1000"),  # the receipt of 0x1000 is no receipt of 4096
        ("decimal", "4096", "1000"),
        ("exact", "4096", "1000"),
        ("exact", "1000", "4096"),
    ],
)
async def test_a_contrary_conversion_is_not_tried_on_a_link_that_has_shown_its_own(
    tmp_path, queue_url, soon, told, answered, wrong
):
    """It could only mean another message: of the same person, whose number is no help."""
    async with instance(tmp_path, queue_url) as one:
        assert answered in id_forms(wrong)
        number = await one.sent([answered])
        with structlog.testing.capture_logs() as logs:
            await learn(one, told)
        assert [(e["link"], e["form"]) for e in logs if e["event"] == "receipt_ids_learnt"] == [(LINK, told)]

        await one.receive(receipt(wrong))

        expected = "delivered" if told == relation(wrong, answered) else "submitted"
        assert await one.app.state(number) == expected
        await learn(one, told, numbers=range(30_001, 30_003))
        assert forms(one) == {told: 5 + (expected == "delivered")}


async def test_before_it_is_learnt_every_reading_is_tried(tmp_path, queue_url, soon):
    """As on a link that shows more than one; and what the file says is never narrowed."""
    async with instance(tmp_path, queue_url) as one:
        number = await one.sent(["4096"])
        await learn(one, "exact", numbers=range(20_001, 20_003))
        await one.receive(receipt("1000"))
        assert await one.app.state(number) == "delivered"
        assert forms(one) == {"exact": 2, "hex": 1}


async def test_a_setting_that_names_the_form_is_not_learnt_over(tmp_path, queue_url, soon):
    """The operator knows better, whatever the first hundred are."""
    async with instance(tmp_path, queue_url, links={LINK: {"message_id_format": "hex"}}) as one:
        with structlog.testing.capture_logs() as logs:
            await learn(one, "exact")
            number = await one.sent(["4096"])
            await one.receive(receipt("1000"))

        assert await one.app.state(number) == "delivered"
        assert "receipt_ids_learnt" not in {entry["event"] for entry in logs}
        assert forms(one) == {"exact": 3, "hex": 1}


async def test_when_receipts_stop_matching_the_learning_begins_anew_and_what_waited_matches(tmp_path, queue_url, soon):
    """The carrier changed its spelling: no receipt is lost for what was learnt before."""
    async with instance(tmp_path, queue_url) as one:
        await learn(one, "exact")
        numbers = [await one.sent([str(n)]) for n in (40_001, 40_002)]

        with structlog.testing.capture_logs() as logs:
            await unmatched(one, f"{40_001:x}")
            assert [await one.app.state(number) for number in numbers] == ["submitted"] * 2
            await unmatched(one, f"{40_002:x}")

        assert [await one.app.state(number) for number in numbers] == ["delivered"] * 2
        assert [e["link"] for e in logs if e["event"] == "receipt_ids_forgotten"] == [LINK]
        assert forms(one) == {"exact": 3, "none": 2, "hex": 2}


async def test_receipts_that_contradict_end_it_though_others_match_between_them(tmp_path, queue_url, soon):
    """Half the carrier's systems changed."""
    async with instance(tmp_path, queue_url) as one:
        await learn(one, "exact")
        numbers = [await one.sent([str(n)]) for n in (40_001, 40_002)]

        for n in (40_001, 40_002):
            await unmatched(one, f"{n:x}")
            await learn(one, "exact", numbers=range(n + 10, n + 11))

        assert [await one.app.state(number) for number in numbers] == ["delivered"] * 2


async def test_strangers_receipts_between_matches_end_nothing(tmp_path, queue_url, soon):
    """Another system sends on the same account: that says nothing of the spelling."""
    async with instance(tmp_path, queue_url) as one:
        await learn(one, "exact")
        with structlog.testing.capture_logs() as logs:
            for n in range(4):
                await unmatched(one, f"{50_000 + n:d}")
                await learn(one, "exact", numbers=range(60_000 + n, 60_001 + n))

        assert "receipt_ids_forgotten" not in {entry["event"] for entry in logs}
        assert forms(one) == {"exact": 7, "none": 4}


async def test_a_repeated_receipt_is_a_match_by_its_form(tmp_path, queue_url):
    """It names its segment a second time."""
    async with instance(tmp_path, queue_url) as one:
        await one.sent(["00BC614E"])
        for _ in range(2):
            await one.receive(receipt("12345678"))

        assert forms(one) == {"decimal": 2}
