"""Settings: a TOML file and the environment in, frozen values out."""

from config.reader import ConfigError
from config.settings import (
    SHIPPED_CATEGORIES,
    CategorySettings,
    DaemonSettings,
    DatabaseSettings,
    HttpSettings,
    LinkSettings,
    RouteSettings,
    SenderSettings,
    Settings,
    TlsSettings,
    load,
)

__all__ = [
    "SHIPPED_CATEGORIES",
    "CategorySettings",
    "ConfigError",
    "DaemonSettings",
    "DatabaseSettings",
    "HttpSettings",
    "LinkSettings",
    "RouteSettings",
    "SenderSettings",
    "Settings",
    "TlsSettings",
    "load",
]
