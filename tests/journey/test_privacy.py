"""Canaries in every input that there is: what people, apps, carriers and the file say comes out nowhere that is watched.

Watched are the daemon's log, its pages and metrics, events, the local record, errors as apps and callers see them, and
the log of a PostgreSQL server whose settings are those that `tocsin check` asks for.
"""

from __future__ import annotations

import asyncio
import json
import struct
from typing import TYPE_CHECKING

import asyncpg
import pytest

from config.reader import ConfigError
from config.settings import load
from dispatcher import enqueue as queue
from dispatcher.check import log_leaks
from dispatcher.errors import StoreUnavailable
from dispatcher.store import QUERIES, connect
from tests.fakes.postgres import Cluster
from tests.fakes.smsc import Answer, Smsc
from tests.journey.running import LINK, Child, Relay, app_of, free_port, http_get, until, write_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.fakes.smsc import Logged
    from tests.journey.running import App

WORD = "Kanarienvogel"  # in what people, apps and carriers write
OPTION = "Stieglitz"  # an app's own names: its events may have them
ID = "Zeisig"  # in a message_id, which the local record keeps
NUMBER = "447700955512"
PASSWORD = "qZ7pegelW"  # of 9 characters
SENDER = "Zilpzalp"
SENDER_NUMBER = "447700966623"

NOWHERE = (WORD, WORD.encode().hex(), NUMBER, NUMBER[2:], PASSWORD)
NOT_WATCHED = (*NOWHERE, OPTION, ID, SENDER, SENDER_NUMBER)  # by people who operate it


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster.make(free_port())
    made.start()
    try:
        made.migrated()
        yield made
    finally:
        made.remove()


def hostile(smsc: Smsc) -> None:
    """An SMSC that puts texts into every field that it may fill."""
    smsc.system_id = WORD
    text = f"{WORD} {NUMBER}".encode()
    tlvs = b"".join(struct.pack(">HH", tag, len(text)) + text for tag in (0x001D, 0x1400, 0x0427))

    def judge(submit: Logged) -> Answer:
        body = submit.fields["short_message"]
        status = next(
            (code for word, code in ((b"refused", 0x0B), (b"later", 0x58), (b"setting", 0x0A)) if word in body), 0
        )
        if b"withheld" in body:
            return Answer(withhold=True)
        octets = f"{ID} {submit.sequence}".encode() + b"\0" + tlvs
        raw = struct.pack(">LLLL", 16 + len(octets), 0x80000004, status, submit.sequence) + octets
        asyncio.get_running_loop().call_soon(smsc.sessions[-1].send_raw, raw)
        return Answer(withhold=True)

    smsc.on_submit = judge


async def refusals(app: App) -> list[str]:
    """Malformed calls of an app, each with a canary; gives what the driver makes of them."""
    enqueue = "select tocsin.enqueue($1, $2, category => $3, sender => $4, options => $5, expires_at => $6, idempotency_key => $7)"
    good: list[object] = ["+" + NUMBER, WORD, "transactional", SENDER, "{}", None, None]
    wrong: list[tuple[int, object]] = [
        (0, f"{NUMBER}x"), (1, WORD * 500), (2, WORD), (3, WORD), (4, json.dumps({"tz": [WORD]})),
        (4, json.dumps({"cancel_group": WORD * 30})), (4, json.dumps({"priority_flag": WORD})), (6, WORD * 30),
    ]  # fmt: skip
    calls: list[tuple[str, list[object]]] = [
        (enqueue, [value if n == at else other for n, other in enumerate(good)]) for at, value in wrong
    ]
    calls += [
        ("select tocsin.suppress($1, $2)", ["+" + NUMBER, WORD]),
        ("select tocsin.suppress($1, 'OPT_OUT', $2)", [NUMBER, WORD]),
        ("select tocsin.suppress($1, 'OPT_OUT')", [f"{WORD} {NUMBER}"]),
        ("select tocsin.record_consent($1, 'marketing', now(), $2)", [NUMBER, WORD]),
        ("select tocsin.record_consent($1, $2, now(), 'paper')", [NUMBER, WORD]),
        ("insert into tocsin.suppression values ($1, 'sender', $2, 'OPT_OUT', null)", [NUMBER, WORD]),
        ("select count(*) from tocsin.enqueue_many($1)", [f'[{{"recipient": "{NUMBER}", "body": {WORD}']),
    ]
    await app.value(enqueue, *good[:6], "the key")
    calls.append((enqueue, ["+" + NUMBER, f"{WORD} anew", *good[2:6], "the key"]))
    items = [{"recipient": WORD}, {"recipient": NUMBER, "body": WORD, "not_before": WORD}]
    rows = await app.fetch("select * from tocsin.enqueue_many($1) order by item", json.dumps(items))
    assert [row["outcome"] for row in rows] == ["invalid", "invalid"]
    said = [row["reason"] for row in rows]
    for sql, arguments in calls:
        with pytest.raises(asyncpg.PostgresError) as raised:
            await app.value(sql, *arguments)
        if sql.startswith("select tocsin."):  # the others no app may ask for: they are for the server's log
            said.append(f"{raised.value} {raised.value.args}")
    return said


async def errors_of_the_client(url: str) -> list[str]:
    """What the client of Python and of the command line raises."""
    said = []
    connection = await connect(url)
    try:
        for number, body, category in (
            (NUMBER, WORD, "transactional"),
            (f"{NUMBER}x", WORD, "transactional"),
            (NUMBER, WORD, WORD),
        ):
            said.append(repr(await queue.enqueue(connection, number, body, category=category, options={"tz": [WORD]})))
        with pytest.raises(StoreUnavailable) as raised:
            await connection.execute("insert into tocsin.suppression values ($1, 'x', $2, 'y', null)", NUMBER, WORD)
        said.append(f"{raised.value} {raised.value.args} {raised.value!r} {raised.value.__cause__}")
    finally:
        await connection.close()
    return said


def deliveries(smsc: Smsc) -> int:
    """Everything that a handset or a carrier may say; gives how many deliver_sm that is."""
    texts = ("YES", "STOP", "Stop by at 5,", "wrong number", "I have chest pain", "HELP", "START", "Out of office:")
    for text in texts:
        smsc.deliver(source_addr=NUMBER, destination_addr=SENDER, short_message=f"{text} {WORD}".encode())
    smsc.deliver(source_addr=NUMBER, destination_addr=SENDER, short_message=b"STOP")
    smsc.deliver(source_addr=NUMBER, destination_addr=SENDER_NUMBER, short_message=f"{WORD} thanks you".encode())
    smsc.deliver(source_addr=NUMBER, destination_addr=SENDER, short_message=WORD.encode(), data_coding=4)
    smsc.deliver(source_addr=NUMBER, destination_addr=NUMBER, short_message=WORD.encode("utf-16-be"), data_coding=8)
    smsc.deliver(source_addr=WORD, destination_addr=NUMBER, short_message=WORD.encode())
    part = b"\x05\x00\x03\x07\x02\x01" + WORD.encode()  # the second one never comes
    smsc.deliver(source_addr=NUMBER, destination_addr=SENDER, esm_class=0x40, short_message=part)
    receipts = (
        f"id:{ID} 1 sub:001 dlvrd:000 submit date:{WORD} done date:{NUMBER} stat:UNDELIV err:{WORD} text:{WORD}",
        f"id:{WORD} sub:001 dlvrd:001 stat:DELIVRD err:000 text:{WORD}",
        f"id:{NUMBER} stat:{WORD} err:{NUMBER} text:{WORD}",
        f"{WORD}: {NUMBER} id:",
    )
    for text in receipts:
        smsc.deliver(source_addr=NUMBER, destination_addr=SENDER, esm_class=4, short_message=text.encode())
    return len(texts) + 6 + len(receipts)


def undecodable() -> bytes:
    """A deliver_sm whose lengths lie."""
    address = b"\x01\x01" + NUMBER.encode() + b"\0"
    body = b"\0" + 2 * address + bytes(9) + b"\xff" + WORD.encode()
    return struct.pack(">LLLL", 16 + len(body), 5, 0, 0x7FFF) + body


async def test_case_21_nothing_of_any_input_comes_out_where_people_watch(tmp_path, cluster):
    """Texts, options, replies, evidence, notes, whatever a carrier writes, receipts, and the file's own secrets."""
    async with Smsc() as smsc, Relay(cluster.url()) as relay, app_of(cluster.url()) as app:
        await relay.open()
        hostile(smsc)
        link = {"port": smsc.port, "password": PASSWORD, "response_timeout_s": 0.5}
        hours = {"zone": "Europe/London", "opens": "08:00", "closes": "18:00"}
        automatic = [
            ("[[auto_reply]]", {"kind": kind, "text": text})
            for kind, text in (("received", f"{WORD} thanks you"), ("closed", f"{WORD} is closed"))
        ]
        path = write_file(tmp_path, relay.url, {LINK: link}, tables=[*automatic, ("[hours]", hours)])
        senders = f'[[sender]]\naddress = "+{SENDER_NUMBER}"\ncategories = ["informational"]\n'
        path.write_text(path.read_text(encoding="utf-8").replace("Northside", SENDER) + senders, encoding="utf-8")
        async with Child(path) as child:
            await smsc.seen("bind_transceiver", timeout_s=15)
            await child.until_logged("session_bound")
            options = {"cancel_group": f"{OPTION} {WORD}", "tz": f"Europe/{WORD}"}
            jobs = [
                await app.enqueue(NUMBER, f"{WORD} {what}", client_ref=OPTION, options=options)
                for what in ("well", "refused", "later", "setting", "withheld", "long " + "x" * 300)
            ]
            await app.enqueue(NUMBER, WORD, category="informational", sender="+" + SENDER_NUMBER)
            await app.until_state(jobs[0], "submitted")
            await app.until_state(jobs[1], "failed")
            await app.until_state(jobs[3], "failed")
            await app.until_state(jobs[4], "uncertain")

            seen = len(smsc.received("deliver_sm_resp"))
            await smsc.seen("deliver_sm_resp", seen + deliveries(smsc))
            smsc.receiver().send_raw(undecodable())
            await until(lambda: app.value("select count(*) from tocsin.inbound where class = 'undecodable'"))
            await app.value(
                "select tocsin.suppress($1, 'OTHER_CHANNEL', evidence => $2)", NUMBER, json.dumps({"note": WORD})
            )
            await app.value(
                "select tocsin.record_consent($1, 'marketing', now(), 'paper', $2, 'en', $2, $2, $3)",
                NUMBER, WORD, json.dumps({"said": WORD}),
            )  # fmt: skip
            await app.value("select tocsin.revoke_consent($1, person => $2)", NUMBER, WORD)
            errors = await refusals(app) + await errors_of_the_client(cluster.url())

            port = await child.port()
            pages = [(await http_get(port, page))[1] for page in ("/metrics", "/readyz", "/healthz", "/", "/status")]
            relay.cut()
            await child.until_logged("connection_lost")
            await relay.open()
            await app.value("select tocsin.lift($1, 'OTHER_CHANNEL')", NUMBER)
            blocked = await app.enqueue(NUMBER, WORD)
            await app.until_state(blocked, "blocked")
            child.terminate()
            assert await child.wait() == 0

        events = [json.dumps(dict(row), default=str) for row in await app.fetch("select * from tocsin.event_log")]
        events += [json.dumps(dict(row), default=str) for row in await app.fetch("select * from tocsin.event")]
        evidence = [
            str(row)
            for row in await app.fetch("select e.* from unnest($1::bigint[]) j, tocsin.job_evidence(j) e", jobs)
        ]
        (logged,) = await app.fetch(QUERIES["log_settings"])
        assert list(log_leaks(logged)) == []

    record = b"".join(file.read_bytes() for file in (tmp_path / "state").rglob("*") if file.is_file())
    server = cluster.log()
    assert len(child.output.splitlines()) > 10
    assert "tocsin_jobs_total" in pages[0]
    assert "ERROR" in server
    assert len(errors) == 20
    assert {"job.failed", "job.uncertain", "suppression.added", "inbound.emergency", "inbound.loop"} <= {
        json.loads(event)["type"] for event in events
    }
    for canary in NOT_WATCHED:
        assert canary not in child.output
        assert [page for page in pages if canary in page] == []
    for canary in NOWHERE:
        assert canary.encode() not in record
        assert [event for event in events if canary in event] == []
        assert [row for row in evidence if canary in row] == []
        assert [error for error in errors if canary in error] == []
        assert canary not in server


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("password", PASSWORD * 9),
        ("password", PASSWORD + "ü"),
        ("system_type", WORD),
        ("tlv", {"0x1401": WORD}),
        ("status_overrides", {WORD: "retry"}),
        ("receipts", WORD),
    ],
)  # fmt: skip
def test_case_21_an_error_of_the_file_names_the_key_and_not_the_secret(tmp_path: Path, key: str, value: object) -> None:
    path = write_file(tmp_path, "postgresql://a@/b", {LINK: {"port": 2775, key: value}})
    with pytest.raises(ConfigError) as raised:
        load(path, {})
    assert key in str(raised.value)
    assert PASSWORD not in str(raised.value)
