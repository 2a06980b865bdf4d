"""The version of the product, as it was installed, and whether its hot modules are compiled (``setup.py``)."""

from __future__ import annotations

from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

try:
    VERSION = version("tocsin")
except PackageNotFoundError:  # run from its sources
    VERSION = "unknown"

_hot = find_spec("gateway.link")
COMPILED = _hot is not None and str(_hot.origin).endswith(tuple(EXTENSION_SUFFIXES))
