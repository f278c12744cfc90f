"""Measures the size of the program, and what a reader has to hold in mind: `make measure`.

Prints a table with the figures at the start of the work on the size (commit 36a36854), the targets and the figures now.
A target that is a share is relative to the start. The core at the start is counted without sign-in and the portal,
which move to the edge.
"""

import ast
import importlib
import re
import statistics
import tempfile
from pathlib import Path
from typing import Any, Final, NamedTuple

from tools import paths

_ROOT: Final = Path(__file__).parents[1]
_PROGRAM: Final = _ROOT / "discue"
_EDGE: Final = ("backup", "cli", "dashboard", "guides", "product.py", "testing")
"""Packages of the edge. The others are the core, which delivers messages."""

_LIMITS_PAGE: Final = _ROOT / "docs/architecture/event-loop-limits.md"


class Target(NamedTuple):
    """A figure: its value at the start, and its maximum as a target."""

    name: str
    start: float
    at_most: float


_TARGETS: Final = {
    "lines": Target("core and edge together, lines", 83_398, round(83_398 * 0.86)),
    "core": Target("core, lines", 58_520, round(58_520 * 0.84)),
    "modules": Target("modules", 530, 420),
    "tools": Target("tools/, lines", 2_968, 1_500),
    "cycle": Target("largest import cycle, type-only imports included, files", 18, 4),
    "get": Target("files entered by GET /queues/{id}", 19, 16),
    "publish": Target("files entered by a publish", 17, 16),
    "delivery": Target("files entered by a delivery", 16, 14),
    "limits": Target("places that limit use of the event loop", 8, 8),
    "length": Target("median length of a line, characters", 45, 45),
    "functions": Target("functions per file", 10.53, 10.53),
}


def measure() -> dict[str, float]:
    """Return the figures of the working tree."""
    sources = {path: path.read_text() for path in _PROGRAM.rglob("*.py")}
    lines = {path: source.count("\n") for path, source in sources.items()}
    return {
        "lines": sum(lines.values()),
        "core": sum(count for path, count in lines.items() if path.relative_to(_PROGRAM).parts[0] not in _EDGE),
        "modules": len(sources),
        "tools": sum(path.read_text().count("\n") for path in (_ROOT / "tools").rglob("*.py")),
        "cycle": _largest_cycle(),
        **_files_entered(),
        "limits": _limits(),
        "length": statistics.median(
            len(line) for source in sources.values() for line in source.splitlines() if line.strip()
        ),
        "functions": round(statistics.mean(map(_functions, sources.values())), 2),
    }


def _functions(source: str) -> int:
    return sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in ast.walk(ast.parse(source)))


def _largest_cycle() -> int:
    """Return how many modules the largest import cycle has, also one that exists for types only; 1 without a cycle."""
    # Its types are not known to mypy: it comes with the linter of imports.
    graph: Any = importlib.import_module("grimp").build_graph("discue", cache_dir=None)
    return 1 + max(
        len(graph.find_downstream_modules(module) & graph.find_upstream_modules(module)) for module in graph.modules
    )


def _files_entered() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        measured = paths.measure(Path(folder))
    names = {"get": paths.GET, "publish": paths.PUBLISH, "delivery": paths.DELIVERY}
    return {name: len(measured[operation]) for name, operation in names.items()}


def _limits() -> int:
    """Return the number of rows of the table of places that bound the use of the event loop."""
    table = re.search(r"^\| place \|.*\n\|.*\n((?:\|.*\n)+)", _LIMITS_PAGE.read_text(), re.MULTILINE)
    assert table is not None
    return table[1].count("\n")


def main() -> None:
    """Print the table."""
    measured = measure()
    print(f"{'':58}{'start':>9}{'at most':>9}{'now':>9}")
    for name, target in _TARGETS.items():
        mark = "" if measured[name] <= target.at_most else "  above"
        print(f"{target.name:58}{target.start:9,}{target.at_most:9,}{measured[name]:9,}{mark}")


if __name__ == "__main__":
    main()
