"""Receipts by TLV and by text, ids in their forms, mobile-originated messages in their codings."""

import pytest

from gateway.codec import encode_tlvs
from gateway.messages import Address, DeliveryState, Inbound, Receipt
from gateway.pdu import DeliverSm, Tag
from gateway.receipt import id_forms, parse

TEXT = b"id:0123456789 sub:001 dlvrd:001 submit date:2611221200 done date:2611221201 stat:DELIVRD err:000 text:Hello"
ID = (Tag.RECEIPTED_MESSAGE_ID, b"abc-1\0")
DELIVERED = (Tag.MESSAGE_STATE, b"\2")


def deliver(octets=b"", *tlvs, **fields):
    """A deliver_sm with these octets for its short_message."""
    return DeliverSm(0, 1, sm_length=len(octets), short_message=octets, tlvs=tlvs, **fields)


def receipt(octets=b"", *tlvs, **fields):
    """What a receipt says."""
    found = parse(deliver(octets, *tlvs, **{"esm_class": 0x04} | fields))
    assert isinstance(found, Receipt)
    return found


def inbound(octets=b"", *tlvs, alphabet="gsm7", **fields):
    """What a mobile-originated message says."""
    found = parse(deliver(octets, *tlvs, **fields), alphabet=alphabet)
    assert isinstance(found, Inbound)
    return found


class TestWhatIsAReceipt:
    @pytest.mark.parametrize("esm_class", [0x04, 0x44, 0x84, 0x07])
    def test_the_message_type_is_masked_out_of_esm_class(self, esm_class):
        """UDHI, reply path and mode stand in the same octet."""
        octets = b"\x03\x7f\x01\x00" + TEXT if esm_class & 0x40 else TEXT

        found = parse(deliver(octets, esm_class=esm_class))

        assert isinstance(found, Receipt)
        assert found.message_id == "0123456789"

    @pytest.mark.parametrize("esm_class", [0x00, 0x08, 0x10, 0x18, 0x40])
    def test_other_message_types_with_a_receipt_s_text_are_messages(self, esm_class):
        """A handset can type the text of a receipt."""
        assert isinstance(parse(deliver(TEXT, esm_class=esm_class)), Inbound)

    def test_type_0_is_a_receipt_when_both_tlvs_say_so(self):
        """A handset cannot send TLVs; one alone is not enough."""
        assert isinstance(parse(deliver(b"", ID, DELIVERED)), Receipt)
        assert isinstance(parse(deliver(b"", ID)), Inbound)
        assert isinstance(parse(deliver(b"", DELIVERED)), Inbound)

    def test_text_receipts_need_an_id_and_a_stat(self):
        """With the opt-in, an ordinary reply is still an ordinary reply."""
        assert isinstance(parse(deliver(TEXT), text_receipts=True), Receipt)
        assert isinstance(parse(deliver(b"my id: 5, call me"), text_receipts=True), Inbound)
        assert isinstance(parse(deliver(b"YES"), text_receipts=True), Inbound)

    @pytest.mark.parametrize("esm_class", [0x20, 0x24, 0x60])
    def test_an_intermediate_notification_is_never_final(self, esm_class):
        """It says where the message is, not what became of it."""
        found = parse(deliver(b"", ID, DELIVERED, esm_class=esm_class))

        assert isinstance(found, Receipt)
        assert found.state is DeliveryState.ENROUTE

    @pytest.mark.parametrize(
        ("service_type", "tlvs"),
        [("USSD", ()), ("", ((Tag.USSD_SERVICE_OP, b"\2"),)), ("", ((Tag.ITS_SESSION_INFO, b"\0\0"),))],
    )
    def test_ussd_is_neither(self, service_type, tlvs):
        """Acknowledged and left alone; CMT is the ordinary service of any text message."""
        assert parse(deliver(b"*100#", *tlvs, service_type=service_type)) is None
        for other in ("CMT", "WAP", "VMN"):
            assert inbound(b"YES", service_type=other).text == "YES"


class TestReceiptFields:
    def test_tlvs_go_before_the_text(self):
        """The text is for people, and some carriers write another id into it."""
        found = receipt(TEXT.replace(b"DELIVRD", b"ENROUTE"), ID, DELIVERED)

        assert (found.message_id, found.state) == ("abc-1", DeliveryState.DELIVERED)

    def test_text_fills_in_what_the_tlvs_lack(self):
        """One TLV present, the other not."""
        assert receipt(TEXT, ID).state is DeliveryState.DELIVERED
        assert receipt(TEXT, DELIVERED).message_id == "0123456789"

    def test_addresses_and_dates_are_as_the_smsc_wrote_them(self):
        """Carriers swap the two addresses; matching is not done here."""
        found = receipt(TEXT, source_addr="491701", destination_addr="12345")

        assert found == Receipt("0123456789", DeliveryState.DELIVERED, "000", "2611221200", "491701", "12345")

    def test_a_receipt_in_message_payload_is_read(self):
        """sm_length is 0 then."""
        assert receipt(b"", (Tag.MESSAGE_PAYLOAD, TEXT)).message_id == "0123456789"

    def test_a_receipt_in_ucs2_is_read(self):
        """data_coding 8 on a receipt has been seen."""
        assert receipt(TEXT.decode().encode("utf-16-be"), data_coding=8).state is DeliveryState.DELIVERED

    @pytest.mark.parametrize("value", [b"abc-1", b"abc-1\0", b"abc-1\0\0\0", b"abc-1  \0", b" abc-1"])
    def test_an_id_is_read_with_and_without_nul_and_padding(self, value):
        """The last octet of an id must not be lost, nor padding become part of it."""
        assert receipt(b"", (Tag.RECEIPTED_MESSAGE_ID, value)).message_id == "abc-1"

    @pytest.mark.parametrize(
        ("number", "state"),
        [
            *((0, "enroute"), (1, "enroute"), (2, "delivered"), (3, "undelivered"), (4, "undelivered")),
            *(
                (5, "undelivered"),
                (6, "enroute"),
                (7, "unknown"),
                (8, "undelivered"),
                (9, "undelivered"),
                (77, "unknown"),
            ),
        ],
    )
    def test_message_state_is_read_in_one_octet_and_in_four(self, number, state):
        """Section 5.2.28; accepted is not delivered."""
        assert receipt(b"", (Tag.MESSAGE_STATE, bytes([number]))).state == state
        assert receipt(b"", (Tag.MESSAGE_STATE, number.to_bytes(4))).state == state

    def test_a_message_state_without_meaning_leaves_the_word(self):
        """An empty TLV, or a number of the vendor's own."""
        assert receipt(TEXT, (Tag.MESSAGE_STATE, b"")).state is DeliveryState.DELIVERED
        assert receipt(TEXT, (Tag.MESSAGE_STATE, b"\x4d")).state is DeliveryState.DELIVERED

    @pytest.mark.parametrize(
        ("word", "state"),
        [
            *((word, "delivered") for word in ("DELIVRD", "delivrd")),
            *(
                (word, "undelivered")
                for word in ("EXPIRED", "DELETED", "UNDELIV", "REJECTD", "FAILED", "SKIPPED", "NACK")
            ),
            *((word, "enroute") for word in ("ACCEPTD", "ENROUTE", "BUFFRED", "BUFFERD", "ACKED")),
            *((word, "unknown") for word in ("UNKNOWN", "0", "", "BADSTAT")),
        ],
    )
    def test_each_word_has_its_state(self, word, state):
        """Only a word that says delivered makes a message delivered."""
        assert receipt(f"id:1 stat:{word} err:0".encode()).state == state

    @pytest.mark.parametrize(
        "text",
        [
            b"id:7 submitdate:2611221200 donedate:2611221201 stat:UNDELIV err:1a2b",
            b"ID:7 Submit Date:2611221200 Stat:UNDELIV Err:1a2b Text:x",
            b"id: 7  submit  date: 2611221200  stat: UNDELIV  err: 1a2b",
            b"stat:UNDELIV err:1a2b submit date:261122120059 id:7",
            b"id:7,submit date:2611221200,stat:UNDELIV,err:1a2b",
            b"id:7 submit date:20261122120059 stat:UNDELIV err:1a2b\0",
            b"id:7 submit date:202611221200 stat:UNDELIV err:1a2b text:\xff\x00id:8 stat:DELIVRD",
        ],
    )
    def test_labels_may_be_joined_doubled_moved_or_missing(self, text):
        """Each of these forms is in use somewhere."""
        found = receipt(text)

        assert (found.message_id, found.state, found.error) == ("7", "undelivered", "1a2b")
        assert found.submitted_on == "2611221200"

    @pytest.mark.parametrize(
        "end", ["", " text:", " Text:Hello", " text: id:8 stat:UNDELIV err:9", "  text:x", "x text:y"]
    )
    @pytest.mark.parametrize("message_id", ["42", "a-1", "a.1", "x,stat:UNDELIV"])
    def test_the_usual_form_and_the_search_for_labels_agree(self, message_id, end):
        """The short way is only shorter: a space in front takes the long one."""
        text = (
            f"id:{message_id} sub:001 dlvrd:001 submit date:2611221200 done date:2611221201 stat:DELIVRD err:012{end}"
        )

        assert receipt(text.encode()) == receipt(b" " + text.encode())

    def test_labels_within_the_quoted_text_are_not_fields(self):
        """The quote holds the first words of a message, whatever they are."""
        found = receipt(b"id:7 text:stat is fine, stat:DELIVRD err:5")

        assert (found.state, found.error) == ("unknown", "")

    @pytest.mark.parametrize(
        "date",
        ["0000000000", "2613221200", "2611321200", "2611222500", "26112212", "19261122120059", "%s", "26112212xx"],
    )
    def test_what_is_no_date_is_left_out(self, date):
        """A wrong date would look for the message on the wrong day."""
        assert receipt(f"id:1 submit date:{date} stat:DELIVRD".encode()).submitted_on == ""

    def test_network_error_code_stands_in_for_a_missing_err(self):
        """Section 5.3.2.31: a type and sixteen bits; of another length it is nothing."""
        code = (Tag.NETWORK_ERROR_CODE, b"\3\1\2")

        assert receipt(b"id:1 stat:UNDELIV", code).error == "258"
        assert receipt(b"id:1 stat:UNDELIV err:21b", code).error == "21b"
        assert receipt(b"id:1 stat:UNDELIV err:null", code).error == "258"
        assert receipt(b"id:1 stat:UNDELIV", (Tag.NETWORK_ERROR_CODE, b"\3")).error == ""

    @pytest.mark.parametrize(
        "octets",
        [
            *(b"", b"\0", b"\xff" * 254, b"id", b"id:", b"stat:", b"text:", bytes(range(254))),
            *(b"id:\xa0", b"stat:\x1f id:\x85", b"submit date:\x0b\xa0", "id:\u2003".encode("utf-16-be")),
        ],
    )
    @pytest.mark.parametrize("esm_class", [0x04, 0x44])
    @pytest.mark.parametrize("data_coding", [0, 8])
    def test_any_octets_are_a_receipt_without_an_id(self, octets, esm_class, data_coding):
        """A receipt that says nothing is counted as unmatched, and never breaks the session."""
        assert receipt(octets, esm_class=esm_class, data_coding=data_coding).message_id == ""


class TestIdForms:
    def test_the_exact_id_comes_first_and_each_form_once(self):
        """The likeliest match is looked for first."""
        forms = id_forms("00a1B2c3")

        assert forms[0] == "00a1B2c3"
        assert len(set(forms)) == len(forms)
        assert {"a1B2c3", "00A1B2C3", "00a1b2c3", "10597059"} <= set(forms)

    def test_decimal_and_hexadecimal_stand_for_each_other(self):
        """One carrier answers 0A1B2C3D and receipts 169552957, another the other way round."""
        assert {"A1B2C3D", "a1b2c3d", "0A1B2C3D", "0a1b2c3d"} <= set(id_forms("169552957"))
        assert "169552957" in id_forms("0A1B2C3D")
        assert "0169552957" in id_forms("A1B2C3D")

    def test_a_link_s_format_narrows_the_forms(self):
        """Where a carrier's way is known, fewer ids can be taken for another."""
        assert id_forms("1234", "text") == ("1234",)
        assert "4660" in id_forms("1234", "hex")
        assert "4D2" not in id_forms("1234", "hex")
        assert "4D2" in id_forms("1234", "decimal")
        assert "4660" not in id_forms("1234", "decimal")

    @pytest.mark.parametrize(
        "message_id", ["4a38dc46-5125-4969-90be-72104c340d5c", "2E179B310EDE971B2760C72B7F026E1B", "SAR-x.1"]
    )
    def test_an_id_that_is_a_name_is_not_taken_for_a_number(self, message_id):
        """Only its case may differ."""
        assert set(id_forms(message_id)) <= {message_id, message_id.upper(), message_id.lower()}

    @pytest.mark.parametrize("message_id", ["", "0", "000", "²", "٣"])
    def test_odd_ids_have_forms_too(self, message_id):
        """No id raises, and zeros do not become nothing."""
        assert id_forms(message_id)[0] == message_id
        assert "" not in id_forms(message_id)[1:]


class TestInbound:
    def test_a_plain_message_is_whole(self):
        """Addresses with their types, the octets as they came."""
        found = inbound(
            b"YES", source_addr="491701", source_addr_ton=1, source_addr_npi=2, destination_addr="123", dest_addr_ton=3
        )

        assert (found.source, found.destination) == (Address("491701", 1, 2), Address("123", 3, 0))
        assert (found.text, found.octets, found.is_text) == ("YES", b"YES", True)
        assert (found.part, found.parts, found.reference, found.reference_bits) == (1, 1, 0, 0)

    @pytest.mark.parametrize(
        ("data_coding", "octets", "text"),
        [
            (0x00, b"\x00\x1be", "@€"),
            (0x01, b"\x40a", "@a"),
            (0x03, b"\xe9", "é"),
            (0x06, b"\xe4", "ф"),
            (0x07, b"\xf5", "ץ"),
            (0x08, "ł\U0001f600".encode("utf-16-be"), "ł\U0001f600"),
            (0x08, b"\xfe\xff\x00S", "S"),
            (0x08, b"\x00S\x00", "S\ufffd"),
            (0x10, b"\x00", "@"),
            (0x18, b"\x00S", "S"),
            (0xC8, b"\x00", "@"),
            (0xE0, b"\x00S", "S"),
            (0xF0, b"\x00", "@"),
            (0xF3, b"\x00", "@"),
        ],
    )
    def test_each_coding_is_read_by_its_alphabet(self, data_coding, octets, text):
        """SMPP's list up to 0x0F, then the groups of 3GPP TS 23.038."""
        found = inbound(octets, data_coding=data_coding)

        assert (found.text, found.is_text, found.data_coding) == (text, True, data_coding)

    @pytest.mark.parametrize("data_coding", [0x02, 0x04, 0x05, 0x0A, 0x0E, 0x14, 0x30, 0x40, 0x80, 0xBF, 0xF4, 0xF7])
    def test_what_is_not_text_is_kept_and_not_shown(self, data_coding):
        """Binary, compressed, reserved, or an alphabet that we lack: the octets are there."""
        found = inbound(b"STOP", data_coding=data_coding)

        assert (found.text, found.is_text, found.octets) == ("", False, b"STOP")

    @pytest.mark.parametrize(("alphabet", "text"), [("gsm7", "@\ufffd"), ("latin1", "\0é"), ("ascii", "\0\ufffd")])
    def test_the_default_alphabet_is_the_link_s(self, alphabet, text):
        """data_coding 0 means what the SMSC says it means."""
        assert inbound(b"\x00\xe9", alphabet=alphabet).text == text

    def test_message_payload_is_read_where_short_message_is_empty(self):
        """With both, short_message counts and the other is kept."""
        payload = (Tag.MESSAGE_PAYLOAD, b"long")

        assert inbound(b"", payload).text == "long"
        assert inbound(b"", payload).payload == b""
        both = inbound(b"short", payload)
        assert (both.text, both.payload) == ("short", b"long")

    @pytest.mark.parametrize(
        ("header", "place"),
        [
            ("050003ab0302", (0xAB, 8, 2, 3)),
            ("06080412340302", (0x1234, 16, 2, 3)),
            ("09240103080412340302", (0x1234, 16, 2, 3)),
            ("080003ab03027f0100", (0xAB, 8, 2, 3)),
        ],
    )
    def test_the_concatenation_is_found_wherever_it_stands_in_the_header(self, header, place):
        """Elements come in any order; the length octet ends the header, not the first element."""
        octets = bytes.fromhex(header)

        found = inbound(octets + b"YES", esm_class=0x40)

        assert (found.reference, found.reference_bits, found.part, found.parts) == place
        assert found.text == "YES"
        assert found.octets == octets + b"YES"

    @pytest.mark.parametrize("header", ["050003ab0300", "050003ab0304", "050003ab0000", "050003ab0101", "0400020302"])
    def test_a_concatenation_that_makes_no_sense_is_none(self, header):
        """3GPP TS 23.040: such an element is ignored."""
        found = inbound(bytes.fromhex(header) + b"YES", esm_class=0x40)

        assert (found.part, found.parts, found.text) == (1, 1, "YES")

    def test_sar_tlvs_join_parts_as_well(self):
        """Sixteen bits of reference, by section 5.3.2.22."""
        found = inbound(
            b"YES", (Tag.SAR_MSG_REF_NUM, b"\1\2"), (Tag.SAR_TOTAL_SEGMENTS, b"\3"), (Tag.SAR_SEGMENT_SEQNUM, b"\2")
        )

        assert (found.reference, found.reference_bits, found.part, found.parts) == (0x0102, 16, 2, 3)

    @pytest.mark.parametrize(
        ("header", "body", "text"),
        [
            ("03240101", b"Sa\x1bg \x1bIyi", "Sağ İyi"),
            ("03240102", b"\x1bA \x1b\x09", "Á ç"),
            ("03250101", b"\x0c\x07\x04", "ğı€"),
            ("03250103", b"\x0f\x1c\x7b", "áÂã"),
            ("06240103250103", b"\x7b\x1b\x0b", "ãÔ"),
            ("0800030702012401" + "01", b"\x1bs", "ş"),
        ],
    )
    def test_national_tables_are_read_by_their_language(self, header, body, text):
        """3GPP TS 23.038 annex A; the elements stand in any order."""
        assert inbound(bytes.fromhex(header) + body, esm_class=0x40).text == text

    @pytest.mark.parametrize("header", ["0605041581158a", "040402e2e2", "0325010d", "0324010d"])
    def test_ports_and_locking_shifts_are_not_text(self, header):
        """A port names a program; a locking shift turns our letters into others."""
        found = inbound(bytes.fromhex(header) + b"STOP", esm_class=0x40)

        assert (found.text, found.is_text) == ("", False)

    def test_a_single_shift_changes_nothing_but_what_is_escaped(self):
        """The default alphabet stays."""
        assert inbound(b"\x03\x24\x01\x01STOP", esm_class=0x40).text == "STOP"
        assert inbound(b"\x03\x24\x01\x01STOP\x1bg", esm_class=0x40).text == "STOPğ"

    @pytest.mark.parametrize("octets", [b"", b"\x05", b"\x09\x00\x03\x01\x02", b"\x03\x00\x03\x01\x02", b"\xff" * 20])
    def test_a_header_that_is_not_whole_leaves_octets_and_no_text(self, octets):
        """Where the text begins is not known then."""
        found = inbound(octets, esm_class=0x40)

        assert (found.text, found.is_text, found.octets) == ("", False, octets)


def test_any_octets_in_any_esm_class_and_coding_are_read():
    """Nothing raises: every esm_class with every data_coding, over octets that look like headers and TLVs."""
    seen = set()
    for octets in (b"", b"\x05\x00\x03\x01\x02\x01STOP\x1b", encode_tlvs([ID, DELIVERED]), bytes(range(200))):
        for esm_class in range(0, 256, 4):
            for data_coding in range(256):
                found = parse(deliver(octets, esm_class=esm_class, data_coding=data_coding), text_receipts=True)
                seen.add(type(found))

    assert seen == {Receipt, Inbound}
