"""What does a message cost on each version of Python?"""

import sys
from contextlib import ExitStack
from pathlib import Path

from benchmarks import body
from benchmarks.bench import Bench
from benchmarks.measures.samples import Series, answered, delivered
from benchmarks.medians import ratio
from benchmarks.table import Row, seen
from tools.pythons import OWN_VERSION, version_of

PYTHONS = Path(sys.prefix) / "pythons"
"""The environments that `make pythons` makes."""


class _Side:
    """A server that one interpreter runs, in turn with the others."""

    def __init__(self, bench: Bench, stack: ExitStack, interpreter: Path) -> None:
        version = version_of(interpreter)
        self._bench = bench
        self.version = version.rpartition(".")[0]
        self._product = stack.enter_context(bench.product(f"python-{version}", interpreter=str(interpreter)))
        self._silent, self._heard = self._product.queue(), self._product.queue()
        self._listener = self._product.listener(self._heard, bench.sink.url)
        self.publish = Series(f"publish on Python {version}")
        self.end_to_end = Series(f"end to end on Python {version}")

    def publish_once(self, *, counts: bool) -> None:
        load = self._product.load(self._silent, body.single(body.MESSAGE))
        self.publish.samples.extend([answered(self._bench, self._product, load)] * counts)

    def deliver_once(self, *, counts: bool) -> None:
        sample = delivered(self._bench, self._product, self._heard, (self._listener,))
        self.end_to_end.samples.extend([sample] * counts)


def measure(bench: Bench) -> list[Row]:
    """Compare this version with those that `make pythons` has prepared. Without any, a row says so."""
    others = [path for path in PYTHONS.glob("3.*/bin/python") if not version_of(path).startswith(f"{OWN_VERSION}.")]
    if not others:
        return [seen("versions of Python", "only this one: `make pythons` prepares others")]
    with ExitStack() as stack:
        found = sorted(
            (*others, Path(sys.executable)), key=lambda path: [int(each) for each in version_of(path).split(".")]
        )
        sides = [_Side(bench, stack, interpreter) for interpreter in found]
        for counts in (False, *[True] * bench.effort.pairs):
            for side in sides:
                side.publish_once(counts=counts)
            for side in sides:
                side.deliver_once(counts=counts)
    return [
        *(side.publish.row() for side in sides),
        *(side.end_to_end.row() for side in sides),
        *_compared("publish", [(side.version, side.publish) for side in sides]),
        *_compared("end to end", [(side.version, side.end_to_end) for side in sides]),
    ]


def _compared(what: str, sides: list[tuple[str, Series]]) -> list[Row]:
    (oldest, base), *others = sides
    return [
        seen(f"{what}, CPU of Python {version} ÷ of {oldest}", f"{ratio(series.costs, base.costs):.2f}")
        for version, series in others
    ]
