"""The local record: what this host has written to a wire, and what it read in answer. No texts, no numbers.

It outlives kill -9 of the process and not the host: each call is in the kernel's page cache when it returns, and
nothing is synced. What `Replay` tells is always true. That it tells everything holds while `intact`, and only
then does its silence about a job mean that the job was not written.

A file, all numbers little-endian:

    header   magic (8), format version (H), trusted (B), boot id (36s), CLOCK_MONOTONIC at its beginning (d),
             crc32 of these (I)
    batch    length of the body (I), the same inverted (I), crc32 of the body (I), body
    body     kind (B), link (H), instant (d), count (I), then columns of `count` values:
             LINK          the link's name in UTF-8, `count` octets; later batches name the link by its number
             WRITTEN       job id (q), enqueued_us (q), part (B)
             ANSWERED      job id (q), enqueued_us (q), part (B), command_status (I), length of message_id (I);
                           then the message_ids in Latin-1, end to end
             SETTLED       job id and enqueued_us (qq)
             ACKNOWLEDGED  inbound id (q)
             RECOVERED     nothing: all that an earlier process left open has been dealt with in the database

Each batch is one write(2). The kernel breaks off a killed process's write between two pages, so the newest file
may end within a batch. That call never returned, nothing that it announced was done, and the record is intact;
the next process cuts the rest off. A batch cut off in an older file, or damaged anywhere, is a fault: what
follows it in that file is missing.

A fault is forgotten by RECOVERED alone, not by a restart: until then each new file's header says `trusted` 0. So a
daemon that is killed while it sorts out a loss finds the loss again.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import math
import os
import re
import struct
import time
from array import array
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SEGMENT_OCTETS = 16 * 1024 * 1024  # 3 to 4 minutes at 1,000 jobs/s: 80 octets a job of one part, in batches of some 50
SEGMENT_S = 300.0
KEEP_S = 600.0  # past the settle: a standby that is promoted may lack the last settles
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
ACCEPTED = 0  # command_status ESME_ROK

_MAGIC = b"TOCSINR\n"
_VERSION = 1
_HEADER = struct.Struct("<8sHB36sd")
_CHECK = struct.Struct("<I")
_HEADER_OCTETS = _HEADER.size + _CHECK.size
_FRAME = struct.Struct("<III")
_PREFIX = struct.Struct("<BHdI")
_LINK, _WRITTEN, _ANSWERED, _SETTLED, _ACKNOWLEDGED, _RECOVERED = 1, 2, 3, 4, 5, 6
_ALL_ONES = 0xFFFF_FFFF
_NAME = re.compile(r"([0-9]{10})\.record")


class Answer(NamedTuple):
    """What the SMSC said to one part."""

    command_status: int
    message_id: str  # "" where the SMSC gave none


class Fault(NamedTuple):
    """Where a file cannot be read on, or what keeps it from being the whole truth."""

    file: str
    offset: int
    problem: str


class _Part(NamedTuple):
    part: int
    command_status: int | None  # None: unanswered
    message_id: str


class Replay:
    """What the files of a record tell. About 35 MB for 100,000 answered jobs of one part, and 55 while it is read."""

    def __init__(
        self,
        intact: bool,
        faults: tuple[Fault, ...],
        acknowledged: set[int],
        jobs: dict[int, tuple[_Part, ...]],
        settled: dict[int, tuple[_Part, ...]],
        sent: dict[str, array[float]],
    ) -> None:
        self.intact = intact  # nothing is missing: no word about a job means that it was not written
        self.faults = faults  # also those before the last `recovered`
        self.acknowledged = acknowledged  # inbound ids whose deliver_sm_resp was about to be written
        self._jobs = jobs  # what came after the last settle of each
        self._settled = settled  # what came before it
        self._sent = sent

    def parts(self, job_id: int, enqueued_us: int, *, settled: bool = False) -> dict[int, Answer | None]:
        """Give the parts of a job that were written; None for one whose last writing was not answered.

        What came before a settle or release of the job belongs to an earlier attempt, and is told only with
        `settled`: after a failover of the database, which may have lost that settle. A part that was accepted once
        stays accepted, however often it was written after that.
        """
        key = _key(job_id, enqueued_us)
        known = self._jobs.get(key, ())
        if settled:
            known = _merged(self._settled.get(key, ()), known)
        return {
            part: None if command_status is None else Answer(command_status, message_id)
            for part, command_status, message_id in known
        }

    @property
    def jobs(self) -> Iterator[tuple[int, int]]:
        """The id and enqueued_us of each job that was written or answered after its last settle."""
        return map(_job, self._jobs)

    @property
    def every_job(self) -> set[tuple[int, int]]:
        """The same with those that were settled or released, as far back as the files go."""
        return {_job(key) for key in chain(self._jobs, self._settled)}

    def sent_at(self, link: str, since: float) -> list[float]:
        """Give the instants at which segments were written to a link in this boot, in order."""
        return sorted(at for at in self._sent.get(link, ()) if at >= since)

    def forget_jobs(self) -> None:
        """Give the memory back once everything has been carried into the database; `sent_at` still answers."""
        self._jobs = {}
        self._settled = {}
        self.acknowledged = set()


class Record:
    """The writer. For one thread of the one process that holds the state directory."""

    def __init__(
        self, directory: Path, boot_id: bytes, replay: Replay, segment_octets: int, segment_s: float, keep_s: float
    ) -> None:
        self.replay = replay
        self._directory = directory
        self._segment_octets = segment_octets
        self._segment_s = segment_s
        self._keep_s = keep_s
        self._boot_id = boot_id
        self._trusted = replay.intact
        self.is_recovered = False  # what earlier processes left is accounted for
        self._files: list[_File] = []  # oldest first; the last is the current one
        self._next = 1
        self._descriptor = -1
        self._spoiled = False  # the current file ends within a batch that could not be cut off
        self._begun_at = 0.0
        self._links: dict[str, int] = {}  # those that the current file has declared

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        segment_octets: int = SEGMENT_OCTETS,
        segment_s: float = SEGMENT_S,
        keep_s: float = KEEP_S,
        now: float | None = None,
    ) -> Record:
        """Read what earlier processes left into `replay`, and begin a new file.

        Nothing that they left is deleted before `recovered`.

        Raises:
            OSError: the directory cannot be made, listed or written to. A damaged file raises nothing.

        """
        now = time.monotonic() if now is None else now
        boot_id = _boot_id()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for unfinished in directory.glob("*.new"):
            unfinished.unlink()
        paths = _files(directory)
        reader = _Reader(boot_id, now)
        replay = reader.read(paths)
        if reader.torn_at is not None:
            os.truncate(paths[-1], reader.torn_at)
        record = cls(directory, boot_id, replay, segment_octets, segment_s, keep_s)
        record._files = [_File(path, path.stat().st_size, math.inf) for path in paths]
        record._next = _number(paths[-1]) + 1 if paths else 1
        record._begin(now)
        return record

    @property
    def unsettled(self) -> int:
        """Jobs that this process wrote and that are not settled; they keep their files from going."""
        jobs: set[tuple[int, int]] = set()
        return len(jobs.union(*(file.jobs for file in self._files)))

    @property
    def octets(self) -> int:
        """What the files take on disk."""
        return sum(file.octets for file in self._files)

    def written(self, link: str, at: float, entries: Sequence[tuple[int, int, int]]) -> None:
        """Note that parts, as (job id, enqueued_us, part), are about to be written to a link's wire.

        Raises:
            OSError: it could not be noted, so nothing may be written.

        """
        if not entries:
            return
        job_ids, enqueued_us, parts = zip(*entries, strict=True)
        number = self._number_of(link, at)
        count = len(entries)
        self._append(_written(count).pack(_WRITTEN, number, at, count, *job_ids, *enqueued_us, *parts), at)
        self._files[-1].jobs.update(zip(job_ids, enqueued_us, strict=True))

    def answered(self, link: str, at: float, entries: Sequence[tuple[int, int, int, int, str]]) -> None:
        """Note answers, as (job id, enqueued_us, part, command_status, message_id).

        Raises:
            OSError: it could not be noted; a kill before the settle leaves these jobs in doubt.

        """
        if not entries:
            return
        job_ids, enqueued_us, parts, statuses, message_ids = zip(*entries, strict=True)
        number = self._number_of(link, at)
        count = len(entries)
        columns = _answered(count).pack(
            *(_ANSWERED, number, at, count), *job_ids, *enqueued_us, *parts, *statuses, *map(len, message_ids)
        )
        self._append(columns + "".join(message_ids).encode("latin-1"), at)
        jobs = set(zip(job_ids, enqueued_us, strict=True))
        current = self._files[-1]
        for file in self._files[:-1]:  # a late answer to a settled job keeps no file
            current.jobs |= file.jobs & jobs

    def acknowledged(self, inbound_ids: Sequence[int], at: float | None = None) -> None:
        """Note that the deliver_sm_resp to these messages are about to be written; `at` is now by default.

        Raises:
            OSError: it could not be noted, so nothing may be written.

        """
        if inbound_ids:
            at = time.monotonic() if at is None else at
            self._prepare(at)
            count = len(inbound_ids)
            self._append(struct.pack(f"<BHdI{count}q", _ACKNOWLEDGED, 0, at, count, *inbound_ids), at)

    def recovered(self, now: float) -> None:
        """Note that all that `replay` left open has been dealt with in the database, once for each process.

        From here on the record can be trusted, whatever was missing before, and the files of earlier processes
        go `keep_s` later.

        Raises:
            OSError: it could not be noted.

        """
        self._prepare(now)
        self._append(_PREFIX.pack(_RECOVERED, 0, now, 0), now)
        self._trusted = self.is_recovered = True
        for file in self._files:
            if file.kept_from == math.inf:
                file.kept_from = now

    def settled(self, entries: Sequence[tuple[int, int]], now: float) -> None:
        """Note that jobs, as (job id, enqueued_us), are settled or released in the database: their attempt is over.

        A file goes `keep_s` after its newest entry and after the last settle of a job in it, when all jobs in it are
        settled; one that cannot be deleted is tried again. Never raises: where the disk is full, the replay after a
        kill takes this attempt's answers for the next one's.
        """
        over = set(entries)
        for file in self._files:
            if file.jobs & over:
                file.jobs -= over
                file.kept_from = max(file.kept_from, now)
        if entries:
            count = len(entries)
            body = struct.pack(f"<BHdI{2 * count}q", _SETTLED, 0, now, count, *chain.from_iterable(entries))
            with contextlib.suppress(OSError):
                self._prepare(now)
                self._append(body, now)
        for file in self._files[:-1]:
            if not file.jobs and now - file.kept_from > self._keep_s:
                with contextlib.suppress(OSError):
                    file.path.unlink(missing_ok=True)
                    self._files.remove(file)

    def told(self, now: float) -> Replay:
        """What is known now: at first what earlier processes wrote; after `recovered` what this one did, too.

        Reading it again blocks, about 2 us an entry.
        """
        if not self.is_recovered:
            return self.replay
        return _Reader(self._boot_id, now).read(_files(self._directory))

    def close(self) -> None:
        """Write nothing more."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _number_of(self, link: str, at: float) -> int:
        """Give the link's number in the current file, in which it may have to be declared first."""
        self._prepare(at)
        number = self._links.get(link)
        if number is None:
            number = len(self._links)
            name = link.encode()
            self._append(_PREFIX.pack(_LINK, number, at, len(name)) + name, at)
            self._links[link] = number
        return number

    def _prepare(self, at: float) -> None:
        """See that there is a current file that may grow."""
        if self._descriptor < 0:
            raise OSError(errno.EBADF, "the record is closed", str(self._directory))
        full = self._files[-1].octets >= self._segment_octets
        if full or self._spoiled or at - self._begun_at >= self._segment_s:
            self._begin(at)

    def _begin(self, at: float) -> None:
        """Begin a file. It gets its name with its header in place: a torn header is never a killed process's."""
        path = self._directory / f"{self._next:010}.record"
        unfinished = path.with_suffix(".new")
        header = _HEADER.pack(_MAGIC, _VERSION, self._trusted, self._boot_id, at)
        header += _CHECK.pack(crc32(header))
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            _write(descriptor, header)
            unfinished.rename(path)
        except BaseException:
            os.close(descriptor)
            unfinished.unlink(missing_ok=True)
            raise
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = descriptor
        self._next += 1
        self._spoiled = False
        self._begun_at = at
        self._links = {}
        self._files.append(_File(path, len(header), at))

    def _append(self, body: bytes, at: float) -> None:
        """Append one batch, whole or not at all."""
        current = self._files[-1]
        batch = _FRAME.pack(len(body), len(body) ^ _ALL_ONES, crc32(body)) + body
        try:
            _write(self._descriptor, batch)
        except BaseException:
            try:
                os.ftruncate(self._descriptor, current.octets)
            except OSError:
                self._spoiled = True
            raise
        current.octets += len(batch)
        current.kept_from = max(current.kept_from, at)


class _File:
    """What the writer knows of one file."""

    __slots__ = ("jobs", "kept_from", "octets", "path")

    def __init__(self, path: Path, octets: int, kept_from: float) -> None:
        self.path = path
        self.octets = octets
        self.kept_from = kept_from  # the later of its newest entry and the last settle of a job in it
        self.jobs: set[tuple[int, int]] = set()  # unsettled


class _TornError(Exception):
    """The file ends within a batch."""


class _DamagedError(Exception):
    """The octets are not what the writer writes."""


class _Reader:
    """Reads files, oldest first, into what a replay is made of."""

    def __init__(self, boot_id: bytes, now: float) -> None:
        self.torn_at: int | None = None  # where the newest file ends within a batch
        self._boot_id = boot_id
        self._now = now
        self._intact = False
        self._faults: list[Fault] = []
        self._acknowledged: set[int] = set()
        self._jobs: dict[int, tuple[_Part, ...]] = {}
        self._settled: dict[int, tuple[_Part, ...]] = {}
        self._sent: dict[str, array[float]] = {}

    def read(self, paths: list[Path]) -> Replay:
        self._intact = bool(paths)
        for index, path in enumerate(paths):
            if self.torn_at is not None:
                self._fault(paths[index - 1], self.torn_at, "cut off within a batch")
            self.torn_at = self._read_file(path)
        return Replay(self._intact, tuple(self._faults), self._acknowledged, self._jobs, self._settled, self._sent)

    def _fault(self, path: Path, offset: int, problem: str) -> None:
        self._faults.append(Fault(path.name, offset, problem))
        self._intact = False

    def _read_file(self, path: Path) -> int | None:
        """Take in a file as far as it can be read; the offset is where it is torn."""
        offset = 0
        try:
            octets = path.read_bytes()
            trusted, same_boot = _read_header(octets, self._boot_id, self._now)
            self._intact &= trusted
            if not same_boot:
                self._fault(path, 0, "of another boot")
            offset = _HEADER_OCTETS
            links: dict[int, str] = {}
            while offset < len(octets):
                body = _body(octets, offset)
                self._take(body, links, same_boot=same_boot)
                offset += _FRAME.size + len(body)
        except _TornError:
            return offset
        except _DamagedError as error:
            self._fault(path, offset, str(error))
        except OSError as error:
            self._fault(path, offset, f"cannot be read: {error.strerror}")
        return None

    def _take(self, body: bytes, links: dict[int, str], *, same_boot: bool) -> None:
        """Take in one batch, whole or not at all."""
        kind, number, at, count = _PREFIX.unpack_from(body)
        try:
            if kind == _WRITTEN:
                columns = _written(count).unpack(body)[4:]
                if same_boot:
                    self._sent.setdefault(links[number], array("d")).extend([at] * count)
                for job_id, enqueued_us, part in zip(*_split(columns, count), strict=True):
                    self._put(_key(job_id, enqueued_us), _UNANSWERED[part])
            elif kind == _ANSWERED:
                layout = _answered(count)
                job_ids, enqueued, parts, statuses, lengths = _split(layout.unpack_from(body)[4:], count)
                message_ids = body[layout.size :].decode("latin-1")
                if sum(lengths) != len(message_ids):
                    raise _DamagedError("a batch of another form")
                end = 0
                for job_id, enqueued_us, part, status, length in zip(
                    job_ids, enqueued, parts, statuses, lengths, strict=True
                ):
                    begin, end = end, end + length
                    self._put(_key(job_id, enqueued_us), (_Part(part, status, message_ids[begin:end]),))
            elif kind == _SETTLED:
                for job_id, enqueued_us in struct.iter_unpack("<qq", body[_PREFIX.size :]):
                    key = _key(job_id, enqueued_us)
                    if (known := self._jobs.pop(key, None)) is not None:
                        self._settled[key] = _merged(self._settled.get(key, ()), known)
            elif kind == _ACKNOWLEDGED:
                self._acknowledged.update(struct.unpack_from(f"<{count}q", body, _PREFIX.size))
            elif kind == _LINK:
                links[number] = body[_PREFIX.size :].decode()
            elif kind == _RECOVERED:
                self._intact = same_boot
            else:
                raise _DamagedError(f"a batch of kind {kind}")
        except (struct.error, KeyError, ValueError):
            raise _DamagedError("a batch of another form") from None

    def _put(self, key: int, new: tuple[_Part]) -> None:
        known = self._jobs.get(key)
        self._jobs[key] = new if known is None else _merged(known, new)


def _merged(known: tuple[_Part, ...], later: tuple[_Part, ...]) -> tuple[_Part, ...]:
    """Put what came later over what was known; a part that was accepted stays as it is."""
    parts = {part.part: part for part in known}
    for new in later:
        old = parts.get(new.part)
        if old is None or old.command_status != ACCEPTED:
            parts[new.part] = new
    return tuple(parts.values())


def _read_header(octets: bytes, boot_id: bytes, now: float) -> tuple[bool, bool]:
    """Say whether the writer trusted the record when it began this file, and whether it was in this boot."""
    if len(octets) < _HEADER_OCTETS:
        raise _DamagedError("no header")
    magic, version, trusted, written_boot_id, begun_at = _HEADER.unpack_from(octets)
    if magic != _MAGIC:
        raise _DamagedError("not a record")
    if version != _VERSION:
        raise _DamagedError(f"format version {version}")
    if _CHECK.unpack_from(octets, _HEADER.size)[0] != crc32(octets[: _HEADER.size]):
        raise _DamagedError("damaged header")
    # CLOCK_MONOTONIC cannot fall within a boot: where it did, a machine was set back to a snapshot.
    return bool(trusted), written_boot_id == boot_id != _NO_BOOT_ID and begun_at <= now


def _body(octets: bytes, offset: int) -> bytes:
    if offset + _FRAME.size > len(octets):
        raise _TornError
    length, inverted, check = _FRAME.unpack_from(octets, offset)
    if length ^ inverted != _ALL_ONES or length < _PREFIX.size:
        raise _DamagedError("damaged batch")
    begin = offset + _FRAME.size
    if begin + length > len(octets):
        raise _TornError
    body = octets[begin : begin + length]
    if crc32(body) != check:
        raise _DamagedError("damaged batch")
    return body


@functools.lru_cache(maxsize=1024)
def _written(count: int) -> struct.Struct:
    return struct.Struct(f"<BHdI{count}q{count}q{count}B")


@functools.lru_cache(maxsize=1024)
def _answered(count: int) -> struct.Struct:
    return struct.Struct(f"<BHdI{count}q{count}q{count}B{count}I{count}I")


def _split(columns: tuple[int, ...], count: int) -> list[tuple[int, ...]]:
    return [columns[begin : begin + count] for begin in range(0, len(columns), count)]


def _key(job_id: int, enqueued_us: int) -> int:
    """Make one number of two of 64 bits, signed: 48 octets instead of 120 for a tuple."""
    return (job_id << 64) + enqueued_us


def _job(key: int) -> tuple[int, int]:
    enqueued_us = (key + (1 << 63)) % (1 << 64) - (1 << 63)
    return (key - enqueued_us) >> 64, enqueued_us


def _files(directory: Path) -> list[Path]:
    """Give the record's files, oldest first; nothing else in the directory is touched."""
    return sorted((path for path in directory.iterdir() if _NAME.fullmatch(path.name)), key=_number)


def _number(path: Path) -> int:
    return int(path.stem)


def _boot_id() -> bytes:
    """Read the kernel's id of this boot. Where there is none, no file is ever of this boot."""
    try:
        return BOOT_ID.read_bytes().strip().ljust(36, b"\0")[:36]
    except OSError:
        return _NO_BOOT_ID


def _write(descriptor: int, octets: bytes) -> None:
    """Write all octets. A disk that is nearly full takes a part of them and says why at the second write."""
    done = os.write(descriptor, octets)
    while done < len(octets):
        done += os.write(descriptor, octets[done:])


_NO_BOOT_ID = bytes(36)
_UNANSWERED = tuple((_Part(part, None, ""),) for part in range(256))
