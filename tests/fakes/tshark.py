"""Wireshark's dissector as a witness: it reads what we wrote, and shares no line with us."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PORT = 2775
LONGEST = 1_400  # octets of a packet's payload, as on Ethernet
SUBMIT = "0x00000004"
ERROR = 0x00800000  # severity of an expert info
RAW_IPV4 = 228  # link type


def assert_dissected(path: Path, streams: Sequence[bytes], *, submits: int) -> None:
    """Write each stream as one TCP connection to a pcap, and see that tshark finds no fault and every submit_sm.

    Does nothing where there is no tshark; with CI set its absence is an error.
    """
    tshark = shutil.which("tshark")
    if tshark is None:
        assert not os.environ.get("CI"), "tshark is missing"
        return
    write_pcap(path, streams)
    found = _fields(tshark, path, "smpp", "smpp.command_id")
    commands = [command for line in found for command in line.split(",") if command]
    assert commands.count(SUBMIT) == submits
    assert _fields(tshark, path, f"smpp && (_ws.malformed || _ws.expert.severity == {ERROR})", "frame.number") == []


def write_pcap(path: Path, streams: Sequence[bytes]) -> None:
    """Write a capture that holds these octets, sent to the SMSC's port over a connection each."""
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, RAW_IPV4))
        for number, octets in enumerate(streams):
            sequence = 1
            for at in range(0, len(octets), LONGEST):
                payload = octets[at : at + LONGEST]
                tcp = struct.pack(">HHIIBBHHH", 20_000 + number, PORT, sequence, 1, 5 << 4, 0x18, 65_535, 0, 0)
                address = bytes((127, 0, 0, 1))
                ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 40 + len(payload), 0, 0, 64, 6, 0, address, address)
                packet = ip + tcp + payload
                file.write(struct.pack("<IIII", number, at, len(packet), len(packet)) + packet)
                sequence += len(payload)


def _fields(tshark: str, path: Path, wanted: str, field: str) -> list[str]:
    """Values of a field, a line a packet."""
    command = [tshark, "-r", str(path), "-d", f"tcp.port=={PORT},smpp", "-Y", wanted, "-T", "fields", "-e", field]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return ran.stdout.split()
