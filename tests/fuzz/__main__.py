"""``python -m tests.fuzz --seconds 600``: the time is shared by the kinds; 1 when something was found.

What was found is a file of tests/fuzz/corpus/ then, which the suite plays on each run.
"""

from __future__ import annotations

import argparse
import secrets
import sys

from tests.fuzz.hunt import hunt
from tests.fuzz.targets import TARGETS


def main() -> int:
    """Hunt in each kind for its share of the time."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for all kinds together (default 60)")
    parser.add_argument("--kinds", default=",".join(TARGETS), help="some of %(default)s, with commas between them")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="of a run that is to be seen again")
    arguments = parser.parse_args()
    kinds = arguments.kinds.split(",")
    for kind in kinds:
        if kind not in TARGETS:
            parser.error(f"no kind {kind}: {', '.join(TARGETS)}")
    broken = 0
    for kind in kinds:
        print(f"{kind}: seed {arguments.seed}", flush=True)
        found = hunt(kind, TARGETS[kind], seed=arguments.seed, seconds=arguments.seconds / len(kinds))
        print(f"{kind}: {found.cases:,} cases, {found.signatures:,} ways to go, {len(found.findings)} findings")
        for broke, path in found.findings.items():
            print(f"  {broke}\n    {path}")
        broken += len(found.findings)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
