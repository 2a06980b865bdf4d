"""The benchmark of the peers writes their configuration, counts what they do, and finds out what does not add up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

import pytest
import smpplib.client
import smpplib.smpp

from benchmarks import bench_peers, enqueuer, sink
from benchmarks import ledger as cell
from benchmarks.enqueuer import CALL
from benchmarks.ledger import Ledger
from benchmarks.peers import box, kannel, smpp_gateway
from benchmarks.peers.driver import Driver
from benchmarks.peers.peer import NO_PASSWORD, Stage, address_of
from benchmarks.peers.play import Reading, figures, problems
from benchmarks.peers.rows import INSERT, Writer
from benchmarks.peers.smpp_gateway import SMPP_GATEWAY, VERSION, SmppGateway
from tests.test_benchmarks import left_on, told_to_end

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from benchmarks.peers.peer import Peer

MEMORY, SPOOL, POSTGRES = kannel.CONFIGURATIONS
URL = "postgresql://postgres@/run_1?host=/run/pg&port=5433"
TINY = ("--seconds", "1", "--warm", "0.5", "--depth", "50", "--drain", "60", "--json")


def installed(peer: Peer) -> Peer:
    """The peer; where it is missing the test is skipped, and fails under CI."""
    if told := peer.missing():
        pytest.fail(told) if "CI" in os.environ else pytest.skip(told)
    return peer


def left_in(folder: Path) -> list[str]:
    """What a run has left there."""
    return [path.name for path in folder.iterdir()]


@pytest.mark.slow
class TestRuns:
    @pytest.mark.parametrize("peer", kannel.CONFIGURATIONS, ids=lambda peer: peer.name)
    def test_every_message_to_kannel_comes_to_the_sink_and_its_receipt_back(
        self, database_server, capsys, peer, tmp_path
    ):
        """Accepted, segments, receipts answered, receipts forwarded: the same number; and the spool is gone."""
        words = ["--systems", installed(peer).name, "--spool", str(tmp_path), *TINY]
        code = bench_peers.main(["--database", database_server.url, *words])

        printed = capsys.readouterr()
        assert code == 0, printed.err
        (result,) = json.loads(printed.out)["runs"]
        account = result["account"]
        assert account["accepted"] == account["segments"] == account["receipts"] == account["forwarded"] > 0
        assert result["delivered_per_s"] > 0
        assert result["cpu_s_per_1000"]["system"] > 0
        assert not left_in(tmp_path)

    def test_every_message_to_smpp_gateway_comes_to_the_sink_and_its_row_is_delivered(self, database_server, capsys):
        """Played by the Python that SMPP_GATEWAY_PYTHON names; it is in no requirements, so CI does without."""
        peer = SmppGateway(os.environ.get("SMPP_GATEWAY_PYTHON"))
        if peer.python is None or peer.missing():
            pytest.skip("SMPP_GATEWAY_PYTHON names no Python that has smpp-gateway")
        words = ["--systems", peer.name, "--smpp-gateway", peer.python, *TINY, "--depth", "200"]
        code = bench_peers.main(["--database", database_server.url, *words])

        printed = capsys.readouterr()
        assert code == 0, printed.err
        printed_json = json.loads(printed.out)
        account = printed_json["runs"][0]["account"]
        assert account["accepted"] == account["segments"] == account["receipts"] == account["forwarded"] > 0
        assert printed_json["peers"] == {peer.name: VERSION}
        assert peer.python not in printed.out

    def test_tocsin_is_played_with_texts_of_one_part(self, database_server, capsys):
        """And with the figures of the peers' names."""
        code = bench_peers.main(["--database", database_server.url, "--systems", "tocsin", *TINY])

        (result,) = json.loads(capsys.readouterr().out)["runs"]
        assert code == 0, result["account"]
        assert result["account"]["accepted"] == result["account"]["forwarded"] > 0

    def test_a_peer_that_cannot_be_played_is_one_line_and_the_others_are_played(
        self, database_server, capsys, monkeypatch
    ):
        """Exit 3 in the end, and the figures of the others are told."""

        class Broken(kannel.Kannel):
            def missing(self) -> str | None:
                return None

            async def start(self, _: Stage) -> list[str]:
                raise bench_peers.Failed("it does not listen")

        broken = Broken(MEMORY.name, spool=False, postgres=False, commits="nothing")
        monkeypatch.setattr(bench_peers, "peers_of", lambda _: {MEMORY.name: broken})
        words = ["--database", database_server.url, "--systems", MEMORY.name, "tocsin", *TINY]
        code = bench_peers.main(words)

        printed = capsys.readouterr()
        assert code == 3
        assert f"bench: {MEMORY.name}: it does not listen" in printed.err.splitlines()
        assert [result["system"] for result in json.loads(printed.out)["runs"]] == ["tocsin"]

    def test_sigterm_ends_a_run_and_all_that_it_made(self, database_server, tmp_path):
        """Exit 130, no process, no database and no spool left."""
        words = ["--database", database_server.url, "--systems", installed(SPOOL).name, "--spool", str(tmp_path)]
        code, alive, pid = told_to_end("bench_peers", words, once="benchmarks.peers.box")

        assert code == 130
        assert not alive
        assert not left_on(database_server, pid)
        assert not left_in(tmp_path)


def stage_in(folder: Path) -> Stage:
    """A stage that nobody starts on."""
    return Stage(url=URL, folder=folder, spool=folder / "spool", sink_port=4, window=100, held=[])


class TestConfiguration:
    def test_without_a_store_kannel_writes_nothing(self, tmp_path):
        """No store, receipts in memory, and the window that was asked for."""
        written = MEMORY.configuration(stage_in(tmp_path), 1, 2).splitlines()

        assert {"dlr-storage = internal", "max-pending-submits = 100", "port = 4"} <= set(written)
        assert not [line for line in written if line.startswith("store-") or "pgsql" in line]

    def test_a_spool_is_where_it_was_asked_for(self, tmp_path):
        """It goes with the run."""
        assert f'store-location = "{tmp_path}/spool"' in SPOOL.configuration(stage_in(tmp_path), 1, 2)

    @pytest.mark.parametrize("plain", kannel.CONFIGURATIONS, ids=lambda peer: peer.name)
    def test_an_eased_kannel_differs_in_load_and_disk_alone(self, tmp_path, plain):
        """Fewer messages and receipts at once, its spool in memory; written down, it is the same."""
        eased, plan = plain.eased(), bench_peers.plan_of(bench_peers.arguments_of([]))

        assert eased.configuration(stage_in(tmp_path), 1, 2) == plain.configuration(stage_in(tmp_path), 1, 2)
        assert (plain.in_memory, eased.in_memory) == (False, True)
        assert min(plain.depth, plan.depth) == plan.depth > eased.depth
        assert min(plain.owed, plan.owed) == plan.owed > eased.owed

    def test_tocsin_is_played_beside_each_peer(self):
        """A round has each system once, and ours between two others."""
        groups = bench_peers.turns(list(bench_peers.SYSTEMS))

        assert sorted(name for group in groups for name in group if name != bench_peers.OURS) == sorted(
            name for name in bench_peers.SYSTEMS if name != bench_peers.OURS
        )
        assert all(group[1] == bench_peers.OURS for group in groups)

    def test_receipts_in_postgres_name_the_database_of_the_run(self, tmp_path):
        """Over the folder of its socket too."""
        written = POSTGRES.configuration(stage_in(tmp_path), 1, 2).splitlines()

        assert "dlr-storage = pgsql" in written
        assert {'host = "/run/pg"', "port = 5433", 'database = "run_1"', 'username = "postgres"'} <= set(written)

    def test_kannel_listens_on_loopback_only(self, tmp_path):
        """Each port that it opens has its interface named."""
        written = MEMORY.configuration(stage_in(tmp_path), 1, 2)

        for port in ("admin", "smsbox"):
            assert f"{port}-interface = 127.0.0.1" in written

    @pytest.mark.parametrize(
        ("url", "wanted"),
        [
            ("postgresql://me:p%40ss@db.example:5433/x?sslmode=disable", ("db.example", "5433", "me", "p@ss", "x")),
            ("postgresql://127.0.0.1/x", ("127.0.0.1", "5432", "postgres", NO_PASSWORD, "x")),
        ],
    )
    def test_an_address_is_taken_apart(self, url, wanted):
        """With what is left out, and what is escaped."""
        parts = address_of(url)

        assert tuple(parts[name] for name in ("host", "port", "user", "password", "name")) == wanted

    def test_a_peer_that_is_not_installed_is_named_and_left_out(self, capsys, monkeypatch):
        """With the way to install it, once for all its configurations; nothing else was asked for, so exit 0."""
        monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
        monkeypatch.setattr(bench_peers.asyncio, "run", lambda work: work.close() or ([], []))
        code = bench_peers.main(["--systems", MEMORY.name, SPOOL.name, "--json"])

        printed = capsys.readouterr()
        assert code == 0
        assert printed.err.splitlines()[0] == kannel.INSTALL
        assert {MEMORY.name, SPOOL.name} <= set(json.loads(printed.out)["missing"])

    def test_a_kannel_without_postgres_says_so(self, monkeypatch):
        """Only the configuration that needs it is left out."""
        monkeypatch.setattr(shutil, "which", lambda program, **_: program)
        monkeypatch.setattr(kannel, "_version", lambda: b"Kannel bearerbox version `1.4.5'.\nUsing SQLite 3.39.4.")

        assert (SPOOL.missing(), POSTGRES.missing()) == (None, kannel.WITHOUT)

    def test_an_eased_kannel_is_not_played_on_a_disk(self, monkeypatch):
        """Its figures would say of a spool in memory what is of another."""
        monkeypatch.setattr(shutil, "which", lambda program, **_: program)
        monkeypatch.setattr(kannel.os, "access", lambda *_: False)

        assert (SPOOL.missing(), SPOOL.eased().missing()) == (None, kannel.NO_MEMORY)


class TestSmppGateway:
    @pytest.mark.parametrize(
        ("python", "told"),
        [(None, smpp_gateway.INSTALL), ("/no/python", smpp_gateway.WITHOUT), (sys.executable, smpp_gateway.WITHOUT)],
    )
    def test_one_that_is_not_installed_is_named_and_left_out(self, capsys, monkeypatch, python, told):
        """With the way to install it: without the option, without that Python, and without the package in it."""
        monkeypatch.setattr(bench_peers.asyncio, "run", lambda work: work.close() or ([], []))
        words = ["--systems", SMPP_GATEWAY, *(["--smpp-gateway", python] if python else []), "--json"]
        code = bench_peers.main(words)

        printed = capsys.readouterr()
        assert (code, printed.err.splitlines()[0]) == (0, told)
        assert json.loads(printed.out)["missing"][SMPP_GATEWAY] == told

    def test_rows_are_written_while_there_is_room_and_told_of_again_while_they_wait(self, tmp_path):
        """A hundred a transaction; its NOTIFY may be missed, so there are more of them."""
        ledger = Ledger(tmp_path / "ledger", create=True)
        driver = Driver(ledger, depth=CALL, owed=10, seed=1)
        said = Said()

        async def look() -> None:
            writer = Writer(driver, said, "sink", 7)
            await writer.look()
            await writer.look()
            writer.told_at = 0.0
            await writer.look()

        asyncio.run(look())
        ledger.close()

        assert said.statements == [INSERT, "notify sink", "notify sink"]
        assert (driver.asked, driver.accepted) == (CALL, CALL)

    def test_a_receipt_has_its_message_id_apart_where_asked(self, tmp_path):
        """smpp-gateway takes a deliver_sm without for a message; smpplib reads it as the peer will."""
        ledger = Ledger(tmp_path / "ledger", create=True)
        wire = Wire()
        session = sink.Session(sink.Sink(ledger, 0.0, (0.0, 0.0), 1, receipted_message_id=True))
        session.transport = wire
        session.due.append((b"\1\1447300000001\0", b"\5\0Northside\0", b"1234", None))
        session._pump()
        ledger.close()

        read = smpplib.smpp.parse_pdu(
            b"".join(wire.written), client=smpplib.client.SimpleSequenceGenerator(), allow_unknown_opt_params=True
        )
        assert (read.command, read.receipted_message_id) == ("deliver_sm", b"1234")
        assert b"id:1234 " in read.short_message


class Said:
    """A connection that keeps what it is told."""

    def __init__(self) -> None:
        self.statements: list[str] = []

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        yield

    async def execute(self, statement: str, *_: object) -> None:
        self.statements.append(statement)


class Wire:
    """What a connection writes, and lets be read as messages."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def is_closing(self) -> bool:
        return False

    def write(self, octets: bytes) -> None:
        self.written.append(octets)

    def messages(self) -> list[bytes]:
        """Whole ones, without their lengths."""
        octets, found = b"".join(self.written), []
        while octets:
            (length,) = box.NUMBER.unpack_from(octets)
            found.append(octets[4 : 4 + length])
            octets = octets[4 + length :]
        return found


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    """A driver with a depth of 2 messages."""
    ledger = Ledger(tmp_path / "ledger", create=True)
    yield Driver(ledger, depth=2, owed=10, seed=1)
    ledger.close()


def acked(message: bytes, nack: int) -> bytes:
    """What bearerbox answers to a message."""
    _, its, _, _ = box.read_sms(message, 0)
    return box.packet(box.ACK, box.NUMBER.pack(nack), box.NUMBER.pack(0), box.string(its))


def receipt(reference: bytes, mask: int = box.DELIVERED, kind: int = box.REPORT) -> bytes:
    """What bearerbox sends for a receipt: our own message turned round."""
    sent = box.sms(b"447300000001", b"Northside", b"id:1", b"00000000-0000-0000-0000-000000000001", reference)
    kind_and_mask = ((box.MT_PUSH, kind), (box.MASK, mask))
    at = sent.index(b"000000000001", sent.index(b"00000000-")) + 12
    octets = bytearray(sent)
    for offset, (before, after) in zip((at, at + 28), kind_and_mask, strict=True):
        assert box.NUMBER.unpack_from(octets, offset) == (before,)
        box.NUMBER.pack_into(octets, offset, after)
    return bytes(octets)


class TestBox:
    def test_a_message_is_what_smsbox_writes(self):
        """Octet for octet what Kannel 1.4.5's smsbox sent for this text, its time left out."""
        head = "00000002000000094e6f727468736964650000000c343437333030303030303030000000000000000868656c6c6f20c3a9"
        identity = "65643937326436392d313336302d346333322d623739642d646335633334323265646334"
        middle = "00000002ffffffffffffffff00000000ffffffffffffffffffffffff00000003"
        wanted = f"{head}{'ff' * 24}00000024{identity}{middle}0000000130{'ff' * 44}"
        made = box.sms(b"Northside", b"447300000000", "hello é".encode(), bytes.fromhex(identity), b"0")

        assert made[4:].hex() == wanted

    def test_messages_go_out_while_there_is_room(self, driver):
        """After the box has said what it is: as many as its window holds, and as the queue's depth lets in."""
        wire, one = Wire(), box.Box(driver, 1)
        one.connection_made(wire)
        one.send([])
        first = wire.messages()
        one.data_received(acked(first[1], 0))
        one.data_received(acked(wire.messages()[2], 0))

        assert first[0] == box.packet(box.ADMIN, box.NUMBER.pack(box.IDENTIFY), box.NONE)[4:]
        assert len(first) == 2
        assert (driver.asked, driver.accepted, driver.ledger[cell.CLIENTS], driver.room()) == (2, 2, 2, 0)
        driver.ledger[cell.SUBMITTED] = 1
        assert driver.room() == 1

    def test_a_refusal_is_no_message(self, driver):
        """Whatever the reason; a message that waits for an SMSC is one."""
        one = box.Box(driver, 2)
        wire = Wire()
        one.connection_made(wire)
        one.send([])
        driver.ending = True
        _, first, second = wire.messages()
        one.data_received(acked(first, 1) + acked(second, 3))

        assert (driver.accepted, driver.refused) == (1, 1)

    def test_receipts_count_once_each_in_whatever_pieces_they_come(self, driver):
        """Again, for nothing, and not delivered are told apart; each is answered."""
        driver.message()
        driver.message()
        driver.ending = True
        wire, one = Wire(), box.Box(driver, 1)
        one.connection_made(wire)
        octets = receipt(b"0") + receipt(b"1", mask=2) + receipt(b"0") + receipt(b"7") + receipt(b"1", kind=0)
        for at in range(0, len(octets), 100):
            one.data_received(octets[at : at + 100])

        report = driver.report()
        assert (report["forwarded"], report["undelivered"], report["doubled"], report["strange"]) == (2, 1, 1, 2)
        assert driver.ledger[cell.FORWARDED] == 2
        assert [box.NUMBER.unpack_from(message)[0] for message in wire.messages()[1:]] == [box.ACK] * 5

    def test_the_texts_are_of_one_part(self, driver):
        """To recipients of the kind that the sink counts as load."""
        _, number, _ = driver.message()

        assert number.startswith("4473")
        assert all(len(text) <= 160 for text in driver.texts)


DRIVE = {"accepted": 9, "refused": 0, "forwarded": 9, "doubled": 0, "strange": 0, "undelivered": 0, "unanswered": 0}
SEEN = {"segments": 9, "receipts": 9, "receipts_owed": 0}


class TestAccount:
    def test_nothing_is_told_when_it_adds_up(self):
        """As many of each, and the process ended in order."""
        assert problems(DRIVE, SEEN, 0, 0) == []

    @pytest.mark.parametrize(
        ("drive", "seen", "left", "code", "told"),
        [
            ({"accepted": 10}, {}, 0, 0, "10 messages accepted, 9 segments at the sink"),
            ({"forwarded": 8}, {}, 0, 0, "9 receipts answered, 8 forwarded"),
            ({"refused": 2}, {}, 0, 0, "2 messages were refused"),
            ({"doubled": 2}, {}, 0, 0, "2 receipts were forwarded again"),
            ({"unanswered": 1}, {}, 0, 0, "1 messages were never answered"),
            ({"forwarded": 8}, {"receipts": 8}, 0, 0, "9 segments at the sink, 8 receipts answered"),
            ({}, {"receipts_owed": 1}, 0, 0, "9 segments at the sink, 9 receipts answered"),
            ({}, {}, 3, 0, "3 rows of receipts are left in the database"),
            ({}, {}, 0, -9, "it ended with -9"),
        ],
    )
    def test_what_does_not_add_up_is_told(self, drive, seen, left, code, told):
        """One line each."""
        assert problems(DRIVE | drive, SEEN | seen, left, code) == [told]

    def test_a_peer_that_takes_nothing_is_a_problem(self):
        """Nothing equals nothing, and is no result."""
        nothing = dict.fromkeys(DRIVE, 0), dict.fromkeys(SEEN, 0)

        assert problems(*nothing, 0, 0) == ["no message was accepted"]

    def test_figures_are_of_the_window(self):
        """A second, and a thousand delivered; what was before it does not count."""
        begin, end = [0] * cell.SIZE, [0] * cell.SIZE
        begin[cell.DELIVERED], end[cell.DELIVERED] = 1_000, 3_000
        begin[cell.CLIENTS], end[cell.CLIENTS], end[cell.SUBMITTED] = 1_500, 5_500, 4_000
        found = figures(
            Reading(10.0, begin, 900, {"system": 1.0, "driver": 0.5}),
            Reading(12.0, end, 2_700, {"system": 3.0, "driver": 1.0}),
        )

        assert (found["delivered_per_s"], found["forwarded_per_s"], found["accepted_per_s"]) == (1_000, 900, 2_000)
        assert found["cpu_s_per_1000"]["system"] == 1.0
        assert found["driver_could_per_s"] == 8_000
        assert found["waiting"] == {"begin": 1_500, "end": 1_500}


class TestRatios:
    @staticmethod
    def result(system: str, neighbours: int, rate: float) -> dict[str, Any]:
        """What one run gives."""
        cpu = {"system": 1.0} if system == "peer" else {"system": 1.0, "postgres": 2.0}
        figures = {"delivered_per_s": rate, "forwarded_per_s": rate, "rss_mb": 50.0, "cpu_s_per_1000": cpu}
        return {"system": system, "neighbours": neighbours, "calibration": {"during": 20.0}, **figures}

    @pytest.mark.parametrize(
        ("systems", "wanted"),
        [
            (["tocsin", "a", "b", "c"], [["a", "tocsin", "b"], ["c", "tocsin"]]),
            (["a", "tocsin"], [["a", "tocsin"]]),
            (["tocsin"], [["tocsin"]]),
            (["a", "b"], [["a"], ["b"]]),
        ],
    )
    def test_each_peer_is_a_neighbour_of_tocsin(self, systems, wanted):
        """Played right before or after it, whatever is asked for."""
        assert bench_peers.turns(systems) == wanted

    def test_a_ratio_is_of_neighbours(self):
        """A machine that changes its speed between the rounds changes both alike."""
        runs = [("peer", 0, 10.0), ("tocsin", 0, 100.0), ("peer", 1, 5.0), ("tocsin", 1, 60.0)]
        peer, ours = bench_peers.medians([self.result(*run) for run in runs])

        assert (ours["ours_is"], peer["ours_is_each"], peer["ours_is"]) == (None, [10.0, 12.0], 11.0)
        assert (peer["delivered_per_s"], peer["cpu_postgres"], peer["runs"]) == (7.5, None, 2)

    def test_without_ours_there_is_no_ratio(self):
        """A peer alone can be played."""
        (peer,) = bench_peers.medians([self.result("peer", 0, 10.0)])

        assert (peer["ours_is"], peer["ours_is_each"]) == (None, [])


def test_all_systems_play_the_same_plan():
    """One part, the window that was asked for, and no single emergencies."""
    plan = bench_peers.plan_of(bench_peers.arguments_of(["--window", "10"]))

    assert (plan.window, plan.two_parts, plan.emergencies_per_s) == (10, 0.0, 0.0)
    load = enqueuer.Load(enqueuer.random.Random(7), plan.two_parts)
    assert all(len(job["body"]) <= 160 for job in json.loads(load.call(500)))


def test_a_port_is_free_when_it_is_given():
    """Kannel takes no port 0, so one is looked for."""

    async def listens() -> int:
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", kannel._free_ports(1)[0])
        server.close()
        await server.wait_closed()
        return 1

    assert asyncio.run(listens()) == 1
    assert len(set(kannel._free_ports(2))) == 2
