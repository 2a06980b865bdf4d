"""gateway/learnt.py: what answers and receipts show, as values."""

from __future__ import annotations

import pytest

from config.settings import LinkSettings
from gateway import DeliveryState, Observed, learn, trials
from gateway.learnt import Answer, Came, format_of, suggested_window

DCS, ESM, TLV, EXPIRY, PRIORITY, SYSTEM, THROTTLED = 0x104, 0x43, 0xC1, 0x62, 0x06, 0x08, 0x58
ALL_FLASH = ("class0", "class0_ucs2", "group_f", "dest_addr_subunit")


def link(**settings):
    return LinkSettings(name="a", hosts=("127.0.0.1",), system_id="clinic", password="secret", **settings)


def observed(settings, refusals=None, *, receipts=(), ids=lambda number: f"m{number}", took_s=0.1, **seen):
    """What is seen of a carrier that takes everything but for these refusals, by form; None: no answer."""
    planned = trials(settings)
    refusals = refusals or {}
    answers = [
        Answer(trial.key, 1, refusals.get(trial.key, 0), "" if trial.key in refusals else ids(trial.number), took_s)
        for trial in planned
    ]
    usual = {"is_bound": True, "sc_interface_version": 0x34, "wait_s": 60.0}
    return Observed(planned, "127.0.0.1", answers=tuple(answers), receipts=tuple(receipts), **usual | seen)


def came(answer_id="m1", receipt_id=None, *, key="plain", **fields):
    usual = {
        "kind": "transceiver",
        "message_type": 0x04,
        "state": DeliveryState.DELIVERED,
        "has_text": True,
        "has_tlvs": True,
        "in_payload": False,
        "after_s": 1.0,
    }
    return Came(key, answer_id, answer_id if receipt_id is None else receipt_id, **usual | fields)


def learnt(refusals=None, *, of_file=None, **seen):
    """Settings and what is unknown, by key, and the notes."""
    settings = link(**of_file or {})
    lesson = learn(observed(settings, refusals, **seen), settings)
    return {one.key: one for one in lesson.settings}, dict(lesson.unknown), lesson.notes


class TestForms:
    def test_what_is_taken_stays_as_the_file_has_it(self):
        """An operator's choice that works is no finding."""
        of_file = {"concatenation": "udh16", "flash": "group_f", "flash_fallback": ("group_f", "class0")}
        known, _, _ = learnt(of_file=of_file)
        assert known["concatenation"].value == "udh16"
        assert known["flash"].value == "group_f"
        assert known["flash_fallback"].value == ("group_f", "class0", "dest_addr_subunit")
        assert known["validity"].value == "relative"
        assert "priority_flag" not in known

    def test_the_first_concatenation_that_is_taken_is_given_with_the_refusals(self):
        """The evidence names form and command_status."""
        known, _, _ = learnt({"udh8": ESM, "udh16": ESM})
        assert known["concatenation"].value == "sar"
        assert known["concatenation"].evidence == "udh8, udh16 refused with ESME_RINVESMCLASS; sar, payload accepted"

    def test_national_tables_do_not_go_with_a_concatenation_without_header(self):
        """The file would be refused."""
        known, _, _ = learnt({"udh8": ESM, "udh16": ESM}, of_file={"national_tables": ("turkish-single",)})
        assert "national_tables must go" in known["concatenation"].evidence

    def test_no_concatenation_taken_is_none_learnt(self):
        """What the file says is as good as any."""
        known, unknown, _ = learnt(dict.fromkeys(("udh8", "udh16", "sar", "payload"), ESM))
        assert "concatenation" not in known
        assert unknown["concatenation"] == "udh8, udh16, sar, payload refused with ESME_RINVESMCLASS"

    def test_flash_is_the_first_way_in_the_order_of_the_link(self):
        """The others follow, so that a refusal later still has a next one."""
        known, _, _ = learnt({"class0": DCS, "class0_ucs2": DCS})
        assert known["flash"].value == "dest_addr_subunit"
        assert known["flash_fallback"].value == ("dest_addr_subunit", "group_f")
        assert "class0, class0_ucs2 refused with ESME_RINVDCS" in known["flash"].evidence

    def test_where_no_way_is_taken_the_fallback_ends_at_once(self):
        """Each further way would be one more refusal before the text goes without flash."""
        known, unknown, _ = learnt(dict.fromkeys(ALL_FLASH, DCS))
        assert "flash" not in known
        assert "without flash" in unknown["flash"]
        assert known["flash_fallback"].value == ("class0",)

    @pytest.mark.parametrize(
        ("refusals", "value"),
        [
            ({}, "relative"),
            ({"relative": EXPIRY}, "absolute"),
            (dict.fromkeys(("relative", "absolute"), EXPIRY), "none"),
        ],
    )
    def test_validity(self, refusals, value):
        """Relative before absolute; none where both are refused."""
        assert learnt(refusals)[0]["validity"].value == value

    def test_a_refused_priority_is_written_as_0(self):
        """It costs a refusal for each emergency otherwise."""
        assert learnt({"priority_flag": PRIORITY})[0]["priority_flag"].value == 0

    def test_refused_optional_parameters_are_noted(self):
        """All of them: then the carrier takes none."""
        _, _, notes = learnt({"sar": TLV, "payload": TLV, "dest_addr_subunit": TLV})
        assert any(note.startswith("optional parameters are refused: sar") for note in notes)
        assert not any("optional" in note for note in learnt({"sar": TLV})[2])

    @pytest.mark.parametrize("status", [SYSTEM, THROTTLED, 0x04, 0x14])
    def test_a_refusal_of_the_moment_says_nothing_about_the_form(self, status):
        """Nor does no answer."""
        known, unknown, _ = learnt(dict.fromkeys(("relative", "absolute"), status))
        assert "validity" not in known
        assert "refused with" in unknown["validity"]

    def test_no_answer_says_nothing_about_the_form(self):
        """It may have been taken."""
        known, unknown, _ = learnt({"relative": None, "absolute": None, "priority_flag": None})
        assert "validity" not in known
        assert "priority_flag" not in known
        assert unknown["validity"] == "relative, absolute not answered"

    def test_a_refusal_that_the_plain_text_met_too_says_nothing_about_the_form(self):
        """The number, the sender or the account is refused then."""
        everything = dict.fromkeys((trial.key for trial in trials(link())), 0x0B)
        known, unknown, _ = learnt(everything)
        assert known.keys() == {"interface_version"}
        assert "ESME_RINVDSTADR" in unknown["flash"]
        assert unknown["window_size"] == unknown["receipts"] == "nothing was accepted"
        assert observed(link(), everything).accepted == 0

    def test_a_link_s_own_meaning_of_a_status_counts(self):
        """status_overrides say that this carrier throttles by it."""
        refusals = dict.fromkeys(("relative", "absolute"), EXPIRY)
        assert "validity" not in learnt(refusals, of_file={"status_overrides": {EXPIRY: "throttled"}})[0]


class TestInterfaceVersion:
    @pytest.mark.parametrize(("told", "bound_with"), [(0x34, "3.4"), (0x50, "3.4"), (0x50, "5.0"), (0x34, "3.3")])
    def test_what_was_bound_with_is_confirmed(self, told, bound_with):
        """The trial was made with it, and with no other."""
        known, _, _ = learnt(of_file={"interface_version": bound_with}, sc_interface_version=told)
        assert known["interface_version"].value == bound_with

    @pytest.mark.parametrize(("told", "why"), [(0x33, "0x33"), (None, "no sc_interface_version")])
    def test_an_older_or_none_is_told(self, told, why):
        """Nothing shows what the carrier does with an older bind."""
        known, unknown, _ = learnt(sc_interface_version=told)
        assert "interface_version" not in known
        assert why in unknown["interface_version"]


class TestReceipts:
    @pytest.mark.parametrize(
        ("pairs", "value"),
        [
            ([("7f3a", "7f3a"), ("12", "12")], "text"),
            ([("1190CFFC", "294703100"), ("10", "16")], "decimal"),
            ([("1190cffc", "0294703100")], "decimal"),
            ([("294703100", "1190cffc"), ("16", "10")], "hex"),
            ([("abCD", "ABCD")], "auto"),
            ([("12", "0012")], "auto"),
        ],
    )
    def test_the_narrowest_format_explains_every_pair(self, pairs, value):
        """Pairs are of answer and receipt."""
        assert format_of(pairs) == value

    def test_ids_are_described_and_not_repeated(self):
        """They name messages."""
        receipts = [came("1190cffc", "294703100")]
        known, _, notes = learnt(receipts=receipts, ids=lambda number: f"1190cff{number:x}"[-8:])
        assert known["message_id_format"].value == "decimal"
        assert known["message_id_format"].evidence.startswith("ids of answers: 8 hexadecimal digits; receipts write")
        assert not any("1190" in text or "2947" in text for text in (*notes, *(one.evidence for one in known.values())))

    def test_ids_that_name_no_message_are_told(self):
        """Receipts cannot be told apart, or matched at all."""
        assert "same id" in learnt(ids=lambda _: "1")[1]["message_id_format"]
        assert "no message_id" in learnt(ids=lambda _: "")[1]["message_id_format"]

    def test_receipts_whose_ids_are_of_another_kind_are_told(self):
        """They name the test number."""
        _, unknown, notes = learnt(receipts=[came("", "x9", key="")])
        assert unknown["message_id_format"] == "ids of receipts are ids of answers in no form"
        assert "receipts that name the test number and no id of an answer: 1" in notes

    def test_how_many_came_and_after_how_long(self):
        """Least and median; a repetition counts once."""
        receipts = [came("m1", after_s=0.5), came("m1", after_s=9.0), came("m2", key="extension", after_s=2.0)]
        known, _, notes = learnt(receipts=receipts)
        assert known["receipts"].value == "all"
        assert known["receipts"].evidence == "2 of 16 came; after 0.50 s at least, 2.00 s in the median"
        assert "receipts: on the transceiver session (3 of 3)" in notes
        assert "receipts: esm_class 0x04, text, both TLVs (3 of 3)" in notes

    def test_an_enroute_alone_is_no_receipt(self):
        """What is asked for is the final one."""
        known, unknown, _ = learnt(receipts=[came(state=DeliveryState.ENROUTE)])
        assert "receipts" not in known
        assert unknown["receipts"].startswith("none came within 60 s")

    def test_a_receipt_of_what_was_delivered_where_failures_were_asked_for_is_noted(self):
        """The setting would not do what it says."""
        _, _, notes = learnt(receipts=[came(key="failures")])
        assert any("not kept" in note for note in notes)
        assert not any("failures" in note for note in learnt(receipts=[came()])[2])
        assert any("not taken" in note for note in learnt({"failures": 0x07})[2])

    @pytest.mark.parametrize(
        ("fields", "needed"),
        [
            ({"message_type": 0, "has_tlvs": False}, True),
            ({"message_type": 0}, False),
            ({"has_tlvs": False}, False),
            ({"message_type": 0, "has_tlvs": False, "key": ""}, False),
        ],
    )
    def test_esm_class_0_without_tlvs_needs_a_setting(self, fields, needed):
        """The daemon takes these for replies; one that names no text of the trial may be one."""
        known, _, _ = learnt(receipts=[came(**fields)])
        assert ("text_receipts" in known) == needed
        if needed:
            assert known["text_receipts"].value is True
            assert "1 of 1 receipts" in known["text_receipts"].evidence


class TestWindow:
    @pytest.mark.parametrize(
        ("rate", "answer_s", "size"), [(100, 0.2, 40), (100, 0.001, 10), (100_000, 9.0, 10_000), (7, 1.0, 14)]
    )
    def test_as_many_as_are_on_their_way_twice(self, rate, answer_s, size):
        """Within the bounds of the setting."""
        assert suggested_window(rate, answer_s) == size

    def test_how_it_was_computed_is_told(self):
        """From the median of the accepted ones."""
        known, _, _ = learnt(took_s=0.3, of_file={"throughput_per_s": 50})
        assert known["window_size"].value == 30
        assert "throughput_per_s 50 x median answer time 0.300 s x 2" in known["window_size"].evidence


def test_throttling_and_enquiries_are_noted():
    """Neither has a setting that the trial could choose."""
    _, _, notes = learnt(throttled=3, enquiry_answered=False)
    assert any("ESME_RTHROTTLED 3 times" in note for note in notes)
    assert any("enquire_link is not answered" in note for note in notes)
    assert "enquire_link is answered" in learnt(enquiry_answered=True)[2]
    assert not any("enquire_link" in note for note in learnt()[2])
