"""Prints the hits below the paths, or of the whole project: `python -m tools.language [--count] [PATH…]`."""

import sys
from collections import Counter

from tools.language.project import all_hits, hits_below, package_of


def main(arguments: list[str]) -> int:
    """Print hits, or with --count their number for each package and rule."""
    paths = [argument for argument in arguments if not argument.startswith("--")]
    hits = hits_below(paths) if paths else all_hits()
    if "--count" in arguments:
        counts = Counter((package_of(hit.path), hit.rule) for hit in hits)
        lines = [f"{package:24} {rule:16} {count:6}" for (package, rule), count in sorted(counts.items())]
    else:
        lines = [str(hit) for hit in hits]
    print("\n".join([*lines, f"{len(hits)} hits"]))
    return 1 if hits else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
