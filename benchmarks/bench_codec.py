"""The codec in microseconds, against smpplib in the same run: the ratio is what counts, not the host's speed.

``python -m benchmarks.bench_codec``. The two take turns, and the best turn of each is told: what else runs only adds.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from smpplib import gsm, smpp

from benchmarks import results as kept
from benchmarks.measure import calibrate
from gateway import Address, Segment, ShortMessage, segment
from gateway.codec import decode, encode_submit_sm, header
from gateway.pdu import CommandId, DeliverSm
from gateway.receipt import parse

if TYPE_CHECKING:
    from collections.abc import Callable

SHORT: Final = (
    "Your appointment at the Northside clinic is on Tuesday at 14:30. Please bring your card. Reply C to confirm."
)
LONG: Final = SHORT + " The entrance is at the back, next to the pharmacy; room 14 on level 2." + SHORT[:60]
OTHER: Final = "Ваш прием назначен на вторник в 14:30."
RECEIPT: Final = (
    b"id:1234567890 sub:001 dlvrd:001 submit date:2611221200 done date:2611221201 stat:DELIVRD err:000 text:"
)
MESSAGE: Final = ShortMessage(Address("Northside", 5, 0), Address("447700900123"))
SEGMENT: Final = Segment(1, 1, 0, udhi=False, octets=SHORT.encode())
RESPONSE: Final = header(CommandId.SUBMIT_SM_RESP, 0, 7, 11) + b"1234567890\0"
DELIVERY_BODY: Final = b"\0\1\1447700900123\0\5\0Northside\0\4\0\0\0\0\0\0\0\0%c%b" % (len(RECEIPT), RECEIPT)
DELIVERY: Final = header(CommandId.DELIVER_SM, 0, 7, len(DELIVERY_BODY)) + DELIVERY_BODY


class Sequence:
    """What smpplib's PDUs ask of their client."""

    sequence = 7

    def next_sequence(self) -> int:
        return 7


CLIENT: Any = Sequence()


def ours_encode() -> bytes:
    body = encode_submit_sm(MESSAGE, SEGMENT, validity_period="000001000000000R")
    return header(CommandId.SUBMIT_SM, 0, 7, len(body)) + body


def theirs_encode() -> bytes:
    pdu = smpp.make_pdu(
        "submit_sm",
        client=CLIENT,
        source_addr_ton=5,
        source_addr_npi=0,
        source_addr="Northside",
        dest_addr_ton=1,
        dest_addr_npi=1,
        destination_addr="447700900123",
        esm_class=0,
        data_coding=0,
        registered_delivery=1,
        validity_period="000001000000000R",
        short_message=SEGMENT.octets,
    )
    return bytes(pdu.generate())


def ours_receipt() -> object:
    delivery = decode(DELIVERY)
    assert isinstance(delivery, DeliverSm)
    return parse(delivery)


# name, ours, theirs or None
CASES: Final[tuple[tuple[str, Callable[[], object], Callable[[], object] | None], ...]] = (
    ("encode submit_sm", ours_encode, theirs_encode),
    ("decode submit_sm_resp", lambda: decode(RESPONSE), lambda: smpp.parse_pdu(RESPONSE, client=CLIENT)),
    ("decode deliver_sm", lambda: decode(DELIVERY), lambda: smpp.parse_pdu(DELIVERY, client=CLIENT)),
    ("decode deliver_sm, read receipt", ours_receipt, None),
    ("segment, GSM-7, one part", lambda: segment(SHORT, reference=7), lambda: gsm.make_parts(SHORT)),
    ("segment, GSM-7, two parts", lambda: segment(LONG, reference=7), lambda: gsm.make_parts(LONG)),
    ("segment, UCS-2, one part", lambda: segment(OTHER, reference=7), lambda: gsm.make_parts(OTHER)),
)


def turn(work: Callable[[], object], seconds: float) -> float:
    """Microseconds a call, over about so many seconds."""
    calls, took = 1, 0.0
    while True:
        begun = time.perf_counter()
        for _ in range(calls):
            work()
        took = time.perf_counter() - begun
        if took >= seconds:
            return took / calls * 1e6
        calls = max(calls * 2, int(calls * seconds / max(took, 1e-6)))


def measure(turns: int, seconds: float) -> list[dict[str, Any]]:
    """Every case, ours and theirs in turns."""
    rows = []
    for name, ours, theirs in CASES:
        best: list[float] = [float("inf"), float("inf")]
        for _ in range(turns):
            best[0] = min(best[0], turn(ours, seconds))
            if theirs is not None:
                best[1] = min(best[1], turn(theirs, seconds))
        ratio = best[1] / best[0] if theirs is not None else None
        rows.append(
            {"case": name, "us": best[0], "smpplib_us": best[1] if theirs is not None else None, "ratio": ratio}
        )
    return rows


def arguments_of(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_codec", description="The codec, measured.")
    parser.add_argument("--turns", type=int, default=7, help="of each, one after the other")
    parser.add_argument("--seconds", type=float, default=0.1, help="of each turn")
    kept.add_options(parser)
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Run the benchmark."""
    words = sys.argv[1:] if words is None else words
    arguments = arguments_of(words)
    before = calibrate()
    rows = measure(arguments.turns, arguments.seconds)
    figures = {"calibration": {"before": before, "after": calibrate()}, "cases": rows}
    kept.keep(arguments, kept.document("codec", words, figures, ["smpplib"]))
    if arguments.json:
        return 0
    print(f"calibration {before:.1f} M rounds/s")
    print(f"{'':<34}{'us':>8}{'smpplib us':>12}{'ratio':>8}")
    for row in rows:
        theirs = f"{row['smpplib_us']:>12.2f}{row['ratio']:>7.1f}x" if row["ratio"] is not None else ""
        print(f"{row['case']:<34}{row['us']:>8.2f}{theirs}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
