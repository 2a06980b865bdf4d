"""What the store's tests share: one database a file, emptied by ``seeded``; cloning one takes longer than most of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import DatabaseServer


@pytest.fixture(scope="module")
def shared_url(database_server: DatabaseServer, template_database: str) -> Iterator[str]:
    """A migrated database that belongs to the tests of one file."""
    name = database_server.create(template_database)
    yield database_server.database_url(name)
    database_server.drop(name)
