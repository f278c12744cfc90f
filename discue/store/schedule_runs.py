"""Runs of schedules: a run's messages and its schedule's next run are of one transaction, so that each comes once."""

from collections.abc import Sequence
from itertools import groupby
from typing import Final, Literal

import msgspec

from discue.domain.model import Organization
from discue.domain.quotas import NO_QUOTAS, PublishUsage, Quotas, fits, quotas_of
from discue.domain.schedule import Schedule, ScheduleRun
from discue.store import organizations, schedules, tallies
from discue.store.engine import NewEntry, QueueKey, Row, Transaction
from discue.store.tables import LOG, insert_rows
from discue.store.tallies import TallyEntry

Reason = Literal["late", "schema", "too_large", "quota", "suspended", "time_zone"]
"""Why a run published nothing: its time had passed, the data does not fit the queue's schema or size any more, the
organization may publish no more, or the time zone is not known any more."""

_DAY_MS: Final = 86_400_000
_HEAD: Final = "SELECT config_version, closed_at FROM queue_head WHERE organization = $1 AND queue = $2"
_RAISE_HEAD: Final = """
    UPDATE queue_head SET head = head + $1,
        last_stored_at = CASE WHEN last_stored_at < $2 THEN $2 ELSE last_stored_at END
    WHERE organization = $3 AND queue = $4 AND closed_at IS NULL RETURNING head, last_stored_at"""


class PlannedRun(msgspec.Struct, frozen=True):
    """What a schedule, as it was seen, is to publish to its queue, and what it waits for then.

    The messages were checked against the queue of this `config_version`.
    """

    seen: Schedule
    config_version: int
    entries: tuple[NewEntry, ...]
    last_run: ScheduleRun | None
    next_run_at: int | None

    @property
    def queue(self) -> QueueKey:
        return self.seen.organization, self.seen.queue

    @property
    def load(self) -> PublishUsage:
        return PublishUsage(len(self.entries), sum(len(entry.body) for entry in self.entries))

    def skipped(self, reason: Reason) -> "PlannedRun":
        """The same without messages."""
        if self.last_run is None or not self.entries:
            return self
        last_run = msgspec.structs.replace(self.last_run, message_id="", reason=reason)
        return msgspec.structs.replace(self, entries=(), last_run=last_run)


class RunResult(msgspec.Struct, frozen=True):
    """The last seq given in each queue; and whether the configuration of one is not what was checked against."""

    heads: dict[QueueKey, int]
    is_stale: bool


async def run(tx: Transaction, planned: Sequence[PlannedRun], now: int, defaults: Quotas = NO_QUOTAS) -> RunResult:
    """Publish what each of them is to publish, and let it wait for its next run: both or neither.

    Of several that try the same run, one does it. To be called in an exclusive transaction: whoever changes a schedule
    or a queue has read it. `defaults` are the quotas of organizations that have none of their own.
    """
    heads: dict[QueueKey, int] = {}
    is_stale = False
    # Heads are locked in the order of their keys.
    for organization, of_organization in groupby(sorted(planned, key=_queue), key=lambda each: each.queue[0]):
        owner = await organizations.get(tx, organization)
        allowance = await _Allowance.of(tx, owner, now, defaults)
        for queue, group in groupby(of_organization, key=_queue):
            state = await tx.row(_HEAD, *queue)
            if owner is None or state is None or state[1] is not None:
                await _end(tx, list(group))
                continue
            current = list(group)
            fresh = [each for each in current if each.config_version == state[0]]
            is_stale |= len(fresh) < len(current)
            entries = await _advanced(tx, [allowance.taken_by(each) for each in fresh])
            head = await _append(tx, queue, entries, now) if entries else None
            if head is not None:
                heads[queue] = head
    return RunResult(heads, is_stale)


class _Allowance:
    """What an organization may still publish."""

    def __init__(self, *, is_active: bool, quotas: Quotas, used: PublishUsage) -> None:
        self._is_active = is_active
        self._quotas = quotas
        self._used = used

    @classmethod
    async def of(cls, tx: Transaction, owner: Organization | None, now: int, defaults: Quotas) -> "_Allowance":
        quotas = NO_QUOTAS if owner is None else quotas_of(owner.settings, defaults)
        used = PublishUsage()
        if owner is not None and quotas.limit_publishing:
            today = now // _DAY_MS * _DAY_MS
            periods = range(tallies.period_of(today), tallies.period_of(today + _DAY_MS))
            messages = await tallies.count_messages(tx, owner.id, periods)
            used = PublishUsage(messages, await tallies.bytes_stored(tx, owner.id))
        return cls(is_active=owner is not None and owner.state == "active", quotas=quotas, used=used)

    def taken_by(self, planned: PlannedRun) -> PlannedRun:
        """The same, or without its messages where these are too much."""
        if not self._is_active:
            return planned.skipped("suspended")
        if not fits(self._quotas, self._used, planned.load):
            return planned.skipped("quota")
        self._used += planned.load
        return planned


async def _end(tx: Transaction, planned: Sequence[PlannedRun]) -> None:
    """Their queue was deleted: nothing is due any more."""
    for each in planned:
        await schedules.advance(tx, each.seen, None, None)


async def _advanced(tx: Transaction, planned: Sequence[PlannedRun]) -> list[NewEntry]:
    """The messages of those whose run nobody else has done."""
    entries: list[NewEntry] = []
    for each in planned:
        if await schedules.advance(tx, each.seen, each.next_run_at, each.last_run):
            entries += each.entries
    return entries


async def _append(tx: Transaction, queue: QueueKey, entries: Sequence[NewEntry], now: int) -> int | None:
    """The new head; None where the queue was closed meanwhile."""
    raised = await tx.row(_RAISE_HEAD, len(entries), now, *queue)
    if raised is None:
        return None
    head, stored_at = raised
    rows = [_row(queue, seq, stored_at, entry) for seq, entry in enumerate(entries, head - len(entries) + 1)]
    await insert_rows(tx, LOG, rows)
    counted = (
        TallyEntry(queue[0], tallies.period_of(now), tallies.MESSAGE_ADDED, len(entries)),
        TallyEntry(queue[0], tallies.NOW, tallies.BYTES_STORED, sum(len(entry.body) for entry in entries)),
    )
    await tallies.add(tx, counted)
    return int(head)


def _row(queue: QueueKey, seq: int, stored_at: int, entry: NewEntry) -> Row:
    values = {
        "organization": queue[0],
        "queue": queue[1],
        "seq": seq,
        "id": entry.id,
        "stored_at": stored_at,
        "kind": 0,
        "key_hash": entry.key_hash,
        "alias": entry.alias,
        "expires_at": entry.expires_at,
        "size": len(entry.body),
        "codec": int(entry.is_json),
        "extra": entry.extra,
        "body": entry.body,
    }
    return tuple(values.get(column) for column in LOG.columns)


def _queue(planned: PlannedRun) -> QueueKey:
    return planned.queue
