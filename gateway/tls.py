"""TLS between a session's octets and the socket's, over memory buffers: it never touches the socket itself.

TLS 1.2 or newer; the peer's certificate and its name are always checked.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from config.settings import TlsSettings

READ_OCTETS = 65_536
MINIMUM = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def tls_context(settings: TlsSettings) -> ssl.SSLContext:
    """Context for one link; without `ca_file` the system's authorities are trusted.

    Raises OSError (ssl.SSLError is one) when a file is missing or unusable.
    """
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=settings.ca_file)
    context.minimum_version = MINIMUM[settings.min_version]
    if settings.cert_file is not None:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    return context


class Tls:
    """The client side of one TLS connection; it speaks first, so take what is outgoing at once."""

    def __init__(self, context: ssl.SSLContext, server_name: str) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
        self._is_open = False
        self._early = b""  # what was to be sent before the handshake was done
        self._shake_hands()

    def receive(self, octets: bytes) -> bytes:
        """Take octets of the socket, give octets of the session. Raises ssl.SSLError."""
        self._incoming.write(octets)
        if not self._is_open:
            self._shake_hands()
        read = []
        while self._is_open:
            try:
                part = self._object.read(READ_OCTETS)
            except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                break
            if not part:
                break
            read.append(part)
        return b"".join(read)

    def send(self, octets: bytes) -> None:
        """Take octets of the session. Raises ssl.SSLError."""
        if self._is_open and octets:
            self._object.write(octets)
        else:
            self._early += octets

    def take_outgoing(self) -> bytes:
        """Give octets for the socket, once."""
        return self._outgoing.read()

    def _shake_hands(self) -> None:
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return
        self._is_open = True
        early, self._early = self._early, b""
        self.send(early)
