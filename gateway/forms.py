"""How a segment is written, and how else once an SMSC refuses the form and not the message.

Flash can be asked for in three ways (data_coding of message class 0, data coding group F, dest_addr_subunit), and
carriers differ in which of them they take; some refuse a priority_flag, a registered_delivery or a validity_period. A
form that is refused is given up, and the segment goes again at once in the next one: a message is never lost because
of how it was dressed. The way to say flash that the SMSC took instead is remembered for an hour, so that the next
alert does not begin with the refusal.

    answer                                           what is given up
    0x43, 0x104, 0x105, 0x106 to a flash message     its way of saying flash; in the end flash itself
    0x06                                             priority_flag: 0 is written
    0x07                                             registered_delivery: 1 is written
    0x62, of lane 0                                  validity_period: the SMSC's own

Without a validity_period an SMSC may try for days, so of the other lanes 0x62 ends the message.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from gateway.codec import encode_submit_sm, sar_tlvs, validity_absolute, validity_relative
from gateway.messages import Form
from gateway.pdu import Tag
from gateway.segment import CLASS_0_UCS2, UCS2, data_coding

if TYPE_CHECKING:
    from config.settings import LinkSettings
    from gateway.messages import FlashWay, Segment, Submission
    from gateway.pdu import Tlv

SINGLE_OCTETS: Final = 140  # user data that fits one SM in any coding; longer goes into message_payload
LEARNT_FOR_S: Final = 3600.0
TO_THE_DISPLAY: Final = ((int(Tag.DEST_ADDR_SUBUNIT), b"\x01"),)  # SMPP v3.4 section 5.3.2.1: MS display

INVALID_PRIORITY: Final = 0x06  # numbers of section 5.1.3, and of v5.0 from 0x104 on
INVALID_REGISTERED_DELIVERY: Final = 0x07
INVALID_EXPIRY: Final = 0x62
REFUSES_FLASH: Final = frozenset({0x43, 0x104, 0x105, 0x106})  # esm_class, data_coding, source and destination sub-unit
REFUSES_A_FORM: Final = REFUSES_FLASH | {INVALID_PRIORITY, INVALID_REGISTERED_DELIVERY, INVALID_EXPIRY}


_FIELDS: Final = {"priority": "priority_flag", "receipts": "registered_delivery", "validity": "validity_period"}


def change(before: Form | None, after: Form) -> tuple[str, str]:
    """Say what gave way to what, in words for a log."""
    before = before or Form()
    if before.flash != after.flash:
        return before.flash, after.flash
    ((field, _, _),) = [both for both in zip(Form._fields, before, after, strict=True) if both[1] != both[2]]
    return _FIELDS[field], "the default"


class Forms:
    """The forms of one link: where a flash message begins, and what follows a refusal."""

    __slots__ = ("_learnt", "_ways")

    def __init__(self, settings: LinkSettings) -> None:
        self._ways: dict[bool, tuple[FlashWay, ...]] = {}  # UCS-2 or not -> ways to say flash, in order
        self._learnt: dict[bool, tuple[FlashWay, float]] = {}  # the same -> way, until when
        self.configure(settings)

    def configure(self, settings: LinkSettings) -> None:
        """Take the settings; what was learnt of other ways is forgotten."""
        ways: tuple[FlashWay, ...] = (settings.flash, *settings.flash_fallback)
        in_ucs2: tuple[FlashWay, ...] = tuple("class0" if way == "group_f" else way for way in ways)
        found = {False: _each_once(ways), True: _each_once(in_ucs2)}
        if found != self._ways:
            self._ways = found
            self._learnt.clear()

    def first(self, submission: Submission, now: float) -> Form:
        """Form in which a flash message is written first."""
        is_ucs2 = _is_ucs2(submission.segments[0])
        way, until = self._learnt.get(is_ucs2, ("plain", 0.0))
        return Form(flash=way if now < until else self._ways[is_ucs2][0])

    def following(self, submission: Submission, command_status: int) -> Form | None:
        """Form to go on with after this refusal; None when it says nothing about the form, or none is left."""
        form = submission.form or Form()
        message = submission.message
        if command_status in REFUSES_FLASH and form.flash != "plain":
            ways = self._ways[_is_ucs2(submission.segments[0])]
            later = ways[ways.index(form.flash) + 1 :] if form.flash in ways else ()
            return form._replace(flash=later[0] if later else "plain")
        if command_status == INVALID_PRIORITY and form.priority and message.priority_flag:
            return form._replace(priority=False)
        if command_status == INVALID_REGISTERED_DELIVERY and form.receipts and message.registered_delivery != 1:
            return form._replace(receipts=False)
        if command_status == INVALID_EXPIRY and form.validity and submission.lane == 0:
            return form._replace(validity=False)
        return None

    def accepted(self, submission: Submission, now: float) -> None:
        """Remember the way to say flash that was taken after another had been refused."""
        if submission.message.flash and submission.form is not None:
            self._learnt[_is_ucs2(submission.segments[0])] = (submission.form.flash, now + LEARNT_FOR_S)


def body_of(submission: Submission, segment: Segment, settings: LinkSettings, now: float, unix_now: float) -> bytes:
    """Give the body of the submit_sm for one segment. Raises LocalError."""
    message = submission.message
    tlvs = _tlvs(settings.tlv, message.tlvs) if message.tlvs else settings.tlv
    if segment.parts > 1 and settings.concatenation == "sar":
        tlvs += sar_tlvs(segment.reference, segment.part, segment.parts)
    form = submission.form
    writes_validity = True
    if form is not None:
        segment = segment._replace(data_coding=data_coding(form.flash, is_ucs2=_is_ucs2(segment)))
        if form.flash == "dest_addr_subunit":
            tlvs += TO_THE_DISPLAY
        if not form.priority:
            message = message._replace(priority_flag=0)
        if not form.receipts:
            message = message._replace(registered_delivery=1)
        writes_validity = form.validity
    validity_period = ""
    if writes_validity:
        if settings.validity == "relative":
            validity_period = _relative(int(submission.deadline - now))
        elif settings.validity == "absolute":
            validity_period = _absolute(int(unix_now + submission.deadline - now))
    return encode_submit_sm(
        message,
        segment,
        validity_period=validity_period,
        tlvs=tlvs,
        payload=settings.concatenation == "payload" and len(segment.octets) > SINGLE_OCTETS,
    )


def _each_once(ways: tuple[FlashWay, ...]) -> tuple[FlashWay, ...]:
    return tuple(dict.fromkeys(ways))


def _is_ucs2(segment: Segment) -> bool:
    return segment.data_coding in (UCS2, CLASS_0_UCS2)


@lru_cache(maxsize=256)
def _tlvs(of_link: tuple[Tlv, ...], of_message: tuple[Tlv, ...]) -> tuple[Tlv, ...]:
    """Both, once a tag: the message's go before."""
    return tuple((dict(of_link) | dict(of_message)).items())


@lru_cache(maxsize=4096)
def _relative(seconds: int) -> str:
    return validity_relative(seconds)


@lru_cache(maxsize=4096)
def _absolute(unix_time: int) -> str:
    return validity_absolute(datetime.fromtimestamp(unix_time, UTC))
