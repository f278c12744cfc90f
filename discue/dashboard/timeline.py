"""The timeline of a message: one lane for each listener, drawn to scale in time. Pure geometry, in percent."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from discue.control.messages import AttemptDetails, MessageTimeline
from discue.dashboard import formats
from discue.domain.attempts import Timings
from discue.domain.model import Delivery

_URGENCY: Final = ("missed", "retrying", "pending", "acknowledged", "filtered")
"""The order of lanes that fit on one page: those first that people look for."""

NARROWEST: Final = 0.45
"""An attempt of a few milliseconds within hours is drawn this wide, so that it can be seen."""

_TICKS: Final = 5
_NAME_BYTES: Final = 100
"""The longest name of a lane, in bytes of HTML: customers know listeners by their URLs, which may be long."""
_SHORTEST_MS: Final = 20
_MARGIN: Final = 0.06
"""Room to the right of the last event, as a part of the whole."""
_AHEAD: Final = 9
"""How many times what has passed the axis goes on, to show the next attempt: what has passed must stay visible."""
_STEPS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500)
_MS: Final = (
    *_STEPS,
    *(1_000 * step for step in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 28_800)),
    *(86_400_000 * step for step in (1, 2, 5, 10, 20, 50, 100)),
)


@dataclass(frozen=True, slots=True)
class Bar:
    x: float
    width: float
    kind: str
    """The class that gives it its colour."""
    text: str
    """A description for people, shown as the title."""


@dataclass(frozen=True, slots=True)
class ShownAttempt:
    """An attempt of a lane, split into the stages that it went through."""

    of: AttemptDetails
    started_at: int
    stages: Sequence[Bar]
    """To the scale of the longest attempt of the page."""


@dataclass(frozen=True, slots=True)
class TimelineLane:
    delivery: Delivery
    name: str
    bars: Sequence[Bar]
    next_x: float | None
    """The place of the next attempt; None if none is planned."""
    attempts: Sequence[ShownAttempt]
    summary: str
    """A sentence for people who do not see the drawing."""
    is_pulled: bool
    """Whether consumers pull its messages, so that no request can be sent to the listener."""

    @property
    def replayed(self) -> int:
        """The number of attempts that a replay made: the delivery does not count these."""
        return sum(bool(each.of.attempt.replay_id) for each in self.attempts)


@dataclass(frozen=True, slots=True)
class Drawing:
    lanes: Sequence[TimelineLane]
    attention: int
    """The number of first lanes that need attention, on the first of several pages."""
    ticks: Sequence[tuple[float, str]]
    now_x: float | None
    """The place of the present; None if it is to the right of the drawing."""

    @property
    def opened(self) -> ShownAttempt | None:
        """The attempt whose details are shown from the start: the last one of the first lane that has failed."""
        failed = [lane.attempts[-1] for lane in self.lanes if lane.attempts and lane.attempts[-1].of.attempt.error]
        return failed[0] if failed else None


class Scale:
    """Places times between 0 and 100."""

    def __init__(self, start: int, end: int) -> None:
        self.start = start
        self._span = max(_SHORTEST_MS, end - start) * (1 + _MARGIN)

    def x(self, instant: int) -> float:
        return round(100 * min(1.0, max(0.0, (instant - self.start) / self._span)), 2)

    def contains(self, instant: int) -> bool:
        return self.start <= instant <= self.start + self._span

    def ticks(self) -> list[tuple[float, str]]:
        """Return about five round times after the start, with their places."""
        step = next((each for each in _MS if self._span / each <= _TICKS + 1), _MS[-1])
        count = min(_TICKS + 1, int(self._span // step))
        shown = [
            (self.x(self.start + step * each), f"+{formats.duration(step * each)}") for each in range(1, count + 1)
        ]
        return [(x, text.replace(".0", "")) for x, text in shown if x < 96]


def draw(found: MessageTimeline, now: int) -> Drawing:
    """Draw the lanes of a message. The axis ends at the last event; as long as a delivery waits, at the present, or at
    the next attempt unless that is far away."""
    published, ends = found.message.stored_at, [found.message.stored_at]
    for delivery in found.all_deliveries:
        ends += [each.attempt.ended_at for each in found.attempts.get(delivery.listener_public_id, ())]
        if delivery.state in {"pending", "retrying"}:
            planned = delivery.next_attempt_at
            ends += [now, planned if planned - now <= _AHEAD * (now - published) else 0]
    scale = Scale(published, max(ends))
    durations = [each.attempt.duration_ms for made in found.attempts.values() for each in made]
    longest = max([1, *durations])
    shown: Sequence[Delivery] = found.all_deliveries
    if not (found.deliveries.has_next or found.deliveries.has_previous):
        shown = sorted(shown, key=lambda each: _URGENCY.index(each.state))
    lanes = [_lane(delivery, found, scale, now=now, longest=longest) for delivery in shown]
    return Drawing(lanes, len(found.attention), scale.ticks(), scale.x(now) if scale.contains(now) else None)


def _lane(delivery: Delivery, found: MessageTimeline, scale: Scale, *, now: int, longest: int) -> TimelineLane:
    made = found.attempts.get(delivery.listener_public_id, ())
    name = found.names.get(delivery.listener_public_id, delivery.listener_public_id)
    if (shown := formats.beginning(name, _NAME_BYTES)) != name:
        name = f"{shown}…"
    bars = list(_bars(delivery, made, scale, now))
    planned = delivery.next_attempt_at if delivery.state == "retrying" else 0
    return TimelineLane(
        delivery,
        name,
        bars,
        scale.x(planned) if planned and scale.contains(planned) else None,
        [ShownAttempt(each, _started(each), list(stages(each, longest))) for each in made],
        f"{name}: {delivery.state} after {formats.plural(delivery.attempts, 'attempt')}. {delivery.waits_for}".strip(),
        delivery.listener_public_id not in found.urls,
    )


def _started(made: AttemptDetails) -> int:
    return made.attempt.ended_at - max(0, made.attempt.duration_ms)


def _bars(delivery: Delivery, made: Sequence[AttemptDetails], scale: Scale, now: int) -> Iterator[Bar]:
    """Yield what happened from publishing on: waiting, an attempt, waiting for the next one, and so on."""
    at, failed = scale.start, False
    for each in made:
        started = max(at, _started(each))
        if started > at:
            text = f"{'Waited for the next attempt' if failed else 'Waited'} {formats.duration(started - at)}"
            yield _bar(scale, at, started, ("w-retry" if failed else "w-wait", text))
        failed = bool(each.attempt.error)
        end = max(started, each.attempt.ended_at)
        name = f"Attempt {each.attempt.number}{' of a replay' if each.attempt.replay_id else ''}"
        took = "" if each.attempt.withheld else f" in {formats.duration(end - started)}"
        text = f"{name}: {each.attempt.state}{took}"
        yield _bar(scale, started, end, ("a-bad" if failed else "a-good", text))
        at = end
    if delivery.state in {"pending", "retrying"} and now > at:
        yield _bar(scale, at, now, ("w-retry" if failed else "w-wait", delivery.waits_for or "Waits"))


def _bar(scale: Scale, start: int, end: int, shown: tuple[str, str]) -> Bar:
    kind, text = shown
    x = scale.x(start)
    width = max(NARROWEST if kind.startswith("a-") else 0.0, scale.x(end) - x)
    return Bar(min(x, 100 - width), round(width, 2), kind, text)


def stages(made: AttemptDetails, longest: int) -> Iterator[Bar]:
    """Yield the stages of an attempt, or a single bar if they are not kept or not shown."""
    if made.attempt.withheld:
        yield Bar(0.0, NARROWEST, "s-whole", "Not shown")
        return
    if made.detail is None:
        whole = made.attempt.duration_ms
        yield Bar(0.0, round(max(NARROWEST, 100 * whole / longest), 2), "s-whole", formats.duration(whole))
        return
    at = 0.0
    for name, kind, milliseconds in stages_of(made.detail.timings):
        width = round(100 * milliseconds / longest, 2)
        yield Bar(round(at, 2), max(NARROWEST, width), kind, f"{name} {formats.duration(milliseconds)}")
        at += width


def stages_of(timings: Timings) -> list[tuple[str, str, int]]:
    """Return the stages that took place: name, class and milliseconds.

    What they leave of the total is the body; without a first byte, the time in which no response came.
    """
    parts = [
        ("Resolve", "s-resolve", timings.resolve_ms),
        ("Connect", "s-connect", timings.connect_ms),
        ("TLS", "s-tls", timings.tls_ms),
        ("First byte", "s-first", timings.first_byte_ms),
    ]
    known = [(name, kind, milliseconds) for name, kind, milliseconds in parts if milliseconds is not None]
    rest = max(0, timings.total_ms - sum(milliseconds for *_, milliseconds in known))
    if timings.first_byte_ms is None:
        return [*known, ("No response", "s-whole", rest)] if rest or not known else known
    return [*known, ("Body", "s-body", rest)]
