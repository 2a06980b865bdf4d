"""A text, a full number or a password is in no log line, metric, event or page, whatever happens."""

from __future__ import annotations

import json

from tests.fakes.smsc import Answer, Smsc
from tests.journey.running import LINK, Child, Relay, app_of, http_get, until, write_file

WORD = "Kanarienvogel"
NUMBER = "447700955512"
PASSWORD = "qZ7pegelW"
CANARIES = (WORD, WORD.encode().hex(), NUMBER, NUMBER[2:], PASSWORD)


async def test_nothing_that_a_patient_wrote_or_was_written_leaves_the_queue(tmp_path, queue_url):
    """Delivered, failed, deferred, in doubt; replies, garbage, receipts of strangers; the database lost and found."""
    async with Smsc() as smsc, Relay(queue_url) as relay, app_of(queue_url) as app:
        await relay.open()
        smsc.receipt_delay_s = 0.0
        statuses = {"failed": 0x0B, "deferred": 0x64, "misconfigured": 0x0A}
        smsc.on_submit = lambda submit: Answer(
            status=next((code for word, code in statuses.items() if word in str(submit.fields["short_message"])), 0),
            withhold=b"doubt" in submit.fields["short_message"],
        )
        link = {"port": smsc.port, "password": PASSWORD, "response_timeout_s": 0.3}
        async with Child(write_file(tmp_path, relay.url, {LINK: link})) as child:
            await smsc.seen("bind_transceiver", timeout_s=15)
            assert smsc.received("bind_transceiver")[0].fields["password"] == PASSWORD
            ids = {
                word: await app.enqueue(NUMBER, f"{WORD} {word}", client_ref=word)
                for word in ("delivered", "failed", "deferred", "misconfigured", "doubt")
            }
            for word, number in ids.items():
                state = {"doubt": "uncertain", "misconfigured": "failed"}.get(word, word)
                await app.until_state(number, state)

            answers = len(smsc.received("deliver_sm_resp"))
            smsc.deliver(source_addr=NUMBER, short_message=f"{WORD} YES".encode())
            smsc.deliver(source_addr=NUMBER, short_message=WORD.encode(), data_coding=4)
            smsc.deliver(
                source_addr=NUMBER,
                destination_addr=NUMBER,
                esm_class=4,
                short_message=f"id:{WORD} stat:DELIVRD text:{WORD}".encode(),
            )
            await smsc.seen("deliver_sm_resp", answers + 3)
            body = (
                b"\x00\x01\x01"
                + NUMBER.encode()
                + b"\x00\x01\x01"
                + NUMBER.encode()
                + b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff"
                + WORD.encode()
            )
            smsc.receiver().send_raw(
                (16 + len(body)).to_bytes(4, "big") + b"\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x7f\xff" + body
            )
            await until(lambda: app.value("select count(*) from tocsin.inbound where class = 'undecodable'"))

            port = await child.port()
            pages = [(await http_get(port, path))[1] for path in ("/metrics", "/readyz", "/healthz", "/")]
            relay.cut()
            await child.until_logged("connection_lost")
            await relay.open()
            number = await app.enqueue(NUMBER, f"{WORD} delivered")
            await app.until_state(number, "submitted", "delivered")
            pages += [(await http_get(port, path))[1] for path in ("/metrics", "/readyz", "/")]
            child.terminate()
            assert await child.wait() == 0

        events = [json.dumps(dict(row), default=str) for row in await app.fetch("select * from tocsin.event_log")]
        events += [json.dumps(dict(row), default=str) for row in await app.fetch("select * from tocsin.event")]
        assert len(events) > 5
        assert len(child.output.splitlines()) > 10
        record = b"".join(path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file())
        for canary in CANARIES:
            assert canary not in child.output
            assert all(canary not in page for page in pages)
            assert all(canary not in event for event in events)
            assert canary.encode() not in record
        assert "tocsin_jobs_total" in pages[0]
