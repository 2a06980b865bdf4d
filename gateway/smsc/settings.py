"""How the simulator behaves while nothing is wrong with it; what goes wrong is the plan's, in ``faults.py``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from gateway.smsc.deliveries import Dialect
from gateway.smsc.ids import IdForm, ReceiptIdForm

Intermediate = Literal["none", "receipt", "notification"]


@dataclass(frozen=True, slots=True)
class SmscSettings:
    """How the simulator behaves."""

    port: int = 0  # 0: any free one
    system_id: str = "simulator"
    accounts: Mapping[str, str] | None = field(default=None, repr=False)  # system_id -> password; None: everybody's
    latency_s: float | tuple[float, float] = 0.0  # from submit_sm to its answer; two: evenly between these
    receipt_delay_s: tuple[float, float] = (0.0, 0.0)  # from the answer to the receipt: evenly between these
    deliver_window: int = 10  # deliver_sm unanswered at once, per session
    first_sequence_number: int = 1  # of its own requests; above 0x7FFFFFFF: it counts all 32 bits, 0 included
    redelivery_s: float = 1.0  # until a deliver_sm that was refused for now is sent again
    held_limit: int = 100_000  # messages whose answer, receipt or delivery is still due
    log_limit: int = 100_000  # submit_sm that the log keeps
    message_ids: IdForm = "text"  # in answers
    receipt_message_ids: ReceiptIdForm = "same"  # in receipts
    receipts: Dialect = "appendix_b"
    intermediate: Intermediate = "none"  # ENROUTE at once, as a receipt or as an intermediate notification
    receipt_copies: int = 1  # the same receipt so many times
    receipt_first: bool = False  # the receipt goes out before the answer, and its delay is not waited for
    receipt_error: str = ""  # err of a receipt that is not DELIVRD; "": 000
