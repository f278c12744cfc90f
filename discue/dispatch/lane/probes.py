"""Probes the listeners whose lanes are here: one heap of due times, one request for all that share a URL."""

from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from discue.dispatch.lane.breaker import CircuitBreaker
from discue.dispatch.lane.endpoint import Endpoint
from discue.dispatch.lane.gate import ConcurrencyLimiter
from discue.dispatch.lane.health_writer import HealthWriter, Stored
from discue.dispatch.lane.probe import Probe
from discue.dispatch.lane.tenure import WorkerLease
from discue.dispatch.timers import Sleeper
from discue.domain.clock import Clock
from discue.domain.egress import Target
from discue.domain.ids import millisecond_of
from discue.domain.listener_health import (
    FIRST_PROBE_MS,
    IDLE_INTERVAL_MS,
    RECOVERY_INTERVAL_MS,
    Liveness,
    after_probe,
    is_conclusive,
    probe_error,
    probe_interval_ms,
    with_jitter,
)
from discue.sending.fetch import FetchResult
from discue.store.engine import CursorKey

PROBES_AT_ONCE: Final = 256

_SPREAD_MS: Final = 1_000
_LAPSED_MS: Final = 1_000


class Probed(Stored, Protocol):
    """What probing needs to know of a lane."""

    endpoint: Endpoint
    breaker: CircuitBreaker

    @property
    def key(self) -> CursorKey: ...

    @property
    def has_waiting(self) -> bool:
        """Whether anything is to be sent."""
        ...

    @property
    def last_failure_at(self) -> int:
        """When an attempt last failed."""
        ...

    def probed(self, liveness: Liveness) -> None:
        """How the listener is by the latest probe."""
        ...


class _Pulse:
    """One listener. It is to be probed at `due_at`, `interval` after the last time."""

    __slots__ = ("changed_at", "config_version", "due_at", "interval", "lane", "place")

    def __init__(self, lane: Probed, place: "_Place", due_at: int, changed_at: int) -> None:
        self.lane = lane
        self.place = place
        self.due_at = due_at
        self.interval = RECOVERY_INTERVAL_MS
        self.changed_at = changed_at
        self.config_version = lane.endpoint.config_version


class _Place:
    """A URL, and the listeners that have it. To the alarms it is a sleeper, and to the gate a lane."""

    __slots__ = (
        "_begin",
        "closed",
        "due_at",
        "in_flight_count",
        "is_queued",
        "max_in_flight",
        "organization",
        "pulses",
        "target",
        "url",
        "wakes_at",
    )

    def __init__(self, url: str, target: Target, organization: int, begin: "Callable[[_Place], None]") -> None:
        self.url = url
        self.target = target
        self.organization = organization
        self.pulses: dict[CursorKey, _Pulse] = {}
        self.due_at = 0
        self.wakes_at = 0
        self.closed = False
        self.is_queued = False
        self.in_flight_count = 0
        self.max_in_flight = 1
        self._begin = begin

    def wake(self) -> None:
        self._begin(self)

    def pump(self) -> None:
        self._begin(self)


class Prober:
    """A listener is probed where its cursor is owned, and nowhere else.

    Probes under way are bounded, and shared between organizations as requests to listeners are: those of one whose
    URLs all hang leave places for the others.
    """

    def __init__(
        self,
        probe: Probe,
        sources: tuple[Clock, Callable[[], float]],
        lease: WorkerLease,
        wake_at: Callable[[Sleeper, int], None],
        health_writer: HealthWriter,
    ) -> None:
        self._probe = probe
        self._clock, self._random = sources
        self._lease = lease
        self._wake_at = wake_at
        self._health_writer = health_writer
        self._gate = ConcurrencyLimiter(PROBES_AT_ONCE)
        self._places: dict[str, _Place] = {}
        self._pulses: dict[CursorKey, _Pulse] = {}

    @property
    def places(self) -> int:
        """How many URLs are probed."""
        return len(self._places)

    def follow(self, lane: Probed) -> None:
        """The lane has begun. Of a listener only the cursor that is live counts."""
        if lane.endpoint.probed is not None and not lane.key[2]:
            now, created_at = self._clock.now(), millisecond_of(lane.key[1])
            self._add(lane, lane.endpoint.probed, self._first_at(lane, created_at, now), created_at)

    def configured(self, lane: Probed) -> None:
        """Its configuration may be another one."""
        now, pulse, target = self._clock.now(), self._pulses.get(lane.key), lane.endpoint.probed
        if lane.key[2]:
            return
        if pulse is None or target is None or lane.endpoint.liveness_url != pulse.place.url:
            if pulse is not None:
                self._remove(pulse)
            if target is not None:
                self._add(lane, target, self._soon(now), now)
        elif pulse.config_version != lane.endpoint.config_version:
            pulse.config_version, pulse.changed_at = lane.endpoint.config_version, now
            self._hasten(pulse, now)

    def forget(self, lane: Probed) -> None:
        """The lane has ended."""
        pulse = self._pulses.get(lane.key)
        if pulse is not None and pulse.lane is lane:
            self._remove(pulse)

    def failed(self, lane: Probed, *, needs_notification: bool) -> None:
        """An attempt failed, which is to be stored if it `is_news`. Whoever was left alone for long is probed soon."""
        if needs_notification:
            self.note(lane)
        if (pulse := self._pulses.get(lane.key)) is not None and pulse.interval == IDLE_INTERVAL_MS:
            self._hasten(pulse, self._clock.now())

    def note(self, lane: Probed) -> None:
        """Something changed that is stored with what probing says."""
        if not lane.key[2]:
            self._health_writer.note(lane)

    def _first_at(self, lane: Probed, created_at: int, now: int) -> int:
        known = lane.breaker.liveness
        if not known.success_count and not known.failure_count:
            return self._soon(now)
        # A worker that starts, or takes over from another, spreads what it finds over the whole interval.
        is_quiet = self._is_quiet(lane, known, created_at, now)
        return now + int(probe_interval_ms(known, is_idle=is_quiet) * self._random())

    def _soon(self, now: int) -> int:
        return now + FIRST_PROBE_MS + int(_SPREAD_MS * self._random())

    def _hasten(self, pulse: _Pulse, now: int) -> None:
        pulse.interval = RECOVERY_INTERVAL_MS
        pulse.due_at = min(pulse.due_at, self._soon(now))
        self._expect(pulse.place, pulse.due_at)

    def _add(self, lane: Probed, target: Target, due_at: int, changed_at: int) -> None:
        url = lane.endpoint.liveness_url
        place = self._places.get(url)
        if place is None:
            place = self._places[url] = _Place(url, target, lane.key[0], self._begin)
        pulse = self._pulses[lane.key] = place.pulses[lane.key] = _Pulse(lane, place, due_at, changed_at)
        self._expect(place, pulse.due_at)

    def _remove(self, pulse: _Pulse) -> None:
        key, place = pulse.lane.key, pulse.place
        del self._pulses[key], place.pulses[key]
        if not place.pulses:
            place.closed = True
            del self._places[place.url]

    def _expect(self, place: _Place, due_at: int) -> None:
        if not place.due_at or due_at < place.due_at:
            place.due_at = due_at
            self._wake_at(place, due_at)

    def _begin(self, place: _Place) -> None:
        """Probe the place if its time has come, and there is room."""
        if place.closed or place.in_flight_count or not place.due_at:
            return
        now = self._clock.now()
        if now < place.due_at:
            self._wake_at(place, place.due_at)
        elif not self._lease.is_held():
            self._wake_at(place, now + _LAPSED_MS)
        elif self._gate.enter(place):
            place.in_flight_count = 1
            place.due_at = 0
            self._probe(place.target, partial(self._ended, place))

    def _ended(self, place: _Place, fetched: FetchResult) -> None:
        self._gate.leave(place.organization)
        place.in_flight_count = 0
        now = self._clock.now()
        for pulse in tuple(place.pulses.values()):
            # Whoever would have been asked soon need not be asked again.
            if pulse.due_at - now <= pulse.interval // 2:
                self._take(pulse, fetched, now)
        if place.pulses:
            place.due_at = 0
            self._expect(place, min(pulse.due_at for pulse in place.pulses.values()))
        self._gate.call_waiting()

    def _take(self, pulse: _Pulse, fetched: FetchResult, now: int) -> None:
        lane = pulse.lane
        before = after = lane.breaker.liveness
        if is_conclusive(fetched.error):
            after = after_probe(before, probe_error(fetched.error, fetched.status), fetched.status, now)
        is_quiet = self._is_quiet(lane, after, pulse.changed_at, now)
        pulse.interval = probe_interval_ms(after, is_idle=is_quiet)
        pulse.due_at = now + with_jitter(pulse.interval, self._random())
        if after is not before:
            lane.probed(after)
            self._health_writer.probed(lane, before, after)

    def _is_quiet(self, lane: Probed, liveness: Liveness, changed_at: int, now: int) -> bool:
        last = max(changed_at, liveness.last_failure_at, lane.last_failure_at)
        return not lane.has_waiting and now - last >= IDLE_INTERVAL_MS
