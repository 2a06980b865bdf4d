"""The log of the wire: what a line tells, and what it never does."""

from __future__ import annotations

import json
import struct

import pytest
import smpplib.smpp

from gateway.smsc import Fault, PduLog, Scenario, Smsc
from gateway.smsc.pdulog import masked
from tests.fakes.esme import NUMBERS, esme

TEXT = b"see me at nine"


def logged(octets, *, texts=False, direction="in"):
    """The one line of one PDU."""
    lines = []
    PduLog(lines.append, texts=texts).frame(3, direction, "clinic", octets)
    (line,) = lines
    assert line.endswith("\n")
    return json.loads(line)


def pdu(command, **fields):
    return smpplib.smpp.make_pdu(command, client=NUMBERS, sequence=7, **fields).generate()


def submit(**fields):
    return pdu(
        "submit_sm",
        **{"source_addr": "Northside", "destination_addr": "447700900001", "short_message": TEXT} | fields,
    )


class TestLine:
    """One PDU."""

    def test_it_tells_what_joins_it_to_others(self):
        """Connection, direction, account, command, number and status."""
        line = logged(submit())

        assert {name: line[name] for name in line if name not in {"at", "monotonic_s", "fields"}} == {
            "connection": 3,
            "direction": "in",
            "system_id": "clinic",
            "command": "submit_sm",
            "sequence_number": 7,
            "command_status": 0,
            "status": "ESME_ROK",
        }

    def test_numbers_and_texts_are_hidden(self):
        """The last two digits, the length and the alphabet stay."""
        line = logged(submit())

        assert line["fields"]["destination_addr"] == "**********01"
        assert line["fields"]["source_addr"] == "Northside"
        assert line["fields"]["short_message"] == {"octets": len(TEXT), "header_octets": 0, "alphabet": "gsm7"}

    def test_texts_are_shown_where_that_was_asked_for(self):
        """Decoded, and as octets."""
        line = logged(submit(), texts=True)

        assert line["fields"]["destination_addr"] == "447700900001"
        assert line["fields"]["short_message"]["text"] == TEXT.decode()
        assert line["fields"]["short_message"]["hex"] == TEXT.hex()

    @pytest.mark.parametrize(
        ("data_coding", "octets", "alphabet", "text"),
        [
            (0, b"\x00", "gsm7", "@"),
            (1, b"@", "ascii", "@"),
            (3, b"\xe9", "latin-1", "é"),
            (8, "Я".encode("utf-16-be"), "utf-16-be", "Я"),
            (4, b"\x01", "data_coding 0x04", None),
        ],
    )
    def test_every_alphabet(self, data_coding, octets, alphabet, text):
        """An alphabet that is not known shows its octets only."""
        shown = logged(submit(data_coding=data_coding, short_message=octets), texts=True)["fields"]["short_message"]

        assert (shown["alphabet"], shown["text"], shown["hex"]) == (alphabet, text, octets.hex())

    def test_a_header_is_no_text(self):
        """Its octets are counted apart."""
        octets = b"\x05\x00\x03\x01\x02\x01" + TEXT
        shown = logged(submit(esm_class=0x40, short_message=octets), texts=True)["fields"]["short_message"]

        assert (shown["octets"], shown["header_octets"], shown["text"]) == (len(octets), 6, TEXT.decode())

    @pytest.mark.parametrize("texts", [False, True])
    def test_a_password_never_shows(self, texts):
        """Not even where everything else does."""
        line = logged(pdu("bind_transceiver", system_id="clinic", password="hunter2"), texts=texts)

        assert line["fields"]["system_id"] == "clinic"
        assert line["fields"]["password"] == "***"

    def test_tlvs_have_names_and_hide_texts_too(self):
        """message_payload is a text; a tag that nobody knows may be one."""
        head = submit(short_message=b"")
        octets = head + struct.pack(">HH", 0x0424, len(TEXT)) + TEXT + struct.pack(">HH", 0x1400, len(TEXT)) + TEXT
        line = logged(struct.pack(">L", len(octets)) + octets[4:])

        assert line["tlvs"] == {
            "message_payload": {"octets": len(TEXT), "header_octets": 0, "alphabet": "gsm7"},
            "0x1400": {"octets": len(TEXT)},
        }

    def test_a_body_that_cannot_be_read_is_named(self):
        """The header is good, and tells the rest."""
        line = logged(struct.pack(">LLLL", 22, 4, 0, 9) + b"no end")

        assert (line["command"], line["sequence_number"]) == ("submit_sm", 9)
        assert line["malformed"] == "service_type has no NUL"
        assert "fields" not in line

    def test_a_command_that_is_unknown_has_a_number(self):
        """And its body a length."""
        line = logged(struct.pack(">LLLL", 20, 0x103, 0, 9) + b"body")

        assert (line["command"], line["fields"], line["octets"]) == ("0x00000103", {}, 4)

    @pytest.mark.parametrize("octets", [b"", b"\0" * 15, struct.pack(">LLLL", 99, 4, 0, 1)])
    def test_what_is_no_pdu_is_octets(self, octets):
        """It is logged all the same."""
        assert logged(octets)["octets"] == len(octets)

    @pytest.mark.parametrize(
        ("address", "shown"),
        [
            ("447700900001", "**********01"),
            ("88222", "88222"),
            ("Northside", "Northside"),
            ("", ""),
            ("1234567", "*****67"),
        ],
    )
    def test_addresses(self, address, shown):
        """A number has at least seven digits; what has fewer is nobody's."""
        assert masked(address) == shown


async def test_evidence_of_one_message():
    """When it was read, when it was answered, and the receipt that carries the same id, in that order."""
    lines = []
    async with Smsc(pdu_log=PduLog(lines.append)) as smsc, esme(smsc.port) as peer:
        number = peer.submit()
        answer = await peer.next()
        peer.acknowledge(await peer.next())
        await smsc.until(lambda: smsc.held == 0)
    told = [json.loads(line) for line in lines]
    by_name = {line["command"]: line for line in told if "command" in line}
    asked, answered, receipt = (by_name[name] for name in ("submit_sm", "submit_sm_resp", "deliver_sm"))

    assert [line["event"] for line in told if "event" in line] == ["connected", "closed"]
    assert asked["sequence_number"] == answered["sequence_number"] == number
    assert asked["monotonic_s"] <= answered["monotonic_s"] <= receipt["monotonic_s"]
    assert answered["fields"]["message_id"] == receipt["tlvs"]["receipted_message_id"] == answer.message_id
    assert receipt["tlvs"]["message_state"] == 2
    assert "stat:DELIVRD" in receipt["fields"]["short_message"]["text"]
    assert by_name["deliver_sm_resp"]["direction"] == "in"
    assert not any("447700900001" in line for line in lines)


async def test_a_message_of_a_handset_is_hidden():
    """It is a text of a person, though the simulator has made it."""
    lines = []
    async with Smsc(pdu_log=PduLog(lines.append)) as smsc, esme(smsc.port) as peer:
        smsc.send("447700900123", "88222", "I need help", system_id="clinic")
        await peer.next()

    assert not any("447700900123" in line or "I need help" in line or b"I need help".hex() in line for line in lines)


async def test_what_goes_wrong_on_purpose_is_told():
    """Otherwise the log would say that a whole answer was written, or that one is missing for no reason."""
    lines = []
    faults = (
        Fault("slow_bind", seconds=(0.01, 0.01)),
        Fault("lose_answer", count=1),
        Fault("double_answer", count=1),
        Fault("mute_enquire_link", count=1),
        Fault("garbage", octets=5),
        Fault("reset_in_pdu"),
    )
    async with Scenario(faults=faults).smsc(PduLog(lines.append)) as smsc, esme(smsc.port) as peer:
        peer.submit("447700900901", registered_delivery=0)
        peer.write("enquire_link")
        peer.submit(registered_delivery=0)
        with pytest.raises(ConnectionResetError):
            await peer.raw(1000)
        await smsc.until(lambda: not smsc.connections)
    told = [json.loads(line) for line in lines]

    assert [
        (line["event"], line.get("sequence_number"), line.get("behaviour"), line.get("faults"))
        for line in told
        if "event" in line
    ] == [
        ("connected", None, None, None),
        ("on_purpose", None, None, ["slow_bind"]),
        ("on_purpose", 3, None, ["mute_enquire_link"]),
        ("on_purpose", 2, "undeliverable", ["lose_answer", "double_answer"]),
        ("on_purpose", 4, None, ["garbage"]),
        ("on_purpose", 4, None, ["reset_in_pdu"]),
        ("reset", None, None, None),
        ("closed", None, None, None),
    ]
    assert "submit_sm_resp" not in {line.get("command") for line in told}
