"""What delivers a part of the log once more: a lane beside the listener's live one, which ends."""

import asyncio
from functools import partial

from discue.dispatch.lane.breaker import CircuitBreaker
from discue.dispatch.lane.cursor_state import CursorState
from discue.dispatch.lane.endpoint import Endpoint
from discue.dispatch.lane.fair_share import Sharer
from discue.dispatch.lane.flush import STORE_RETRY_SECONDS
from discue.dispatch.lane.lane import Lane, LaneContext
from discue.dispatch.lane.replay_state import ReplayCursorState
from discue.domain.errors import StoreUnusable, Unavailable
from discue.domain.filters.filters import compile_filter
from discue.domain.messages import Entry
from discue.domain.rate import RateLimit, TokenBucket
from discue.store import replays
from discue.store.cursors import LaneRecord, ReplayPlan
from discue.store.engine import Settle
from discue.store.listener_health import ListenerHealth


class ReplayLane(Lane):
    """It sends while the listener's live lane is here and may send without limits: what that says of the listener holds
    here, too, and how many requests are under way is shared with it.
    """

    def __init__(self, record: LaneRecord, plan: ReplayPlan, endpoint: Endpoint, context: LaneContext) -> None:
        super().__init__(record, endpoint, context)
        self._plan = plan
        self._filter = None if plan.filter is None else compile_filter(plan.filter)
        limit = None if plan.pace is None else RateLimit(plan.pace, 1)
        self._own_pace = TokenBucket(limit, context.clock.monotonic(), is_full=False)
        self.breaker = CircuitBreaker(ListenerHealth())
        self._is_ending = False

    def begin(self, head: int) -> None:
        super().begin(head)
        self._end_if_done()

    def published(self, entries: tuple[Entry, ...]) -> None:
        """They are beyond the end."""

    def follow(self, live: Sharer | None) -> None:
        self.lead = live if isinstance(live, Lane) else self
        self.max_in_flight = self.lead.max_in_flight

    def start(self) -> None:
        self.max_in_flight = self.lead.max_in_flight
        super().start()

    def stored(self, settle: Settle) -> None:
        super().stored(settle)
        self._end_if_done()

    def looked(self) -> None:
        super().looked()
        self._end_if_done()

    async def miss_older_than(self, before: int) -> None:
        """Its messages are as old as the replay."""
        if self._plan.created_at < before:
            await super().miss_older_than(before)

    def _new_progress(self) -> CursorState:
        return ReplayCursorState(self.record, self._context.clock)

    def _is_open(self) -> bool:
        return self.fair_share is not None and self.fair_share.is_open

    @property
    def _has_turn(self) -> bool:
        if self._backlog.is_empty:
            return True
        wait_seconds = self._own_pace.wait_seconds(self._context.clock.monotonic())
        if wait_seconds > 0:
            self.wait_for_pace(wait_seconds)
            return False
        return super()._has_turn

    def wants(self, entry: Entry) -> bool:
        return super().wants(entry) and (self._filter is None or self._filter.accepts(entry))

    def given_up(self, entry: Entry, waits_since: int, now: int) -> str:
        return super().given_up(entry, max(waits_since, self._plan.created_at), now)

    def _gives_up(self, now: int) -> bool:
        """What is sent again says little of how the listener is."""
        del now
        return False

    def send(self, entry: Entry, number: int, *, is_retry: bool) -> None:
        self._own_pace.take(self._context.clock.monotonic())
        super().send(entry, number, is_retry=is_retry)

    @property
    def _is_done(self) -> bool:
        progress = self._progress
        through = progress.window.position >= self._plan.until_seq and not progress.retrying
        return through and self.is_settled and self.is_kept()

    def _end_if_done(self) -> None:
        progress = self._progress
        through = progress.window.position >= self._plan.until_seq and not progress.retrying
        if through and not progress.dirty and not self._is_ending:
            self._is_ending = True
            self._context.spawn(self._end())

    async def _end(self) -> None:
        """The cursor goes, if nothing came up meanwhile."""
        try:
            while self._is_done:
                version, now = self._progress.version, self._context.clock.now()
                end = partial(replays.end, key=self.key, token=self.record.token, version=version, now=now)
                try:
                    ended = await self._context.store.write(end)
                except (Unavailable, StoreUnusable):
                    await asyncio.sleep(STORE_RETRY_SECONDS)
                    continue
                if not self.closed:
                    self._context.ended(self) if ended else self.lose()
                return
        finally:
            self._is_ending = False
