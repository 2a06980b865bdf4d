"""The same tests hold for compiled modules, but for those that swap a part of one."""

from __future__ import annotations

import pytest

from dispatcher.version import COMPILED

swaps_a_part = pytest.mark.skipif(COMPILED, reason="a compiled module keeps its parts")
