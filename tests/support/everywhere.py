"""How much of the suite runs on more than it needs to."""

import os
from typing import Final

EVERYWHERE: Final = bool(os.environ.get("EVERYWHERE"))
"""Set by `EVERYWHERE=1`, as in `.ci/run`: what is long and takes one road on all engines runs on each of them, too,
and properties are tried with more examples."""

_FEW = 2


def seeds(count: int) -> range:
    """Return seeds of random worlds: `count` with EVERYWHERE, a few otherwise."""
    return range(count if EVERYWHERE else _FEW)
