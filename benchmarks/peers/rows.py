"""The client side of smpp-gateway: rows of its table, a hundred a transaction, each followed by its NOTIFY.

The peer takes some of them at each NOTIFY, and looks by itself only when it has had nothing to do for some seconds.
It can miss a NOTIFY that comes while it works, so it is told again while rows wait.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Final

import asyncpg

from benchmarks import ledger as cell
from benchmarks.enqueuer import CALL
from benchmarks.peers.driver import Driver, parser_of, run

if TYPE_CHECKING:
    import argparse

AGAIN_S: Final = 0.1  # between two NOTIFYs while nothing is written
SEEN_S: Final = 0.5  # between two looks at what has come back, after the load has stopped
INSERT: Final = """
insert into smpp_gateway_mtmessage (create_time, modify_time, backend_id, short_message, params, status)
select now(), now(), $1, text, jsonb_build_object('destination_addr', number), 'new'
from unnest($2::text[], $3::text[]) as one (number, text)
"""
BACKEND: Final = "select id from rapidsms_backend where name = $1"
DELIVERED: Final = "select count(*) from smpp_gateway_mtmessage where status = 'delivered'"


class Writer:
    """One connection that writes rows."""

    def __init__(self, driver: Driver, connection: asyncpg.Connection, backend: str, number: int) -> None:
        self.driver = driver
        self.connection = connection
        self.notify = f"notify {backend}"
        self.backend = number
        self.told_at = self.seen_at = 0.0

    async def look(self) -> None:
        """Write what there is room for, or tell the peer again that rows wait."""
        driver, now = self.driver, time.monotonic()
        if driver.room() >= CALL:
            await self._write()
        elif now - self.told_at > AGAIN_S and driver.accepted > driver.ledger[cell.SUBMITTED]:
            await self.connection.execute(self.notify)
            self.told_at = now
        if driver.ending and now - self.seen_at > SEEN_S:
            driver.forwarded = await self.connection.fetchval(DELIVERED)
            self.seen_at = now

    async def _write(self) -> None:
        driver = self.driver
        messages = [driver.message() for _ in range(CALL)]
        numbers, texts = ([message[field] for message in messages] for field in (1, 2))
        async with self.connection.transaction():
            await self.connection.execute(INSERT, self.backend, numbers, texts)
            await self.connection.execute(self.notify)
        self.told_at = time.monotonic()
        driver.answered(accepted=True, messages=CALL)


async def send(driver: Driver, arguments: argparse.Namespace) -> None:
    """Write rows until stopped."""
    connection = await asyncpg.connect(arguments.url)
    try:
        number = await connection.fetchval(BACKEND, arguments.backend)
        print(json.dumps({"backend": number}), flush=True)
        writer = Writer(driver, connection, arguments.backend, number)
        await driver.sent_and_received(writer.look, arguments.drain)
    finally:
        await connection.close()


def main() -> None:
    """Run one."""
    parser = parser_of("rows")
    parser.add_argument("--url", required=True)
    parser.add_argument("--backend", required=True)
    run(send, parser.parse_args())


if __name__ == "__main__":
    main()
