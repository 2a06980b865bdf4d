"""Makes the roles of the cluster and grants them what they need: ``tocsin migrate --roles``.

``tocsin_app`` calls the functions and reads the three views; ``tocsin_daemon`` runs the queue;
``tocsin_auditor`` reads evidence and no text; ``tocsin_owner`` may change every row. All are groups without
login: an operator grants them to the users that log in. It is run after each migration, since what a
migration adds is granted to nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dispatcher.migrate import LOCK_KEY

if TYPE_CHECKING:
    from dispatcher.store import Connection


async def grant_roles(connection: Connection) -> list[str]:
    """Make the missing roles, set the grants of all, and return the names of those that were missing.

    Raises:
        StoreUnavailable: the user may not make roles (CREATEROLE), or does not own the schema.

    """
    async with connection.transaction():
        await connection.fetch("roles_lock", LOCK_KEY)
        missing = [str(row["name"]) for row in await connection.fetch("missing_roles")]
        if missing:
            await connection.fetch("create_roles")
        await connection.fetch("grant_roles")
    return missing
