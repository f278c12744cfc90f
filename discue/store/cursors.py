"""Cursors: who owns them, and the records that lanes run on."""

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain
from typing import Any, Final, Literal

import msgspec

from discue.domain.model import DeliveryOptions, ReplaySpec
from discue.domain.representation import shows
from discue.domain.retry import RetryOptions
from discue.store import listeners
from discue.store.domains import VerifiedDomains, requires_verified_domains
from discue.store.engine import PULL_OWNER, CursorKey, Row, Transaction
from discue.store.listeners import ListenerHealth, Sweep, decode_delivery_options
from discue.store.organizations import read_retry
from discue.store.queues import read_settings
from discue.store.tables import by_index, chunks, given_rows, shifted

_LARGEST_RUN: Final = 256


@cache
def _among(key: str, count: int) -> str:
    """Return the condition that a row has one of `count` keys, whose parts are the parameters from `$2` on."""
    return f"({key}) IN ({shifted(given_rows(count, len(key.split(', '))), 1)})"


class ReplayPlan(msgspec.Struct, frozen=True):
    """The replay that a lane works on."""

    public_id: str
    until_seq: int
    """The last seq of the replay."""
    created_at: int
    """Milliseconds since the epoch."""
    pace: int | None
    """Messages per second; None: no limit."""
    filter: str | None
    """Selects the messages that are replayed; None: all."""


@shows("listener_public_id", "queue_public_id")
class LaneRecord(msgspec.Struct, frozen=True, array_like=True):
    """A cursor with its listener, the head of its queue, and everything that requests to the listener need."""

    organization: int
    listener: int
    stream: int
    """0 for the live cursor; the row id of the replay for its cursor."""
    queue: int
    owner: int
    token: int
    version: int
    position: int
    ahead: bytes | None
    acknowledged: int
    missed: int
    retrying: int
    last_success_at: int
    last_failure_at: int
    head: int
    listener_public_id: str
    queue_public_id: str
    notify_url: str
    status: Literal["enabled", "disabled"]
    """Disabled also while the organization is not active."""
    secrets: bytes
    """Stored form: encrypted, or not."""
    options: DeliveryOptions
    queue_retry: RetryOptions | None
    ordered: bool
    config_version: int
    has_inherited_requests: bool = False
    """Whether requests of a previous owner or lane may be in flight, or have ended without being counted."""
    liveness_url: str = ""
    has_redeliveries: bool = False
    """Whether a redelivery of the listener has not ended."""
    trial_job: int = 0
    """The row id of the redelivery whose trial is sending a message; 0: none."""
    trial_seq: int = 0
    """The seq of that message; 0: none."""
    start_seq: int = 0
    last_new_at: int = 0
    """When a new message was last handed out to a consumer that pulls, in milliseconds since the epoch; 0: never."""
    queue_alias: str = ""
    listener_alias: str = ""
    organization_retry: RetryOptions | None = None
    may_send: bool = True
    """False if the organization requires verified domains, and that of `notify_url` is not verified."""
    may_probe: bool = True
    """Like `may_send`, for `liveness_url`."""
    known: ListenerHealth = ListenerHealth()
    replay: ReplayPlan | None = None
    """None for the live cursor."""
    blocks: bool = False
    """Whether a missed message blocks its key."""
    causes: frozenset[int] = frozenset()
    """The ids of the stored causes of missed deliveries. Empty in pull mode, where no listener responds."""

    @property
    def key(self) -> CursorKey:
        return self.organization, self.listener, self.stream

    @property
    def is_idle(self) -> bool:
        """Whether the cursor needs no lane before the next message.

        A lane probes its listener, follows deletions of messages that block their keys, and counts requests for a rate.
        """
        is_settled = self.position >= self.head and not self.retrying and not self.known.sweep.is_on
        is_live = not self.stream and not self.has_redeliveries and self.status == "enabled" and self.may_send
        is_watched = self.liveness_url or self.options.rate_limit is not None or (self.blocks and self.missed)
        return is_settled and is_live and not is_watched


_READ_FIELDS = LaneRecord.__struct_fields__[: LaneRecord.__struct_fields__.index("may_send")]

LAST_CURSOR: CursorKey = ((1 << 63) - 1, 0, 0)
"""A key above those of all cursors."""

_HAS_ROW = """EXISTS (
    SELECT 1 FROM delivery e WHERE e.organization = c.organization AND e.listener = c.listener
    AND e.stream = c.stream AND e.state = '{}')"""
_OF_TRIAL = """CASE WHEN c.stream > 0 THEN 0 ELSE coalesce((
    SELECT {} FROM redelivery r WHERE r.organization = c.organization AND r.listener = c.listener
    AND r.ended_at IS NULL AND r.trying_seq > 0 ORDER BY r.id LIMIT 1), 0) END"""
# Adding 0 keeps the planner from taking the queue of `q` for that of `c`: each join needs the whole key from one table.
_LANES = f"""
SELECT c.organization, c.listener, c.stream, c.queue, c.owner, c.token, c.version, c.position, c.ahead,
    c.acknowledged, c.missed, c.retrying, c.last_success_at, c.last_failure_at, h.head,
    l.public_id, q.public_id, l.notify_url,
    CASE WHEN o.state = 'active' THEN l.status ELSE 'disabled' END, l.secrets, l.settings, q.settings, q.ordered,
    l.config_version,
    c.retrying > 0 AND ({_HAS_ROW.format("sending")} OR {_HAS_ROW.format("ended")}), l.liveness_url,
    c.stream = 0 AND EXISTS (
        SELECT 1 FROM redelivery r WHERE r.organization = c.organization AND r.listener = c.listener
        AND r.ended_at IS NULL),
    {_OF_TRIAL.format("r.id")}, {_OF_TRIAL.format("r.trying_seq")},
    c.start_seq, c.last_new_at, q.alias, l.alias, o.retry, o.settings,
    p.public_id, c.until_seq, p.created_at, p.pace, p.spec,
    {listeners.READ_HEALTH}
FROM cursor c
JOIN listener l ON {by_index("l.organization", "c.organization")} AND l.id = c.listener AND l.deleted_at IS NULL
JOIN queue q ON {by_index("q.organization", "c.organization")} AND q.id = c.queue AND q.deleted_at IS NULL
JOIN organization o ON {by_index("o.id", "c.organization")} AND o.deleted_at IS NULL
JOIN queue_head h ON {by_index("h.organization", "c.organization")} AND h.queue = c.queue + 0
LEFT JOIN liveness ON {by_index("liveness.organization", "c.organization")} AND liveness.listener = c.listener
LEFT JOIN replay p ON {by_index("p.organization", "c.organization")} AND p.id = c.stream
"""
_LANES_AFTER = (
    _LANES + "WHERE c.owner = $1 AND (c.organization, c.listener, c.stream) > ($2, $3, $4) "
    "AND (c.organization, c.listener, c.stream) <= ($5, $6, $7) "
    "ORDER BY c.organization, c.listener, c.stream LIMIT $8"
)
# With the key of one listener, nothing else is left to a planner; by `==` it would find `id` alone.
_LANES_OF = (
    _LANES.replace(" == ", " = ") + "WHERE c.organization = $1 AND c.listener = $2 AND c.owner = $3 ORDER BY c.stream"
)
# Every change of the owner changes the token: what the previous owner still tries to settle is then refused.
# Not `owner IS NULL`: a server whose statistics know few free cursors would search the keys among all free ones.
_CLAIM = "UPDATE cursor SET owner = $1, token = token + 1 WHERE coalesce(owner, 0) = 0 AND {} RETURNING {}"
_TAKE_ALONG = "UPDATE cursor SET owner = $1, token = token + 1 WHERE stream > 0 AND {} RETURNING {}"
# A replay's cursor keeps its owner until the live one is claimed: no worker claims a free cursor of a replay alone.
_RELEASE = """
UPDATE cursor SET owner = CASE WHEN stream > 0 THEN owner END, token = token + 1 WHERE owner = $1 AND {}"""
_RENEW_TOKENS = "UPDATE cursor SET token = token + 1 WHERE owner = $1"
_CAUSES = "SELECT organization, listener, cause FROM missed_cause WHERE (organization, listener) IN ({})"
_LISTENER_KEY = "organization, listener"
_KEY = f"{_LISTENER_KEY}, stream"


async def claim(tx: Transaction, owner: int, cursors: Sequence[CursorKey]) -> list[CursorKey]:
    """Make `owner` the only writer of those cursors that have no owner; returns these, in key order.

    Cursors of a listener's replays follow its live cursor, even if they have an owner: one worker shares the listener's
    capacity between them.
    """
    won: list[CursorKey] = []
    for keys in chunks(sorted(cursors), _LARGEST_RUN):
        # Sorted keys: concurrent claims lock rows in one order, and cannot deadlock.
        rows = await tx.rows(_CLAIM.format(_among(_KEY, len(keys)), _KEY), owner, *chain(*keys))
        won.extend((row[0], row[1], row[2]) for row in rows)
    replays: list[CursorKey] = []
    for keys in chunks(sorted(key for key in won if not key[2]), _LARGEST_RUN):
        owned = chain(*(key[:2] for key in keys))
        rows = await tx.rows(_TAKE_ALONG.format(_among(_LISTENER_KEY, len(keys)), _KEY), owner, *owned)
        replays.extend((row[0], row[1], row[2]) for row in rows)
    return sorted([*won, *replays])


async def release(tx: Transaction, owner: int, cursors: Sequence[CursorKey]) -> int:
    """Release those cursors that `owner` has, and return how many.

    The caller has nothing in flight for them, and nothing left to store.
    """
    released = 0
    for keys in chunks(sorted(cursors), _LARGEST_RUN):
        released += await tx.execute(_RELEASE.format(_among(_KEY, len(keys))), owner, *chain(*keys))
    return released


async def renew_tokens(tx: Transaction, owner: int) -> int:
    """Invalidate all settles that the owner has not completed, and return how many cursors it has."""
    return await tx.execute(_RENEW_TOKENS, owner)


async def lanes_after(
    tx: Transaction, owner: int, after: CursorKey, limit: int, *, last: CursorKey = LAST_CURSOR
) -> list[LaneRecord]:
    """Read a page of the owner's cursors in key order, up to `last`, if listener, queue and organization exist."""
    return await _records(tx, await tx.rows(_LANES_AFTER, owner, *after, *last, limit))


async def lanes_of(tx: Transaction, owner: int, organization: int, listener: int) -> list[LaneRecord]:
    """Read the owner's cursors of one listener; none if the listener was deleted."""
    return await _records(tx, await tx.rows(_LANES_OF, organization, listener, owner))


async def _records(tx: Transaction, rows: Iterable[Row]) -> list[LaneRecord]:
    verified = VerifiedDomains(tx)
    records = []
    for row in rows:
        record, settings = _record(row), row[len(_READ_FIELDS)]
        if requires_verified_domains(settings):
            may_send = await verified.has(record.organization, record.notify_url)
            may_probe = await verified.has(record.organization, record.liveness_url)
            record = msgspec.structs.replace(record, may_send=may_send, may_probe=may_probe)
        records.append(record)
    return await _with_causes(tx, records)


async def _with_causes(tx: Transaction, records: Sequence[LaneRecord]) -> list[LaneRecord]:
    """Add the stored causes. A consumer that pulls sends no responses: its causes are few, and not read."""
    found: dict[tuple[int, int], set[int]] = {}
    missing = [each for each in records if each.missed and not each.stream and each.owner != PULL_OWNER]
    for some in chunks(sorted({each.key[:2] for each in missing}), _LARGEST_RUN):
        for organization, listener, cause in await tx.rows(_CAUSES.format(given_rows(len(some), 2)), *chain(*some)):
            found.setdefault((organization, listener), set()).add(cause)
    return [
        msgspec.structs.replace(each, causes=frozenset(found[each.key[:2]])) if each.key[:2] in found else each
        for each in records
    ]


def _record(row: Row) -> LaneRecord:
    record: dict[str, Any] = dict(zip(_READ_FIELDS, row, strict=False))
    record["options"] = decode_delivery_options(record["options"])
    settings = read_settings(record["queue_retry"])
    record["queue_retry"] = settings.retry
    record["organization_retry"] = read_retry(record["organization_retry"])
    record["ordered"] = bool(record["ordered"])
    record["blocks"] = record["ordered"] and record["stream"] == 0 and settings.on_missed == "block"
    record["has_inherited_requests"] = bool(record["has_inherited_requests"])
    record["has_redeliveries"] = bool(record["has_redeliveries"])
    plan, rest = row[len(_READ_FIELDS) + 1 : len(_READ_FIELDS) + 6], row[len(_READ_FIELDS) + 6 :]
    known = listeners.parse_health(rest, record["liveness_url"], record["config_version"])
    if plan[0] is None:
        return LaneRecord(**record, known=known)
    # The sweep belongs to the live cursor.
    known = msgspec.structs.replace(known, sweep=Sweep())
    return LaneRecord(**record, known=known, replay=_plan(plan))


def _plan(row: Row) -> ReplayPlan:
    public_id, until_seq, created_at, pace, spec = row
    return ReplayPlan(public_id, until_seq, created_at, pace, msgspec.json.decode(spec, type=ReplaySpec).filter)
