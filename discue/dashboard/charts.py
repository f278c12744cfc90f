"""Charts as SVG: their geometry, in percent. The numbers behind them are in a table next to each."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import ceil
from typing import Final
from urllib.parse import urlencode

from discue.control.activity import Activity
from discue.dashboard.fields import typed
from discue.domain.attempts import StoredAttempt

_COUNTED: Final = ("published", "acknowledged", "failed")
_GAP: Final = 0.25
_LOWEST: Final = 1.0
_FIGURES: Final = (1, 2, 5)
_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a chart: the attempts of some minutes, those that failed on top."""

    started_at: int
    ended_at: int
    x: float
    width: float
    good: float
    """Height in percent, like `bad`."""
    bad: float
    published: int
    acknowledged: int
    failed: int

    @property
    def query(self) -> str:
        """The query that selects the attempts of this column in a list."""
        return "?" + urlencode({"since": typed(self.started_at), "until": typed(self.ended_at)})


@dataclass(frozen=True, slots=True)
class Columns:
    columns: Sequence[Column]
    top: int
    labels: Sequence[tuple[float, int]]
    """Times below the columns, with their places."""
    has_days: bool
    """Whether the labels are days instead of hours."""

    @property
    def is_empty(self) -> bool:
        return not any(each.acknowledged or each.failed for each in self.columns)


def columns(activity: Sequence[Activity], length: int, labelled: int) -> Columns:
    """Return the chart of attempts. `length` is the duration of a column; a column that begins at a multiple of
    `labelled` has a label. Both are in milliseconds.
    """
    groups = [list(group) for _, group in groupby(activity, key=lambda each: each.started_at // length)]
    top = round_up(max([1, *(sum(each.acknowledged + each.failed for each in group) for group in groups)]))
    step = 100 / len(groups)
    shown = []
    for index, group in enumerate(groups):
        published, good, bad = (sum(getattr(each, name) for each in group) for name in _COUNTED)
        place = (round(index * step, 3), round(step * (1 - _GAP), 3), _height(good, top), _height(bad, top))
        begin = group[0].started_at
        shown.append(Column(begin, begin - begin % length + length, *place, published, good, bad))
    labels = [(each.x, each.started_at) for each in shown if each.started_at % labelled == 0]
    return Columns(shown, top, labels, has_days=labelled >= _DAY_MS)


def round_up(value: int) -> int:
    """Return the smallest of 1, 2, 5, 10, 20, 50, … that is not less."""
    power = 1
    while True:
        for figure in _FIGURES:
            if figure * power >= value:
                return figure * power
        power *= 10


def _height(value: int, top: int) -> float:
    """Return the height of a value. A value that is not 0 can be seen."""
    return max(_LOWEST, round(100 * value / top, 2)) if value else 0.0


@dataclass(frozen=True, slots=True)
class Spike:
    x: float
    width: float
    height: float
    kind: str


def sparkline(attempts: Sequence[StoredAttempt]) -> Sequence[Spike]:
    """Return the durations of attempts, the oldest at the left, which are given the newest first."""
    shown = attempts[::-1]
    longest = max([1, *(each.duration_ms for each in shown)])
    step = 100 / max(1, len(shown))
    return [
        Spike(
            round(index * step, 3),
            round(step * (1 - _GAP), 3),
            max(12.0, round(100 * max(0, each.duration_ms) / longest, 2)),
            "a-bad" if each.error else "a-good",
        )
        for index, each in enumerate(shown)
    ]


def percentiles(attempts: Sequence[StoredAttempt]) -> tuple[int, int] | None:
    """Return p50 and p95 of the durations that the user may see, in milliseconds; None if there are none."""
    durations = sorted(each.duration_ms for each in attempts if not each.withheld)
    if not durations:
        return None
    p50, p95 = (durations[ceil(len(durations) * share / 100) - 1] for share in (50, 95))
    return p50, p95
