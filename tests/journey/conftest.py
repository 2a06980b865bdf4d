"""What tests of this folder share."""

from tests.journey.database import queue_url, shared_database_url  # noqa: F401
