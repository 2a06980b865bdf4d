"""SMPP and GSM: links to SMSCs, and what texts, receipts and answers mean.

Knows no job, table, category or retry. Whoever uses it imports from here.
"""

from gateway.address import destination_address, source_address
from gateway.carrier_trial import carrier_trial
from gateway.errors import (
    BrokenStream,
    FieldTooLong,
    GatewayError,
    LocalError,
    MalformedBody,
    NotBound,
    PduError,
    TooManySegments,
    UnencodableText,
    WindowFull,
)
from gateway.forms import REFUSES_A_FORM
from gateway.gateway import Gateway
from gateway.inquiry import Inquiry, Reply
from gateway.learnt import Learnt, Observed, Setting, learn
from gateway.link import Link
from gateway.messages import (
    Address,
    DeliveryState,
    Inbound,
    Receipt,
    Segment,
    ShortMessage,
    Submission,
    SubmitResult,
    Verdict,
)
from gateway.metrics import Buckets, GatewayMetrics, LinkMetrics
from gateway.observer import Delivery, LinkObserver, LinkState
from gateway.pdu import DeliverSm
from gateway.probe import Probed, probe
from gateway.reassembly import Joined, Part, join
from gateway.receipt import IdFormat, id_forms, parse
from gateway.receipt_reason import RETRY
from gateway.segment import LANGUAGES, Alphabet, Coding, Concatenation, Counted, FlashForm, count, segment
from gateway.status import name as status_name
from gateway.status import verdict
from gateway.trials import Trial, trials

__all__ = [
    "LANGUAGES",
    "REFUSES_A_FORM",
    "RETRY",
    "Address",
    "Alphabet",
    "BrokenStream",
    "Buckets",
    "Coding",
    "Concatenation",
    "Counted",
    "DeliverSm",
    "Delivery",
    "DeliveryState",
    "FieldTooLong",
    "FlashForm",
    "Gateway",
    "GatewayError",
    "GatewayMetrics",
    "IdFormat",
    "Inbound",
    "Inquiry",
    "Joined",
    "Learnt",
    "Link",
    "LinkMetrics",
    "LinkObserver",
    "LinkState",
    "LocalError",
    "MalformedBody",
    "NotBound",
    "Observed",
    "Part",
    "PduError",
    "Probed",
    "Receipt",
    "Reply",
    "Segment",
    "Setting",
    "ShortMessage",
    "Submission",
    "SubmitResult",
    "TooManySegments",
    "Trial",
    "UnencodableText",
    "Verdict",
    "WindowFull",
    "carrier_trial",
    "count",
    "destination_address",
    "id_forms",
    "join",
    "learn",
    "parse",
    "probe",
    "segment",
    "source_address",
    "status_name",
    "trials",
    "verdict",
]
