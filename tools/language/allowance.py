"""How many hits of each rule a package may still have."""

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from tools.language.hit import Hit
from tools.language.project import ROOT, package_of

ALLOWANCE: Final = ROOT / "tests" / "language" / "allowance.toml"

_HEADER: Final = """# Hits of the language rules that are still to do, by package and rule. A number may only fall;
# `python -m tools.language --lower` writes the present ones. A package that is not named here has none.
"""

Counts = Mapping[tuple[str, str], int]
"""Numbers of hits, by package and rule."""


def count(hits: Iterable[Hit]) -> Counts:
    """Count hits by package and rule."""
    return Counter((package_of(hit.path), hit.rule) for hit in hits)


def read(path: Path = ALLOWANCE) -> Counts:
    """Read the allowance."""
    table = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {(package, rule): number for package, rules in table.items() for rule, number in rules.items()}


def lower(hits: Iterable[Hit], path: Path = ALLOWANCE) -> None:
    """Write the numbers of hits where they are lower than the allowance; a missing file allows the present ones."""
    counts, allowed = count(hits), read(path)
    kept = {key: min(number, allowed.get(key, 0)) if path.exists() else number for key, number in counts.items()}
    lines = [_HEADER]
    for package in sorted({package for (package, _), number in kept.items() if number}):
        rules = sorted((rule, number) for (name, rule), number in kept.items() if name == package and number)
        lines.append(f'["{package}"]\n' + "".join(f"{rule} = {number}\n" for rule, number in rules))
    path.write_text("\n".join(lines), encoding="utf-8")


def excess(hits: Iterable[Hit], allowed: Counts) -> list[Hit]:
    """Return the hits of the packages and rules that have more than they may."""
    found = list(hits)
    counts = count(found)
    return [hit for hit in found if counts[key := (package_of(hit.path), hit.rule)] > allowed.get(key, 0)]
