"""Prints the hits below the paths, or of the whole project: `python -m tools.language [--count | --lower] [PATH…]`."""

import sys

from tools.language import allowance
from tools.language.project import all_hits, hits_below


def main(arguments: list[str]) -> int:
    """Print hits; with --count their numbers, by package and rule. With --lower, lower the allowance to them."""
    if "--lower" in arguments:
        allowance.lower(all_hits())
        return 0
    paths = [argument for argument in arguments if not argument.startswith("--")]
    hits = hits_below(paths) if paths else all_hits()
    if "--count" in arguments:
        counts = sorted(allowance.count(hits).items())
        lines = [f"{package:24} {rule:16} {number:6}" for (package, rule), number in counts]
    else:
        lines = [str(hit) for hit in hits]
    print("\n".join([*lines, f"{len(hits)} hits"]))
    return 1 if hits else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
