"""What tests of this folder share."""

from tests.dispatcher.conftest import roles_left_as_found  # noqa: F401
