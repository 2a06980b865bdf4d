"""The local record: everything noted before a kill is read after it, and nothing else ever is."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher import record as subject
from dispatcher.record import Answer, Fault, Record, Replay

ROOT = Path(__file__).parents[2]
NOW = 5_000.0
E = 1_760_000_000_000_000  # an enqueued_us
FIRST = "0000000001.record"


@pytest.fixture(autouse=True)
def boot(tmp_path_factory, monkeypatch) -> Path:
    """A boot id that a test may change."""
    path = tmp_path_factory.mktemp("boot") / "boot_id"
    path.write_text("5f0c7ed5-83c8-4e1c-8f3c-0f6a7a1d2b3c\n")
    monkeypatch.setattr(subject, "BOOT_ID", path)
    return path


def opened(directory: Path, now: float = NOW, *, recovered: bool = True, **limits: float) -> Record:
    record = Record.open(directory, now=now, **limits)
    if recovered:
        record.recovered(now)
    return record


def replay(directory: Path, now: float = NOW) -> Replay:
    """What the next process would read; leaves the directory as it is."""
    return subject._Reader(subject._boot_id(), now).read(subject._files(directory))


def told(replay: Replay, *, settled: bool = False) -> dict[tuple[int, int], dict[int, Answer | None]]:
    keys = set(replay.jobs) | ({subject._job(key) for key in replay._settled} if settled else set())
    return {key: replay.parts(*key, settled=settled) for key in keys}


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@contextlib.contextmanager
def disk_of(octets: int):
    """No file can grow beyond this: the kernel takes what fits, then refuses."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# What a process noted is what the next one reads.


def test_an_unwritten_a_written_and_an_answered_job_are_told_apart(tmp_path):
    """Only the second is in doubt after a kill."""
    record = opened(tmp_path)
    record.written("main", NOW, [(2, E, 1), (3, E, 1), (3, E, 2)])
    record.answered("main", NOW, [(3, E, 1, 0, "a1"), (3, E, 2, 0x58, "")])
    record.close()
    after = Record.open(tmp_path, now=NOW).replay
    assert after.intact
    assert not after.faults
    assert after.parts(1, E) == {}
    assert after.parts(2, E) == {1: None}
    assert after.parts(3, E) == {1: Answer(0, "a1"), 2: Answer(0x58, "")}
    assert set(after.jobs) == {(2, E), (3, E)}


def test_a_job_is_its_id_and_its_instant(tmp_path):
    """A sequence that was rolled back gives an old id to another job."""
    record = opened(tmp_path)
    record.answered("main", NOW, [(7, E, 1, 0, "mine")])
    assert replay(tmp_path).parts(7, E + 1) == {}


def test_a_part_written_again_is_unanswered_until_it_is_answered_again(tmp_path):
    """An answer to the first writing says nothing about the second."""
    record = opened(tmp_path)
    record.written("main", NOW, [(1, E, 1)])
    record.answered("main", NOW, [(1, E, 1, 0x14, "")])
    record.written("main", NOW, [(1, E, 1)])
    assert replay(tmp_path).parts(1, E) == {1: None}
    record.answered("main", NOW, [(1, E, 1, 0x64, "")])
    assert replay(tmp_path).parts(1, E) == {1: Answer(0x64, "")}


def test_an_accepted_part_stays_accepted(tmp_path):
    """The SMSC has it: no later writing or refusal takes that back."""
    record = opened(tmp_path)
    record.answered("main", NOW, [(1, E, 1, 0, "first")])
    record.written("main", NOW, [(1, E, 1)])
    record.answered("main", NOW, [(1, E, 1, 0x45, "")])
    record.answered("main", NOW, [(1, E, 1, 0, "second")])
    assert replay(tmp_path).parts(1, E) == {1: Answer(0, "first")}


def test_a_settle_ends_an_attempt(tmp_path):
    """A job that was put back and claimed again is not in doubt, nor refused, because of its last attempt."""
    record = opened(tmp_path)
    record.written("main", NOW, [(1, E, 1), (2, E, 1)])
    record.answered("main", NOW, [(1, E, 1, 0x45, "")])
    record.settled([(1, E), (3, E)], NOW)
    after = replay(tmp_path)
    assert told(after) == {(2, E): {1: None}}
    record.written("main", NOW, [(1, E, 1)])
    assert replay(tmp_path).parts(1, E) == {1: None}


def test_settled_attempts_are_told_on_request(tmp_path):
    """A database that failed over may have lost the settle."""
    record = opened(tmp_path)
    record.answered("main", NOW, [(1, E, 1, 0, "a"), (1, E, 2, 0x14, "")])
    record.settled([(1, E)], NOW)
    record.written("main", NOW, [(1, E, 2)])
    record.settled([(1, E)], NOW)
    record.answered("main", NOW, [(1, E, 2, 0, "late")])
    after = replay(tmp_path)
    assert after.parts(1, E) == {2: Answer(0, "late")}
    assert after.parts(1, E, settled=True) == {1: Answer(0, "a"), 2: Answer(0, "late")}


def test_acknowledged_messages_are_remembered(tmp_path):
    """A second YES is a duplicate only where the first was never acknowledged."""
    record = opened(tmp_path)
    record.acknowledged([], NOW)
    record.acknowledged([5, 6], NOW)
    record.acknowledged([2**63 - 1])
    assert replay(tmp_path).acknowledged == {5, 6, 2**63 - 1}


def test_instants_of_a_link_rebuild_its_throttle(tmp_path):
    """Segments count, one instant each; another link's do not."""
    record = opened(tmp_path)
    record.written("main", NOW + 1, [(1, E, 1)])
    record.written("other", NOW + 2, [(2, E, 1)])
    record.written("main", NOW + 3, [(1, E, 2), (3, E, 1)])
    record.written("main", NOW + 2, [(4, E, 1)])
    record.answered("main", NOW + 4, [(1, E, 1, 0, "a")])
    after = replay(tmp_path)
    assert after.sent_at("main", NOW) == [NOW + 1, NOW + 2, NOW + 3, NOW + 3]
    assert after.sent_at("main", NOW + 3) == [NOW + 3, NOW + 3]
    assert after.sent_at("unknown", 0.0) == []


def test_a_forgotten_replay_still_knows_its_instants(tmp_path):
    """The memory goes once the database knows; the throttle may be built later."""
    record = opened(tmp_path)
    record.written("main", NOW, [(1, E, 1)])
    record.acknowledged([1], NOW)
    after = replay(tmp_path)
    after.forget_jobs()
    assert (told(after, settled=True), after.acknowledged) == ({}, set())
    assert after.sent_at("main", 0.0) == [NOW]


def test_the_process_itself_can_read_its_record_again(tmp_path):
    """After a failover of the database nothing may be claimed before that."""
    record = Record.open(tmp_path, now=NOW)
    record.written("main", NOW, [(1, E, 1)])
    assert told(record.told(NOW)) == {}, "first what earlier processes left"
    record.recovered(NOW)
    assert told(record.told(NOW)) == {(1, E): {1: None}}


def test_any_message_id_that_fits_a_pdu_is_kept(tmp_path):
    """An SMSC's odd id must not stop the daemon; no part is cut off."""
    record = opened(tmp_path)
    odd = "".join(map(chr, range(256))) * 270
    record.answered("main", NOW, [(1, E, 255, 2**32 - 1, odd), (1, E, 1, 0, "")])
    assert replay(tmp_path).parts(1, E) == {255: Answer(2**32 - 1, odd), 1: Answer(0, "")}


def test_an_empty_batch_leaves_no_trace(tmp_path):
    """The caller need not look."""
    record = opened(tmp_path)
    before = record.octets
    record.written("main", NOW, [])
    record.answered("main", NOW, [])
    record.acknowledged([], NOW)
    record.settled([], NOW)
    assert record.octets == before == sum(path.stat().st_size for path in tmp_path.iterdir())


jobs = st.tuples(st.sampled_from([1, 2, -1, 2**63 - 1, -(2**63)]), st.sampled_from([0, E, -1, 2**63 - 1, -(2**63)]))
part = st.integers(1, 3)
answer = st.tuples(st.sampled_from([0, 0, 0x58, 2**32 - 1]), st.text(st.characters(max_codepoint=255), max_size=6))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("written"), st.sampled_from("ab"), st.lists(st.tuples(jobs, part), max_size=4)),
        st.tuples(st.just("answered"), st.sampled_from("ab"), st.lists(st.tuples(jobs, part, answer), max_size=4)),
        st.tuples(st.just("settled"), st.just(""), st.lists(jobs, max_size=2)),
        st.tuples(st.just("acknowledged"), st.just(""), st.lists(st.integers(0, 9), max_size=3)),
        st.tuples(st.just("restarted"), st.just(""), st.just([])),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(steps=steps, segment_octets=st.sampled_from([1, 200, 10_000]))
def test_a_replay_is_the_fold_of_what_was_noted(steps, segment_octets):
    """Over any number of files, restarts, batches and attempts."""
    current: dict = {}
    earlier: dict = {}
    sent: dict[str, list[float]] = {"a": [], "b": []}
    acknowledged: set[int] = set()

    def lay(over, job, number, result):
        parts = over.setdefault(job, {})
        if parts.get(number) is None or parts[number].command_status != 0:
            parts[number] = result

    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        record = opened(directory, segment_octets=segment_octets)
        for index, (what, link, entries) in enumerate(steps):
            at = NOW + index
            if what == "written":
                record.written(link, at, [(*job, number) for job, number in entries])
                sent[link] += [at] * len(entries)
                for job, number in entries:
                    lay(current, job, number, None)
            elif what == "answered":
                record.answered(link, at, [(*job, number, *result) for job, number, result in entries])
                for job, number, result in entries:
                    lay(current, job, number, Answer(*result))
            elif what == "settled":
                record.settled(entries, at)
                for job in entries:
                    for number, result in current.pop(job, {}).items():
                        lay(earlier, job, number, result)
            elif what == "acknowledged":
                record.acknowledged(entries, at)
                acknowledged |= set(entries)
            else:
                record.close()
                record = opened(directory, at, recovered=False, segment_octets=segment_octets)
                assert record.replay.intact
        record.close()
        after = replay(directory, NOW + len(steps))
    assert after.intact
    assert not after.faults
    assert told(after) == current
    for job, parts in current.items():
        for number, result in parts.items():
            lay(earlier, job, number, result)
    assert told(after, settled=True) == earlier
    assert after.acknowledged == acknowledged
    assert {link: after.sent_at(link, 0.0) for link in sent} == sent


# Kill -9.

WRITER = """
import sys, time
from pathlib import Path
from dispatcher.record import Record
record = Record.open(Path(sys.argv[1]), segment_octets=200_000)
record.recovered(time.monotonic())
for batch in range(10**9):
    job = batch * 1000
    record.written("main", time.monotonic(), [(job + n, 7, 1) for n in range(1000)])
    record.answered("main", time.monotonic(), [(job + n, 7, 1, 0, f"id{job + n}") for n in range(500)])
    record.acknowledged([batch])
    print(batch, flush=True)
"""


@pytest.mark.parametrize("reports", [1, 7, 40])
def test_a_killed_process_left_all_that_it_reported(tmp_path, monkeypatch, reports):
    """The octets are the kernel's once write returned; what was being written at the kill was not acted on."""
    monkeypatch.undo()  # the child's boot is this one
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as writer:
        for _ in range(reports):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        rest = [line for line in writer.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    reported = reports + len(rest)
    record = Record.open(tmp_path)
    after = record.replay
    assert after.intact
    assert not after.faults
    for job in range(reported * 1000):
        assert after.parts(job, 7) == {1: Answer(0, f"id{job}") if job % 1000 < 500 else None}
    assert len(list(after.jobs)) in {reported * 1000, reported * 1000 + 1000}
    assert after.acknowledged >= set(range(reported))
    record.close()
    again = Record.open(tmp_path)
    assert again.replay.intact  # the torn end is gone, and was not held against the file behind it
    assert list(again.replay.jobs) == list(after.jobs)
    again.close()


# Cut and damaged files.


def small_record(directory: Path) -> list[tuple[int, dict, set[int]]]:
    """A record in one file; after each call, the file's size and what a replay tells."""
    record = opened(directory, recovered=False)
    history = [(record.octets, {}, set())]

    def note(call, *arguments):
        call(*arguments)
        after = replay(directory)
        history.append((record.octets, told(after, settled=True), after.acknowledged))

    note(record.recovered, NOW)
    note(record.written, "main", NOW, [(1, E, 1), (2, E, 1)])
    note(record.answered, "main", NOW, [(1, E, 1, 0, "message-1")])
    note(record.acknowledged, [77], NOW)
    note(record.written, "second link", NOW, [(3, E, 1), (3, E, 2)])
    note(record.answered, "second link", NOW, [(3, E, 1, 0x45, ""), (3, E, 2, 0, "é")])
    note(record.settled, [(1, E)], NOW)
    record.close()
    return history


def test_a_file_cut_at_any_octet_tells_what_was_whole(tmp_path):
    """Each call is there or not; a cut end is no fault, for the call that it belongs to never returned."""
    history = small_record(tmp_path)
    octets = (tmp_path / FIRST).read_bytes()
    for cut in range(len(octets)):
        (tmp_path / FIRST).write_bytes(octets[:cut])
        after = replay(tmp_path)
        whole = [entry for entry in history if entry[0] <= cut]
        assert (told(after, settled=True), after.acknowledged) == (whole[-1][1:] if whole else ({}, set())), cut
        assert after.intact == (len(whole) >= 2), cut  # from the header and `recovered` on
        assert [fault.offset for fault in after.faults] == ([] if whole else [0])


def test_opening_cuts_a_torn_end_off(tmp_path):
    """Else the next file would stand behind a torn one, and the record would not be intact at the next start."""
    history = small_record(tmp_path)
    whole = history[-2][0]
    os.truncate(tmp_path / FIRST, whole + 5)
    opened(tmp_path, recovered=False).close()
    assert (tmp_path / FIRST).stat().st_size == whole
    assert opened(tmp_path, recovered=False).replay.intact


def test_an_older_file_with_a_torn_end_is_a_fault(tmp_path):
    """A process that lived on cannot have left it; entries may be missing."""
    small_record(tmp_path)
    size = (tmp_path / FIRST).stat().st_size
    opened(tmp_path, recovered=False).close()
    os.truncate(tmp_path / FIRST, size - 1)
    after = replay(tmp_path)
    assert not after.intact
    assert [(fault.file, fault.problem) for fault in after.faults] == [(FIRST, "cut off within a batch")]
    assert after.parts(2, E) == {1: None}


def test_no_damaged_octet_goes_unnoticed_or_invents_an_answer(tmp_path):
    """Each octet in turn, with a random other value: never intact, and only true things are told."""
    history = small_record(tmp_path)
    states = [entry[1:] for entry in history]
    octets = (tmp_path / FIRST).read_bytes()
    dice = random.Random(7)
    for place in range(len(octets)):
        damaged = bytearray(octets)
        damaged[place] ^= dice.randrange(1, 256)
        (tmp_path / FIRST).write_bytes(damaged)
        after = replay(tmp_path)
        assert not after.intact, place
        [fault] = after.faults
        assert fault.file == FIRST
        assert fault.offset <= place
        assert (told(after, settled=True), after.acknowledged) in states


@settings(max_examples=200, deadline=None)
@given(garbage=st.binary(max_size=300), behind=st.booleans())
def test_garbage_tells_nothing(garbage, behind):
    """As a file of its own, or behind good entries."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        [*_, (_, known, acknowledged)] = small_record(directory)
        path = directory / (FIRST if behind else "0000000002.record")
        with path.open("ab") as file:
            file.write(garbage)
        record = Record.open(directory, now=NOW)
        record.close()
        after = record.replay
        assert (told(after, settled=True), after.acknowledged) == (known, acknowledged)
        assert after.intact == (behind and not after.faults)
        assert after.intact or after.faults[0].file == path.name


def framed(body: bytes) -> bytes:
    return struct.pack("<III", len(body), len(body) ^ 0xFFFFFFFF, crc32(body)) + body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0" * 15,
        struct.pack("<BHdI", 99, 0, NOW, 0),
        struct.pack("<BHdI", 2, 0, NOW, 2**32 - 1),
        struct.pack("<BHdI", 2, 0, NOW, 0),
        struct.pack("<BHdIqqB", 2, 9, NOW, 1, 1, E, 1),
        struct.pack("<BHdI", 3, 0, NOW, 0),
        struct.pack("<BHdIqqBII", 3, 0, NOW, 1, 1, E, 1, 0, 5) + b"four",
        struct.pack("<BHdIqqBII", 3, 0, NOW, 1, 1, E, 1, 0, 5) + b"sixsix",
        struct.pack("<BHdIq", 4, 0, NOW, 1, 1),
        struct.pack("<BHdIq", 5, 0, NOW, 2**32 - 1, 1),
        struct.pack("<BHdI", 1, 0, NOW, 1) + b"\xff",
    ],
)
def test_a_batch_of_another_form_is_a_fault(tmp_path, body):
    """Whatever a later version writes under this version's number, nothing is guessed."""
    [*_, (size, known, _)] = small_record(tmp_path)
    with (tmp_path / FIRST).open("ab") as file:
        file.write(framed(body))
    after = replay(tmp_path)
    assert not after.intact
    assert [(fault.file, fault.offset) for fault in after.faults] == [(FIRST, size)]
    assert told(after, settled=True) == known


def test_zeros_behind_the_entries_are_a_fault(tmp_path):
    """That is what a file system leaves of unwritten octets."""
    small_record(tmp_path)
    with (tmp_path / FIRST).open("ab") as file:
        file.write(bytes(4096))
    assert not replay(tmp_path).intact


def test_another_format_version_is_not_read(tmp_path):
    """A version from before a downgrade is missing entries, not garbage."""
    small_record(tmp_path)
    octets = bytearray((tmp_path / FIRST).read_bytes())
    octets[8] = 2
    (tmp_path / FIRST).write_bytes(octets)
    after = replay(tmp_path)
    assert (after.intact, told(after), after.faults) == (False, {}, (Fault(FIRST, 0, "format version 2"),))


def test_what_cannot_be_read_is_a_fault(tmp_path):
    """A start must not fail for it."""
    small_record(tmp_path)
    (tmp_path / "0000000002.record").mkdir()
    after = replay(tmp_path)
    assert not after.intact
    assert after.faults == (Fault("0000000002.record", 0, "cannot be read: Is a directory"),)


def test_other_files_are_left_alone(tmp_path):
    """Only the record's own unfinished files are swept."""
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "0000000009.new").write_text("half a header")
    opened(tmp_path).close()
    assert names(tmp_path) == [FIRST, "notes.txt"]


# What makes a record intact.


def test_a_first_start_is_not_intact_until_it_was_recovered(tmp_path):
    """A missing record is a lost host; a kill before the doubts were settled must not hide that."""
    for _ in range(2):
        record = opened(tmp_path, recovered=False)
        assert not record.replay.intact
        record.written("main", NOW, [(1, E, 1)])
        record.close()
    record = opened(tmp_path, recovered=False)
    record.recovered(NOW)
    record.close()
    assert opened(tmp_path, recovered=False).replay.intact


def test_trust_survives_rotation(tmp_path):
    """The file in which it was noted may be long gone."""
    record = opened(tmp_path, segment_octets=1, keep_s=10.0)
    record.written("main", NOW, [(1, E, 1)])
    record.settled([(1, E)], NOW)
    record.written("main", NOW + 100, [(2, E, 1)])
    record.settled([], NOW + 100)
    assert FIRST not in names(tmp_path)
    assert replay(tmp_path, NOW + 100).intact


def test_a_fault_is_forgotten_once_it_was_dealt_with(tmp_path):
    """Else one bad octet would put ten minutes of restarts in doubt."""
    small_record(tmp_path)
    octets = bytearray((tmp_path / FIRST).read_bytes())
    octets[-1] ^= 1
    (tmp_path / FIRST).write_bytes(octets)
    record = opened(tmp_path, recovered=False)
    assert not record.replay.intact
    record.close()
    record = opened(tmp_path, recovered=False)
    assert not record.replay.intact
    record.recovered(NOW)
    record.close()
    after = opened(tmp_path, recovered=False).replay
    assert after.intact
    assert [fault.file for fault in after.faults] == [FIRST]


def test_another_boot_is_a_lost_host(tmp_path, boot):
    """The page cache went with the kernel. What is left is still true, but for the instants of another clock."""
    small_record(tmp_path)
    boot.write_text("00000000-0000-4000-8000-000000000000\n")
    record = opened(tmp_path, 1.0, recovered=False)
    after = record.replay
    assert not after.intact
    assert after.faults == (Fault(FIRST, 0, "of another boot"),)
    assert after.parts(2, E) == {1: None}
    assert after.sent_at("main", 0.0) == []
    record.recovered(1.0)
    record.close()
    assert replay(tmp_path, 1.0).intact


def test_a_clock_that_fell_is_another_boot(tmp_path):
    """A machine that was set back to a snapshot has its old boot id and has lost what came after."""
    small_record(tmp_path)
    after = replay(tmp_path, NOW - 1)
    assert not after.intact
    assert after.sent_at("main", 0.0) == []


def test_a_kernel_without_boot_ids_is_never_trusted(tmp_path, boot):
    """Nothing would tell a restart of the process from one of the host."""
    boot.unlink()
    small_record(tmp_path)
    assert not replay(tmp_path).intact


# Full disks.


def test_a_full_disk_refuses_the_batch_and_keeps_the_others(tmp_path):
    """The kernel takes a part of the last batch: it must not be read as one, nor stand before the next."""
    record = opened(tmp_path)
    record.written("main", NOW, [(1, E, 1)])
    size = record.octets
    for room in range(1, 60):
        with disk_of(size + room), pytest.raises(OSError) as refused:
            record.written("main", NOW, [(100 + n, E, 1) for n in range(9)])
        assert refused.value.errno == errno.EFBIG
        assert record.octets == size == (tmp_path / FIRST).stat().st_size
        with disk_of(size + room), pytest.raises(OSError):
            record.answered("main", NOW, [(1, E, 1, 0, "x" * 60)])
        with disk_of(size), pytest.raises(OSError):
            record.acknowledged([1], NOW)
        with disk_of(size):
            record.settled([(5, E)], NOW)
    assert record.unsettled == 1
    record.written("main", NOW, [(2, E, 1)])
    after = replay(tmp_path)
    assert after.intact
    assert told(after) == {(1, E): {1: None}, (2, E): {1: None}}


def test_a_link_that_could_not_be_declared_is_declared_later(tmp_path):
    """Its entries would have no name."""
    record = opened(tmp_path)
    with disk_of(record.octets + 20), pytest.raises(OSError):
        record.written("main", NOW, [(1, E, 1)])
    record.written("main", NOW, [(1, E, 1)])
    assert replay(tmp_path).sent_at("main", 0.0) == [NOW]


def test_a_file_that_cannot_be_begun_leaves_the_current_one(tmp_path):
    """The next call tries again."""
    record = opened(tmp_path, segment_octets=1)
    record.written("main", NOW, [(1, E, 1)])
    before = names(tmp_path)
    with disk_of(30), pytest.raises(OSError):
        record.written("main", NOW, [(2, E, 1)])
    assert names(tmp_path) == before
    record.written("main", NOW, [(3, E, 1)])
    after = replay(tmp_path)
    assert after.intact
    assert told(after) == {(1, E): {1: None}, (3, E): {1: None}}


def test_an_end_that_cannot_be_cut_off_closes_the_file(tmp_path, monkeypatch):
    """What came after it would not be found; the next start hears that a file is torn."""
    record = opened(tmp_path)
    record.written("main", NOW, [(1, E, 1)])

    def refuse(*_):
        raise OSError(errno.EIO, "no")

    with monkeypatch.context() as broken:
        broken.setattr(os, "ftruncate", refuse)
        with disk_of(record.octets + 20), pytest.raises(OSError):
            record.written("main", NOW, [(2, E, 1)])
    record.written("main", NOW, [(3, E, 1)])
    assert len(names(tmp_path)) == 2
    after = replay(tmp_path)
    assert told(after) == {(1, E): {1: None}, (3, E): {1: None}}
    assert not after.intact


def test_a_write_in_pieces_is_one_batch(tmp_path, monkeypatch):
    """A short write need not mean a full disk."""
    record = opened(tmp_path)
    write = os.write
    with monkeypatch.context() as slow:
        slow.setattr(os, "write", lambda descriptor, octets: write(descriptor, octets[:7]))
        record.written("main", NOW, [(1, E, 1)])
    assert told(replay(tmp_path)) == {(1, E): {1: None}}


def test_a_closed_record_refuses(tmp_path):
    """Nothing may be written to a wire unnoted, at the end of a process neither."""
    record = opened(tmp_path)
    record.close()
    record.close()
    with pytest.raises(OSError):
        record.written("main", NOW, [(1, E, 1)])
    record.settled([(1, E)], NOW)


# Files come and go.


def test_files_change_by_size_and_by_age(tmp_path):
    """So that old ones can go."""
    record = opened(tmp_path, segment_octets=1000, segment_s=300.0)
    for n in range(10):
        record.written("main", NOW + 299, [(n, E, 1)])
    assert len(names(tmp_path)) == 1
    record.written("main", NOW + 300, [(10, E, 1)])
    assert len(names(tmp_path)) == 2
    record.written("main", NOW + 301, [(n, E, 1) for n in range(11, 80)])
    record.written("main", NOW + 302, [(80, E, 1)])
    assert len(names(tmp_path)) == 3
    assert len(list(replay(tmp_path, NOW + 302).jobs)) == 81


def test_a_file_goes_once_it_is_old_and_all_in_it_are_settled(tmp_path):
    """Ten minutes past the last settle, and never the current one."""
    record = opened(tmp_path, segment_s=300.0, keep_s=600.0)
    record.written("main", NOW, [(1, E, 1), (2, E, 1)])
    record.written("main", NOW + 300, [(3, E, 1)])
    second = names(tmp_path)[1]
    record.settled([(1, E), (3, E)], NOW + 310)
    assert record.unsettled == 1
    record.settled([], NOW + 5_000)
    assert names(tmp_path) == [FIRST, second]  # job 2
    record.settled([(2, E)], NOW + 5_000)  # ends the second file's time, too
    assert record.unsettled == 0
    record.settled([], NOW + 5_600)
    assert FIRST in names(tmp_path)
    record.settled([], NOW + 5_600.1)
    assert FIRST not in names(tmp_path)
    assert record.octets == sum(path.stat().st_size for path in tmp_path.iterdir())
    record.settled([], NOW + 1e9)
    assert len(names(tmp_path)) == 1


def test_a_file_of_acknowledgements_lives_by_its_newest(tmp_path):
    """Nothing in it is ever settled."""
    record = opened(tmp_path, segment_s=300.0, keep_s=600.0)
    record.acknowledged([1], NOW + 299)
    record.acknowledged([2], NOW + 300)
    record.settled([], NOW + 899)
    assert replay(tmp_path).acknowledged == {1, 2}
    record.settled([], NOW + 900)
    assert FIRST not in names(tmp_path)


def test_one_stuck_job_keeps_its_own_files_only(tmp_path):
    """Files behind it go: the disk must not fill because of one job."""
    record = opened(tmp_path, segment_s=300.0, keep_s=600.0)
    record.written("main", NOW, [(1, E, 1)])
    for n in range(2, 30):
        at = NOW + 300 * n
        record.written("main", at, [(n, E, 1)])
        record.settled([(n, E)], at)
    assert names(tmp_path)[0] == FIRST
    assert len(names(tmp_path)) <= 5


def test_an_answer_keeps_its_file_only_while_its_job_is_unsettled(tmp_path):
    """A late answer to a settled job is nobody's to settle again."""
    record = opened(tmp_path, segment_s=300.0, keep_s=600.0)
    record.written("main", NOW, [(1, E, 1), (2, E, 1)])
    record.settled([(1, E)], NOW)
    record.answered("main", NOW + 300, [(1, E, 1, 0, "late"), (2, E, 1, 0, "b")])
    record.written("main", NOW + 600, [(3, E, 1)])
    record.settled([(3, E)], NOW + 5_000)
    assert record.unsettled == 1
    assert len(names(tmp_path)) == 4
    record.settled([(2, E)], NOW + 5_000)
    record.settled([], NOW + 5_601)
    assert len(names(tmp_path)) == 1


def test_files_of_earlier_processes_wait_for_the_recovery(tmp_path):
    """Who restarts again and again before he is done must still find everything."""
    opened(tmp_path).close()
    record = opened(tmp_path, recovered=False, keep_s=600.0)
    record.settled([(1, E)], NOW + 10_000)
    assert FIRST in names(tmp_path)
    record.recovered(NOW + 10_000)
    record.settled([], NOW + 10_600)
    assert FIRST in names(tmp_path)
    record.settled([], NOW + 10_601)
    assert FIRST not in names(tmp_path)


def test_a_file_that_cannot_be_deleted_is_tried_again(tmp_path, monkeypatch):
    """Housekeeping never stops a settle."""
    opened(tmp_path).close()
    record = opened(tmp_path)

    def refuse(*_, **__):
        raise PermissionError

    with monkeypatch.context() as broken:
        broken.setattr(Path, "unlink", refuse)
        record.settled([], NOW + 1_000)
    assert FIRST in names(tmp_path)
    record.settled([], NOW + 1_000)
    assert FIRST not in names(tmp_path)


def test_the_record_is_private_and_the_clock_is_its_own_by_default(tmp_path):
    """Message ids are nobody's business."""
    record = Record.open(tmp_path / "record")
    assert (tmp_path / "record").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "record" / FIRST).stat().st_mode & 0o777 == 0o600
    record.close()
