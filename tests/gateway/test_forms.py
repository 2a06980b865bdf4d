"""A form that an SMSC refuses gives way to the next one; the message is not lost over it."""

from dataclasses import replace

import pytest
import structlog

from config.settings import LinkSettings
from gateway import Verdict
from gateway.forms import LEARNT_FOR_S, REFUSES_FLASH, Forms
from gateway.messages import Form
from gateway.segment import segment
from tests.fakes.account import account
from tests.fakes.observer import submission
from tests.fakes.smsc import Answer

SETTINGS = {"flash": "class0", "flash_fallback": ("class0", "dest_addr_subunit", "group_f")}


def flash(text="Theatre 2: crash call", lane=0):
    """A flash message of an emergency."""
    one = submission(text=text, lane=lane)
    one.message = one.message._replace(flash=True)
    one.segments = segment(text, reference=7, flash=True)
    return one


def takes(*accepted):
    """An SMSC that takes these (data_coding, says the display in a TLV), and refuses others with 0x104."""

    def answer(submit):
        form = (submit.fields["data_coding"], submit.octets.endswith(b"\x00\x05\x00\x01\x01"))
        return Answer() if form in accepted else Answer(status=0x104)

    return lambda smsc: setattr(smsc, "on_submit", answer)


def forms_of(smsc):
    """What was written, in order."""
    return [
        (submit.fields["data_coding"], submit.octets.endswith(b"\x00\x05\x00\x01\x01"))
        for submit in smsc.received("submit_sm")
    ]


class TestFlashThatIsRefused:
    @pytest.mark.parametrize(
        ("text", "accepted", "written"),
        [
            ("crash call", (0x10, False), [(0x10, False)]),
            ("crash call", (0x00, True), [(0x10, False), (0x00, True)]),
            ("crash call", (0xF0, False), [(0x10, False), (0x00, True), (0xF0, False)]),
            ("crash call", (0x00, False), [(0x10, False), (0x00, True), (0xF0, False), (0x00, False)]),
            ("вызов", (0x18, False), [(0x18, False)]),
            ("вызов", (0x08, True), [(0x18, False), (0x08, True)]),
            ("вызов", (0x08, False), [(0x18, False), (0x08, True), (0x08, False)]),
        ],
    )
    async def test_the_next_way_is_tried_and_plain_in_the_end(self, text, accepted, written):
        """Group F has no UCS-2: there class 0 is not tried twice."""
        async with account(prepare=takes(accepted)) as a:
            a.link.submit([flash(text)])
            await a.seen.until(lambda: a.seen.results)

        assert a.seen.verdicts() == [Verdict.ACCEPTED]
        assert forms_of(a.smsc) == written
        assert [repeat.verdict for repeat in a.seen.repeats] == [Verdict.MISCONFIGURED] * (len(written) - 1)

    @pytest.mark.parametrize("command_status", sorted(REFUSES_FLASH))
    async def test_every_refusal_of_a_form_counts(self, command_status):
        """esm_class, data_coding, source and destination sub-unit: carriers choose."""
        answers = iter([Answer(status=command_status)])

        async with account(prepare=lambda smsc: setattr(smsc, "on_submit", lambda _: next(answers, Answer()))) as a:
            a.link.submit([flash()])
            await a.seen.until(lambda: a.seen.results)

        assert a.seen.verdicts() == [Verdict.ACCEPTED]

    async def test_what_was_taken_is_remembered_and_the_configured_way_tried_again_after_an_hour(self):
        """The next alert does not begin with the refusal."""
        async with account(prepare=takes((0xF0, False), (0x08, True))) as a:
            a.link.submit([flash(), flash("вызов")])
            await a.seen.until(lambda: len(a.seen.results) == 2)
            before = len(forms_of(a.smsc))
            a.link.submit([flash(), flash("вызов")])
            await a.seen.until(lambda: len(a.seen.results) == 4)
            learnt = a.link._answers.forms
            later = flash()

        assert forms_of(a.smsc)[before:] == [(0xF0, False), (0x08, True)]
        now = a.seen.results[0].answered_at
        assert learnt.first(later, now + LEARNT_FOR_S - 1) == Form("group_f")
        assert learnt.first(later, now + LEARNT_FOR_S + 60) == Form("class0")

    async def test_each_part_of_a_long_one_goes_on_in_the_new_form(self):
        """Parts that were on the wire when the first refusal came do not skip a way."""
        async with account(prepare=takes((0x00, True))) as a:
            a.link.submit([flash("Theatre 2, crash call, come at once. " * 12)])
            await a.seen.until(lambda: len(a.seen.results) == 3)

        assert a.seen.verdicts() == [Verdict.ACCEPTED] * 3
        assert sorted(result.segment.part for result in a.seen.results) == [1, 2, 3]
        assert set(forms_of(a.smsc)) == {(0x10, False), (0x00, True)}
        assert forms_of(a.smsc).count((0x00, True)) == 3

    async def test_a_refusal_of_plain_text_is_final(self):
        """Then it is not the form that is wrong."""
        async with account(prepare=takes()) as a:
            a.link.submit([flash(), submission()])
            await a.seen.until(lambda: len(a.seen.results) == 2)

        assert a.seen.verdicts() == [Verdict.MISCONFIGURED] * 2
        assert len(forms_of(a.smsc)) == 5

    async def test_an_override_of_the_link_comes_first(self):
        """A carrier for which 0x104 means the number is told so at once."""
        async with account(prepare=takes(), status_overrides={0x104: "rejected"}) as a:
            a.link.submit([flash()])
            await a.seen.until(lambda: a.seen.results)

        assert a.seen.verdicts() == [Verdict.REJECTED]
        assert forms_of(a.smsc) == [(0x10, False)]

    async def test_it_is_told_without_text_or_number(self):
        """An operator sees which way his carrier refuses."""
        with structlog.testing.capture_logs() as logs:
            async with account(prepare=takes((0x00, True))) as a:
                a.link.submit([flash()])
                await a.seen.until(lambda: a.seen.results)

        (told,) = [entry for entry in logs if entry["event"] == "form_refused"]
        assert told == {
            "event": "form_refused",
            "log_level": "warning",
            "link": "carrier-a",
            "command_status": "ESME_RINVDCS",
            "form": "class0",
            "next": "dest_addr_subunit",
            "part": 1,
        }


class TestFieldsThatAreRefused:
    @pytest.mark.parametrize(
        ("command_status", "field", "before", "after"),
        [
            (0x06, "priority_flag", 3, 0),
            (0x07, "registered_delivery", 2, 1),
            (0x62, "validity_period", b"000000235959000R", b""),
        ],
    )
    async def test_the_field_is_given_up_once(self, command_status, field, before, after):
        """The message counts, not what stands beside it."""
        answers = iter([Answer(status=command_status)])

        async with account(prepare=lambda smsc: setattr(smsc, "on_submit", lambda _: next(answers, Answer()))) as a:
            one = submission(lane=0, within_s=86_399.99)
            one.message = one.message._replace(priority_flag=3, registered_delivery=2)
            a.link.submit([one])
            await a.seen.until(lambda: a.seen.results)

        first, second = (submit.fields[field] for submit in a.smsc.received("submit_sm"))
        assert a.seen.verdicts() == [Verdict.ACCEPTED]
        assert (first.encode() if isinstance(first, str) else first, second or after) == (before, after)

    @pytest.mark.parametrize(
        ("command_status", "lane", "changes"),
        [
            (0x06, 0, {"priority_flag": 0}),  # it said 0 already
            (0x07, 0, {"registered_delivery": 1}),
            (0x62, 3, {}),  # without a validity period a reminder may arrive after the appointment
            (0x61, 0, {}),  # no schedule was written
        ],
    )
    async def test_a_field_that_said_nothing_ends_the_message(self, command_status, lane, changes):
        """There is nothing to give up."""
        async with account(
            prepare=lambda smsc: setattr(smsc, "on_submit", lambda _: Answer(status=command_status))
        ) as a:
            one = submission(lane=lane)
            one.message = one.message._replace(**changes)
            a.link.submit([one])
            await a.seen.until(lambda: a.seen.results)

        assert a.seen.verdicts() == [Verdict.MISCONFIGURED]
        assert len(a.smsc.received("submit_sm")) == 1


async def test_tlvs_of_the_message_go_before_those_of_the_link_with_the_same_tag():
    """The entity is the account's, the template is each category's."""
    async with account(tlv=((0x1400, b"1001"), (0x1401, b"2002"))) as a:
        one = submission()
        one.message = one.message._replace(tlvs=((0x1401, b"3003"),))
        a.link.submit([one])
        (submit,) = await a.smsc.seen("submit_sm")

    assert submit.octets.endswith(b"\x14\x00\x00\x041001\x14\x01\x00\x043003")


def test_every_refusal_comes_to_an_end():
    """Whatever an SMSC answers, and however often."""
    settings = LinkSettings(name="a", hosts=("127.0.0.1",), system_id="a", password="", **SETTINGS)
    for ways in (("group_f",), ("class0", "dest_addr_subunit", "group_f"), ("dest_addr_subunit",)):
        forms = Forms(replace(settings, flash_fallback=ways))
        for text in ("crash call", "вызов"):
            one = flash(text)
            one.message = one.message._replace(priority_flag=3, registered_delivery=2)
            one.form = forms.first(one, 0.0)
            refused = 0
            while (form := forms.following(one, (0x104, 0x06, 0x43, 0x07, 0x62)[refused % 5])) is not None:
                one.form = form
                refused += 1
                assert refused < 12
            assert forms.following(one, 0x104) is None or refused < 12
