"""What tests of this folder share."""

from __future__ import annotations

import pytest

from dispatcher.metrics import DispatcherMetrics, new_registry
from gateway import GatewayMetrics
from tests.journey.database import queue_url, shared_database_url  # noqa: F401


@pytest.fixture(scope="session")
def metric_names() -> set[str]:
    """Every metric of a daemon as Prometheus spells it, without the suffixes of histograms."""
    registry = new_registry()
    DispatcherMetrics(registry)
    registry.register(GatewayMetrics())
    return {f"{family.name}_total" if family.type == "counter" else family.name for family in registry.collect()}
