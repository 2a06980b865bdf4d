"""Asks SMSCs what operators want to know: cancel_sm and query_sm for messages that were accepted.

``tocsin cancel`` and ``tocsin job --query`` write what is to be asked into the database, and wait; the instance that
owns the link takes it, commits that it did, and only then asks: after a kill an inquiry may be unanswered, and is never
asked twice. What comes back changes no job: a message that an SMSC cancelled gets its receipt (DELETED) as any other.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import structlog

from dispatcher.store import array, texts
from gateway import Inquiry, LocalError, Reply, destination_address, source_address

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from config.settings import LinkSettings
    from dispatcher.store import Connection, Record
    from gateway import Gateway

log = structlog.get_logger()


class Inquiries:
    """What is asked over the links that this instance owns, and what was answered and is not yet written."""

    def __init__(
        self,
        *,
        epochs: Mapping[str, int],
        links: Mapping[str, LinkSettings],
        gateway: Callable[[], Gateway],
        answered: Callable[[], None],
    ) -> None:
        self._epochs = epochs
        self._links = links
        self._gateway = gateway
        self._answered = answered  # called when there is something to write
        self._replies: list[tuple[int, Reply]] = []

    async def serve(self, connection: Connection) -> None:
        """Write what was answered, and ask what is new.

        Raises:
            StoreUnavailable: to be called again.

        """
        if self._replies:
            replies = list(self._replies)
            await connection.fetch(
                "answer_inquiries",
                array([inquiry_id for inquiry_id, _ in replies]),
                texts([reply.outcome for _, reply in replies]),
                array([reply.command_status for _, reply in replies]),
                texts([reply.message_state for _, reply in replies]),
                array([reply.error_code for _, reply in replies]),
                texts([reply.final_date for _, reply in replies]),
            )
            del self._replies[: len(replies)]
        if self._epochs:
            for row in await connection.fetch("take_inquiries", texts(self._epochs), array(self._epochs.values())):
                self._ask(row)

    async def prune(self, connection: Connection, days: int) -> None:
        """Forget what was asked so many days ago.

        Raises:
            StoreUnavailable: to be called again.

        """
        await connection.fetch("prune_inquiries", days)

    def _ask(self, row: Record) -> None:
        settings = self._links.get(row["link"])
        if settings is None or row["link"] not in self._gateway():
            self._note(row["inquiry_id"], Reply("session_lost"))
            return
        inquiry = Inquiry(
            row["kind"],
            row["message_id"],
            source_address(row["sender"], ton=settings.source_ton, npi=settings.source_npi),
            destination_address(row["recipient"], ton=settings.dest_ton, npi=settings.dest_npi),
            settings.service_type,
        )
        try:
            asked = self._gateway()[row["link"]].inquire(inquiry)
        except LocalError as error:  # a message_id that the SMSC gave and that it could not be told
            log.warning("inquiry_unencodable", link=row["link"], problem=str(error))
            self._note(row["inquiry_id"], Reply("unsupported"))
        else:
            asked.add_done_callback(partial(self._take, row["inquiry_id"]))

    def _take(self, inquiry_id: int, asked: asyncio.Future[Reply]) -> None:
        self._note(inquiry_id, asked.result() if not asked.cancelled() else Reply("session_lost"))

    def _note(self, inquiry_id: int, reply: Reply) -> None:
        self._replies.append((inquiry_id, reply))
        self._answered()
