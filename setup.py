"""Compiles the hot modules with mypyc where TOCSIN_COMPILE=1 says so; pyproject.toml says everything else.

They are the same files. Without the variable, or where there is no compiler, they are installed as Python.
"""

import os

from setuptools import setup

GATEWAY = (
    *(
        "address",
        "answers",
        "binds",
        "breaker",
        "codec",
        "forms",
        "gsm7",
        "handset",
        "inquiry",
        "link",
        "observer",
        "pdu",
        "receipt",
    ),
    *("rooms", "segment", "session", "status", "throttle", "transport", "window"),
)
DISPATCHER = ("claim", "dispatch", "intake", "job", "loops", "policy", "receipts", "record", "settle")
HOT = [
    *(f"gateway/{name}.py" for name in GATEWAY),
    *(f"dispatcher/{name}.py" for name in DISPATCHER),
]


def extensions() -> list[object]:
    """The hot modules as extensions, or nothing."""
    if os.environ.get("TOCSIN_COMPILE") != "1":
        return []
    from mypyc.build import mypycify  # noqa: PLC0415 - mypy is no requirement of an installation

    # what they share is named inside a package: there an editable installation finds it
    return list(mypycify(HOT, opt_level="2", group_name="gateway.hot"))


setup(ext_modules=extensions())
