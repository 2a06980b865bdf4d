"""Where cases begin: files of corpus/KIND/, and the PDUs, texts and receipts of tests/conformance.

A file holds octets in hexadecimal, a case each; lines that begin with # say what it is about.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

FOLDER = Path(__file__).parent / "corpus"
VECTORS = Path(__file__).parent.parent / "conformance"


def kept(kind: str, folder: Path = FOLDER) -> dict[str, bytes]:
    """Cases that were kept as files, by name."""
    return {path.name: read(path) for path in sorted((folder / kind).glob("*.hex"))}


def read(path: Path) -> bytes:
    """Octets of one file."""
    lines = path.read_text(encoding="ascii").splitlines()
    return bytes.fromhex("".join(line for line in lines if not line.startswith("#")))


def keep(kind: str, octets: bytes, about: str, folder: Path = FOLDER) -> Path:
    """Write a case as a file, named by its octets."""
    path = folder / kind / f"{hashlib.sha256(octets).hexdigest()[:12]}.hex"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"# {about}", *(octets[at : at + 32].hex() for at in range(0, len(octets), 32))]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")
    return path


def seeds(kind: str, folder: Path = FOLDER) -> list[bytes]:
    """Every case to begin with, of files and of vectors."""
    return [*kept(kind, folder).values(), *VECTORS_OF[kind]()]


def _entries(name: str) -> list[dict[str, object]]:
    entries: list[dict[str, object]] = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    return entries


def _pdus() -> list[bytes]:
    return [bytes.fromhex(str(entry["hex"])) for entry in _entries("pdu_hex")]


def _streams() -> list[bytes]:
    return [
        bytes((kind, 3, 0, 0, 0, number % 256)) + pdu for kind in (0, 1, 2, 0x80) for number, pdu in enumerate(_pdus())
    ]


def _texts() -> list[bytes]:
    """GSM-7 and ASCII texts as they are; of others the octets, which mean characters of the list then."""
    texts = [str(entry["text"]) for name in ("segmentation", "encoding") for entry in _entries(name) if "text" in entry]
    heads = (b"\0\0\1\2\0", b"\5\x9f\1\2\0", b"\x08\0\xff\xff\x05", b"\x0e\x80\0\0\0")
    return [head + text.encode("utf-8", "replace")[:600] for head in heads for text in texts]


def _receipt_texts() -> list[bytes]:
    texts = [str(entry["text"]).encode("latin-1") for entry in _entries("dlr_text")]
    tlvs = b"\xfem1\0\0\0\0\0\0\0\2\3\0\1"
    return [
        head + text + tail
        for head, tail in ((b"\4\0\0", b""), (b"\0\0\x80", b""), (b"\x04\0\7", tlvs))
        for text in texts
    ]


def _parts() -> list[bytes]:
    texts = ("Take two tablets", "Sağ", "😀 Привет")
    return [
        bytes((coding, esm_class, 0x03)) + b"".join(bytes((len(body),)) + body for body in (header + text,) * 3)
        for coding, name in ((0, "latin-1"), (8, "utf-16-be"), (3, "latin-1"))
        for esm_class, header in ((0, b""), (0x40, b"\5\0\3\7\4\1"), (0x40, b"\6\x08\4\0\7\4\2"), (0x40, b"\3\x24\1\1"))
        for text in (text.encode(name, "replace") for text in texts)
    ]


VECTORS_OF = {
    "codec": _pdus,
    "session": _streams,
    "segmentation": _texts,
    "receipts": _receipt_texts,
    "replies": _parts,
}
