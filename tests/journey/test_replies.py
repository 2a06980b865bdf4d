"""MO messages over the wire: stored first, answered then."""

from __future__ import annotations

import struct

from tests.fakes.smsc import Smsc
from tests.journey.running import LINK, Relay, Running, app_of, journey, until, write_file

TEMPORARY = 0x64


async def test_a_reply_is_stored_before_it_is_answered(tmp_path, queue_url):
    """What the SMSC was told to forget, we have: here a commit that has to wait keeps the answer back."""
    async with journey(tmp_path, queue_url) as world, app_of(queue_url) as other:
        transaction = other.connection.transaction()
        await transaction.start()
        await other.connection.execute("lock table tocsin.inbound in access exclusive mode")
        world.smsc.deliver(source_addr="447700900123", short_message=b"YES, coming")

        async def waits() -> bool:
            return bool(
                await other.value(
                    "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
                )
            )

        await until(waits)
        assert world.smsc.received("deliver_sm_resp") == []
        await transaction.commit()

        (answer,) = await world.smsc.seen("deliver_sm_resp")
        assert answer.status == 0
        (row,) = await world.app.fetch("select * from tocsin.inbox")
        assert (row["source"], row["text"], row["class"], row["link"]) == ("447700900123", "YES, coming", "text", LINK)
        assert await world.app.value("select type from tocsin.event_log") == "inbound.received"


async def test_without_its_database_the_daemon_tells_the_smsc_to_keep_the_reply(tmp_path, queue_url):
    """0x64; what it sends again afterwards is stored once, and the daemon goes on as before."""
    async with Smsc() as smsc, Relay(queue_url) as relay, app_of(queue_url) as app:
        await relay.open()
        async with Running(write_file(tmp_path, relay.url, {LINK: {"port": smsc.port}})) as daemon:
            await daemon.until_bound()
            relay.cut()
            smsc.deliver(source_addr="447700900123", short_message=b"YES")
            (refused,) = await smsc.seen("deliver_sm_resp")
            assert refused.status == TEMPORARY

            await relay.open()
            sends = 1

            async def stored() -> bool:
                nonlocal sends
                if smsc.received("deliver_sm_resp")[-1].status != 0 and len(smsc.received("deliver_sm_resp")) == sends:
                    smsc.deliver(source_addr="447700900123", short_message=b"YES")
                    sends += 1
                return bool(await app.value("select count(*) from tocsin.inbound"))

            await until(stored)
            await smsc.until(lambda: smsc.received("deliver_sm_resp")[-1].status == 0)
            assert await app.value("select count(*) from tocsin.inbound") == 1
            number = await app.enqueue()
            await app.until_state(number, "submitted")
            await daemon.stop()


async def test_a_reply_that_still_waits_in_the_server_is_not_stored_beside_its_repetition(tmp_path, queue_url):
    """Its session does not notice that the daemon is gone: once its lock is free it would store what was given up."""
    async with Smsc() as smsc, Relay(queue_url) as relay, app_of(queue_url) as app, app_of(queue_url) as other:

        async def waiting() -> set[int]:
            where = "wait_event_type = 'Lock' and query ~ 'Keeps MO messages'"  # a long query is cut before the table
            return {row["pid"] for row in await app.fetch(f"select pid from pg_stat_activity where {where}")}

        async def waits() -> bool:
            return bool(await waiting() - given_up)

        given_up: set[int] = set()
        await relay.open()
        async with Running(write_file(tmp_path, relay.url, {LINK: {"port": smsc.port}})) as daemon:
            await daemon.until_bound()
            smsc.deliver(source_addr="447700900123", short_message=b"its statement is prepared")
            await smsc.seen("deliver_sm_resp")
            async with other.connection.transaction():
                await other.connection.execute("lock table tocsin.inbound in exclusive mode")
                smsc.deliver(source_addr="447700900123", short_message=b"YES")
                await until(waits)
                relay.cut()
                await smsc.until(lambda: [one.status for one in smsc.received("deliver_sm_resp")] == [0, TEMPORARY])
                given_up = await waiting()
                assert len(given_up) == 1
                await relay.open()
                await daemon.until_bound()
                smsc.deliver(source_addr="447700900123", short_message=b"YES")
                await until(waits)
            await smsc.until(lambda: smsc.received("deliver_sm_resp")[-1].status == 0)

            assert [row["text"] for row in await app.fetch("select text from tocsin.inbox")].count("YES") == 1
            await daemon.stop()


async def test_two_honest_replies_of_the_same_words_both_survive(tmp_path, queue_url):
    """A patient may answer two reminders within a minute."""
    async with journey(tmp_path, queue_url) as world:
        for _ in range(2):
            world.smsc.deliver(source_addr="447700900123", short_message=b"YES")
        await world.smsc.seen("deliver_sm_resp", 2)

        assert await world.app.value("select count(*) from tocsin.inbox") == 2


async def test_a_reply_in_any_alphabet_is_read(tmp_path, queue_url):
    """What the handset wrote."""
    async with journey(tmp_path, queue_url) as world:
        world.smsc.deliver(short_message="Привет 🙂".encode("utf-16-be"), data_coding=8)
        world.smsc.deliver(short_message=b"5 \x1be", data_coding=0)
        world.smsc.deliver(short_message=b"\x00\x01\x02", data_coding=4)
        await world.smsc.seen("deliver_sm_resp", 3)

        rows = await world.app.fetch("select text, class from tocsin.inbox order by inbound_id")
        assert [(row["text"], row["class"]) for row in rows] == [("Привет 🙂", "text"), ("5 €", "text"), ("", "binary")]


async def test_an_equal_reply_after_an_orderly_change_of_owner_is_a_new_one(tmp_path, queue_url):
    """The one that ended answered what it stored: two honest "YES" survive."""
    async with Smsc() as smsc, app_of(queue_url) as app:
        for n, name in enumerate(("a", "b"), 1):
            path = write_file(tmp_path / name, queue_url, {LINK: {"port": smsc.port}}, daemon={"instance": name})
            async with Running(path) as daemon:
                await daemon.until_bound()
                smsc.deliver(source_addr="447700900123", short_message=b"YES")
                answers = await smsc.seen("deliver_sm_resp", n)
                assert answers[-1].status == 0
                await daemon.stop()
        assert await app.value("select count(*)::int from tocsin.inbox") == 2


async def test_a_long_reply_comes_whole_over_the_wire_whatever_the_order_of_its_parts(tmp_path, queue_url):
    """Two people use one reference at the same time; one counts in a header of 16 bits, one by TLVs, one in UCS-2."""
    dose = "Take two tablets, not three."
    async with journey(tmp_path, queue_url) as world:

        def send(source: str, number: int, of: int, body: bytes, **more: object) -> None:
            header = bytes((5, 0, 3, 7, of, number))
            fields = {"esm_class": 0x40, "short_message": header + body} | more
            world.smsc.deliver(source_addr=source, **fields)

        send("447700900001", 2, 2, dose[17:].encode())
        send("447700900002", 1, 2, b"I have ")
        send("447700900001", 1, 2, dose[:17].encode())
        send("447700900003", 2, 2, b"", short_message=bytes((6, 8, 4, 1, 7, 2, 2)) + b"lies")
        send("447700900002", 2, 2, b"a question")
        send("447700900003", 1, 2, b"", short_message=bytes((6, 8, 4, 1, 7, 2, 1)) + b"Al")
        smile = "Thanks 😀".encode("utf-16-be")
        for number, body in ((2, smile[16:]), (1, smile[:16])):
            send("447700900004", number, 2, body, data_coding=8)
        for number, body in ((2, b" tlv"), (1, b"By")):
            sar = {"sar_msg_ref_num": 7, "sar_total_segments": 2, "sar_segment_seqnum": number}
            send("447700900005", number, 2, b"", esm_class=0, short_message=body, **sar)
        answers = await world.smsc.seen("deliver_sm_resp", 10)

        assert {answer.status for answer in answers} == {0}
        rows = await world.app.fetch("select source, text, parts, missing from tocsin.inbox order by source")
        assert [(row["source"][-1], row["text"]) for row in rows] == [
            ("1", dose),
            ("2", "I have a question"),
            ("3", "Allies"),
            ("4", "Thanks 😀"),
            ("5", "By tlv"),
        ]
        assert {(row["parts"], row["missing"]) for row in rows} == {(2, 0)}


async def test_the_largest_payload_that_a_tlv_can_hold_is_stored_whole_under_a_sequence_number_of_32_bits(
    tmp_path, queue_url
):
    """A PDU of 64 KiB and more, and a number beyond SMPP's last one: answered with that number, and not a letter is lost."""
    text = b"".join(b"%07d " % place for place in range(8192))[:65_535]
    body = (
        b"\0\1\1" + b"447700900123\0" + b"\0\0" + b"88222\0" + bytes(10) + struct.pack(">HH", 0x0424, len(text)) + text
    )
    async with journey(tmp_path, queue_url) as world:
        world.smsc.receiver().send_raw(struct.pack(">LLLL", 16 + len(body), 0x05, 0, 0xFFFF_FFFF) + body)

        (answer,) = await world.smsc.seen("deliver_sm_resp")
        assert (answer.status, answer.sequence) == (0, 0xFFFF_FFFF)
        (row,) = await world.app.fetch("select * from tocsin.inbox")
        assert row["text"] == text.decode()
