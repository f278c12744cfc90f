"""What a run found, line by line, and how that is shown."""

from collections.abc import Sequence

import msgspec

_HEAD = ("measure", "value", "target", "met")


class Row(msgspec.Struct, frozen=True):
    """One line. `met` is None where there is nothing to reach."""

    name: str
    value: str
    target: str = ""
    met: bool | None = None

    @property
    def cells(self) -> tuple[str, str, str, str]:
        verdict = {None: "", True: "yes", False: "**no**"}[self.met]
        return self.name, self.value, self.target, verdict


def seen(name: str, value: str) -> Row:
    """A number that explains others, and has no target of its own."""
    return Row(name, value)


def at_least(name: str, value: float, target: float, unit: str = "") -> Row:
    return Row(name, f"{shown(value)}{unit}", f"≥ {shown(target)}{unit}", value >= target)


def below(name: str, value: float, target: float, unit: str = "") -> Row:
    return Row(name, f"{shown(value)}{unit}", f"< {shown(target)}{unit}", value < target)


def at_most(name: str, value: float, target: float, unit: str = "") -> Row:
    return Row(name, f"{shown(value)}{unit}", f"≤ {shown(target)}{unit}", value <= target)


def holds(name: str, value: str, target: str, *, met: bool) -> Row:
    """What is no single number."""
    return Row(name, value, target, met)


def shown(value: float) -> str:
    """Three digits that mean something, or all of a large number."""
    if abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def rate_and_cost(rate: float, cpu_us: float, noise: float) -> str:
    """How a thing that was measured often is shown: its medians, and how far it is from itself."""
    return f"{shown(rate)}/s, {shown(cpu_us)} µs CPU, noise {noise:.1%}"


def markdown(rows: Sequence[Row]) -> str:
    """The table, its columns aligned, so that it reads well as plain text too."""
    lines = [_HEAD, *(row.cells for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    text.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(text) + "\n"
