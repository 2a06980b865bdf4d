"""An SMSC that is not there: it takes messages, answers them, and says that every one was delivered.

For demonstrations, measurements and trying out a configuration. It speaks through the gateway's own codec, so it
proves nothing about the codec.
"""

from gateway.smsc.deliveries import DELIVERED, UNDELIVERABLE, Delivery, receipt, text_message
from gateway.smsc.session import Session
from gateway.smsc.smsc import Smsc, SmscSettings, Submitted

__all__ = [
    "DELIVERED",
    "UNDELIVERABLE",
    "Delivery",
    "Session",
    "Smsc",
    "SmscSettings",
    "Submitted",
    "receipt",
    "text_message",
]
