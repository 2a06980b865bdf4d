"""An SMSC that is not there: it takes messages, answers them, and says that every one was delivered.

For demonstrations, measurements and trying out a configuration; a scenario makes it misbehave as real ones do. It
speaks through the gateway's own codec, so it proves nothing about the codec.
"""

from gateway.smsc.console import Console
from gateway.smsc.deliveries import DELIVERED, DIALECTS, UNDELIVERABLE, Delivery, Dialect, receipt, text_message
from gateway.smsc.faults import KINDS, Fault, Plan
from gateway.smsc.ids import FORMS, IdForm, MessageIds
from gateway.smsc.numbers import OUTCOMES, SHIPPED, NumberRule
from gateway.smsc.pdulog import PduLog
from gateway.smsc.scenario import ANNOTATED, SHIPPED_SCENARIOS, Scenario, load, read_password
from gateway.smsc.session import Session
from gateway.smsc.settings import SmscSettings
from gateway.smsc.smsc import Smsc, Submitted
from gateway.smsc.traffic import Scheduled

__all__ = [
    "ANNOTATED",
    "DELIVERED",
    "DIALECTS",
    "FORMS",
    "KINDS",
    "OUTCOMES",
    "SHIPPED",
    "SHIPPED_SCENARIOS",
    "UNDELIVERABLE",
    "Console",
    "Delivery",
    "Dialect",
    "Fault",
    "IdForm",
    "MessageIds",
    "NumberRule",
    "PduLog",
    "Plan",
    "Scenario",
    "Scheduled",
    "Session",
    "Smsc",
    "SmscSettings",
    "Submitted",
    "load",
    "read_password",
    "receipt",
    "text_message",
]
