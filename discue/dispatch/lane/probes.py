"""Probes listeners on this worker, and stores what is known of their health."""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from discue.dispatch.lane.backlog import Backlog
from discue.dispatch.lane.context import STARTS_PER_TURN, WorkerContext
from discue.dispatch.lane.limits import ConcurrencyLimiter, Limits, Slots, Turns
from discue.dispatch.lane.owned_cursor import STORE_RETRY_SECONDS, OwnedCursor
from discue.domain.concurrency import AdaptiveLimit
from discue.domain.egress import Target
from discue.domain.errors import StoreUnusable, Unavailable
from discue.domain.ids import millisecond_of
from discue.domain.listener_health import (
    FIRST_PROBE_MS,
    IDLE_INTERVAL_MS,
    PROBE_TIMEOUT_SECONDS,
    RECOVERY_INTERVAL_MS,
    Liveness,
    LivenessState,
    after_probe,
    is_conclusive,
    needs_notification,
    probe_error,
    probe_interval_ms,
    with_jitter,
)
from discue.sending.fetch import Fetcher, FetchResult
from discue.store import listeners
from discue.store.engine import CursorKey
from discue.store.listeners import HealthRecord, ListenerHealth

LATE_MS: Final = 60_000
"""How long counts may wait until they are stored."""

_SPREAD_MS: Final = 1_000
_LAPSED_MS: Final = 1_000

Probe = Callable[[Target, Callable[[FetchResult], None]], None]
"""Probes a target once, and calls back with the response later."""


class ProbedLane(Protocol):
    owned: OwnedCursor
    backlog: Backlog
    limits: Limits

    def on_probe(self, liveness: Liveness) -> None: ...


class ProbeSender:
    """Sends probes: to checked addresses only, without following redirects, each within five seconds."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def in_flight(self) -> int:
        """How many probes have no response yet."""
        return len(self._tasks)

    def __call__(self, target: Target, done: Callable[[FetchResult], None]) -> None:
        task = asyncio.get_running_loop().create_task(self._send(target, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, target: Target, done: Callable[[FetchResult], None]) -> None:
        done(await self._fetcher.get(target, PROBE_TIMEOUT_SECONDS))

    async def close(self) -> None:
        """Cancel the probes in flight. Their callbacks are not called."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class HealthWriter:
    """Stores the health of listeners, many in a write.

    What changes how messages are sent is written at once. Counts wait for a minute at most, and are lost if the process
    is killed.
    """

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._late: dict[ProbedLane, None] = {}
        """Lanes whose health may be written later."""
        self._due: dict[ProbedLane, None] = {}
        self._stored: dict[ProbedLane, LivenessState] = {}
        """The state in the store of each lane whose state has changed since."""
        self._task: asyncio.Task[None] | None = None
        self.wakes_at = 0
        self.is_closed = False
        """Set to store nothing any more."""

    def on_change(self, lane: ProbedLane, before: Liveness, after: Liveness) -> None:
        """Store what a probe or the end of trials has changed."""
        log, listener = self._context.log, lane.owned.record.listener_public_id
        if before.state != after.state:
            self._stored.setdefault(lane, before.state)
            if after.state == "inactive":
                log.warning("listener_inactive", listener=listener, reason=after.last_failure_msg)
            elif before.state == "inactive":
                log.info("listener_recovered", listener=listener, state=after.state)
            else:
                log.debug("liveness", listener=listener, state=after.state, before=before.state)
        if needs_notification(before, after):
            self._late.pop(lane, None)
            self._due[lane] = None
            self._start()
        else:
            self.note(lane)

    def note(self, lane: ProbedLane) -> None:
        """Store the health of a listener later. Replays have no health."""
        if lane.owned.key[2]:
            return
        if not self._late:
            self._context.wake_at(self, self._context.clock.now() + LATE_MS)
        if lane not in self._due:
            self._late[lane] = None

    def is_noted(self, lane: ProbedLane) -> bool:
        """Whether the health of a listener waits until it is stored."""
        return lane in self._late or lane in self._due

    def wake(self) -> None:
        self._due.update(self._late)
        self._late.clear()
        self._start()

    def on_clock_set_back(self, _now: int) -> None:
        self.wake()

    async def store(self, lanes: Collection[ProbedLane]) -> None:
        """Try once to store the health of these lanes, before their cursors are given up. Only counts can be lost."""
        unstored = [lane for lane in lanes if lane in self._late or lane in self._due]
        at_once = self._context.tuning.health_records_per_write
        with suppress(Unavailable, StoreUnusable):
            for start in range(0, len(unstored), at_once):
                await self._write(unstored[start : start + at_once])

    def _start(self) -> None:
        if self._task is None and self._due and not self.is_closed:
            self._task = self._context.spawn(self._write_all())

    async def _write_all(self) -> None:
        try:
            while self._due and not self.is_closed:
                try:
                    await self._write(list(self._due)[: self._context.tuning.health_records_per_write])
                except (Unavailable, StoreUnusable):
                    # Not `write_until_stored`: the next write takes what has changed meanwhile.
                    await asyncio.sleep(STORE_RETRY_SECONDS)
        finally:
            self._task = None

    async def _write(self, lanes: list[ProbedLane]) -> None:
        records = list[HealthRecord]()
        changed: dict[ProbedLane, LivenessState] = {}
        for lane in lanes:
            self._late.pop(lane, None)
            self._due.pop(lane, None)
            was = self._stored.pop(lane, None)
            if lane.owned.is_closed:
                continue
            (organization, listener, _), token, endpoint = lane.owned.key, lane.owned.record.token, lane.owned.endpoint
            breaker = lane.limits.breaker
            health = ListenerHealth(breaker.liveness, breaker.failing, lane.backlog.swept())
            url, version = endpoint.liveness_url, endpoint.config_version
            event_id = 0
            if was is not None:
                changed[lane] = was
                if (was == "inactive") != (health.liveness.state == "inactive"):
                    event_id = self._context.row_ids.next()
            records.append(HealthRecord(organization, listener, token, url, version, health, event_id))
        if not records:
            return
        try:
            # Records of cursors that another worker owns are ignored. Their lanes are dropped anyway.
            await self._context.store.write(partial(listeners.write_health, records=records))
        except (Unavailable, StoreUnusable):
            self._due.update((lane, None) for lane in lanes)
            self._stored |= changed
            raise


@dataclass(slots=True)
class _ProbedListener:
    """The schedule of one listener's probes."""

    lane: ProbedLane
    url: "_ProbedUrl"
    due_at: int
    changed_at: int
    """When the listener was created, or changed."""
    config_version: int
    interval: int = RECOVERY_INTERVAL_MS
    """Milliseconds between the last probe and `due_at`."""


class _ProbedUrl(Slots):
    """A URL and the listeners of an organization that share it: one probe is for all of them."""

    __slots__ = ("due_at", "is_closed", "listeners", "target", "url", "wakes_at")

    def __init__(self, url: str, target: Target, organization: int, pump: "Callable[[_ProbedUrl], None]") -> None:
        super().__init__(organization, AdaptiveLimit(1), partial(pump, self))
        self.url = url
        self.target = target
        self.listeners: dict[CursorKey, _ProbedListener] = {}
        self.due_at = 0
        """When the next probe is due, in milliseconds since the epoch; 0 while one is in flight."""
        self.wakes_at = 0
        self.is_closed = False

    def wake(self) -> None:
        self.pump()

    def on_clock_set_back(self, now: int) -> None:
        for listener in self.listeners.values():
            listener.due_at = min(listener.due_at, now + listener.interval)
            self.due_at = min(self.due_at, listener.due_at)
        self.pump()


class Prober:
    """Probes each listener whose live cursor this worker owns.

    Probes in flight are bounded, and shared between organizations like requests to listeners, so that URLs that hang do
    not use all slots.
    """

    def __init__(self, probe: Probe, context: WorkerContext) -> None:
        self._probe = probe
        self._context = context
        self.health = HealthWriter(context)
        self._limiter = ConcurrencyLimiter(
            context.tuning.probes_at_once, Turns(context.clock.monotonic, most=STARTS_PER_TURN)
        )
        self._urls: dict[tuple[int, str], _ProbedUrl] = {}
        """By organization: none waits for a probe that is queued among those of another."""
        self._listeners: dict[CursorKey, _ProbedListener] = {}

    def follow(self, lane: ProbedLane) -> None:
        """Probe the listener of a lane that has begun. Replays are not probed."""
        if lane.owned.endpoint.probed is not None and not lane.owned.key[2]:
            now, created_at = self._context.clock.now(), millisecond_of(lane.owned.key[1])
            self._add(lane, lane.owned.endpoint.probed, self._first_at(lane, created_at, now), created_at)

    def configured(self, lane: ProbedLane) -> None:
        now, endpoint = self._context.clock.now(), lane.owned.endpoint
        listener, target = self._listeners.get(lane.owned.key), endpoint.probed
        if lane.owned.key[2]:
            return
        if listener is None or target is None or endpoint.liveness_url != listener.url.url:
            if listener is not None:
                self._remove(listener)
            if target is not None:
                self._add(lane, target, self._soon(now), now)
        elif listener.config_version != endpoint.config_version:
            listener.config_version, listener.changed_at = endpoint.config_version, now
            self._hasten(listener, now)

    def unfollow(self, lane: ProbedLane) -> None:
        """Stop probing for a lane that was closed."""
        listener = self._listeners.get(lane.owned.key)
        if listener is not None and listener.lane is lane:
            self._remove(listener)

    def on_failure(self, lane: ProbedLane, *, health_changed: bool) -> None:
        """Probe a listener soon whose attempt failed, if it is probed rarely. Store its health if that changed."""
        if health_changed:
            self.health.note(lane)
        if (listener := self._listeners.get(lane.owned.key)) is not None and listener.interval == IDLE_INTERVAL_MS:
            self._hasten(listener, self._context.clock.now())

    def _first_at(self, lane: ProbedLane, created_at: int, now: int) -> int:
        known = lane.limits.breaker.liveness
        if not known.success_count and not known.failure_count:
            return self._soon(now)
        # A worker that starts or takes over spreads the probes over the whole interval.
        return now + int(self._interval(lane, known, created_at, now) * self._context.random())

    def _soon(self, now: int) -> int:
        return now + FIRST_PROBE_MS + int(_SPREAD_MS * self._context.random())

    def _hasten(self, listener: _ProbedListener, now: int) -> None:
        listener.interval = RECOVERY_INTERVAL_MS
        listener.due_at = min(listener.due_at, self._soon(now))
        self._schedule(listener.url, listener.due_at)

    def _add(self, lane: ProbedLane, target: Target, due_at: int, changed_at: int) -> None:
        organization, name = lane.owned.key[0], lane.owned.endpoint.liveness_url
        url = self._urls.get((organization, name))
        if url is None:
            url = self._urls[organization, name] = _ProbedUrl(name, target, organization, self._pump)
        listener = self._listeners[lane.owned.key] = _ProbedListener(
            lane, url, due_at, changed_at, lane.owned.endpoint.config_version
        )
        url.listeners[lane.owned.key] = listener
        self._schedule(url, due_at)

    def _remove(self, listener: _ProbedListener) -> None:
        key, url = listener.lane.owned.key, listener.url
        del self._listeners[key], url.listeners[key]
        if not url.listeners:
            url.is_closed = True
            del self._urls[url.organization, url.url]

    def _schedule(self, url: _ProbedUrl, due_at: int) -> None:
        if not url.due_at or due_at < url.due_at:
            url.due_at = due_at
            self._context.wake_at(url, due_at)

    def _pump(self, url: _ProbedUrl) -> None:
        """Send the probe of a URL, if it is due and a slot is free."""
        if url.is_closed or url.in_flight or not url.due_at:
            return
        now = self._context.clock.now()
        if now < url.due_at:
            self._context.wake_at(url, url.due_at)
        elif not self._context.session.is_held():
            self._context.wake_at(url, now + _LAPSED_MS)
        elif self._limiter.acquire(url):
            url.due_at = 0
            self._probe(url.target, partial(self._on_response, url))
        else:
            self._limiter.wait(url)

    def _on_response(self, url: _ProbedUrl, fetched: FetchResult) -> None:
        self._limiter.release(url)
        now = self._context.clock.now()
        for listener in tuple(url.listeners.values()):
            # A listener that would be probed soon need not be probed again.
            if listener.due_at - now <= listener.interval // 2:
                self._apply(listener, fetched, now)
        if url.listeners:
            url.due_at = 0
            self._schedule(url, min(listener.due_at for listener in url.listeners.values()))
        self._limiter.pump_waiting()

    def _apply(self, listener: _ProbedListener, fetched: FetchResult, now: int) -> None:
        lane = listener.lane
        breaker = lane.limits.breaker
        before = after = breaker.liveness
        if is_conclusive(fetched.error):
            error = probe_error(fetched.error, fetched.status, fetched.detail)
            after = after_probe(before, error, fetched.status, now, acknowledges=breaker.acknowledges)
        listener.interval = self._interval(lane, after, listener.changed_at, now)
        listener.due_at = now + with_jitter(listener.interval, self._context.random())
        if after is not before:
            lane.on_probe(after)
            self.health.on_change(lane, before, after)

    def _interval(self, lane: ProbedLane, known: Liveness, changed_at: int, now: int) -> int:
        """Return the milliseconds to the next probe. A listener is idle if nothing waits, and no news came lately."""
        cursor = lane.owned.cursor
        has_waiting = lane.backlog.head > cursor.window.position or cursor.retrying > 0
        last = max(changed_at, known.last_failure_at, cursor.last_failure_at)
        return probe_interval_ms(known, is_idle=not has_waiting and now - last >= IDLE_INTERVAL_MS)
