"""The metrics of single listeners and queues: as many as are asked for, those with the largest backlogs first."""

from collections.abc import Mapping
from heapq import nlargest
from typing import Annotated, Final, Literal
from urllib.parse import parse_qsl

import msgspec

from discue.dispatch.dispatcher import Dispatcher
from discue.dispatch.lane.lane import Lane
from discue.domain.clock import Clock
from discue.observability.metrics import Metric, Samples, Snapshot

_DEFAULT_LIMIT: Final = 1_000
_MOST: Final = 3_333
"""Objects in a detailed response: with three metrics each, at most 10,000 samples."""

Family = Literal["listeners", "queues"]


class Details(msgspec.Struct, frozen=True):
    """A request for the metrics of single objects, those with the largest backlogs first."""

    family: Family
    queue: str = ""
    """Only this queue and its listeners; "": all."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=_MOST)] = _DEFAULT_LIMIT


_LISTENER_LABELS: Final[Mapping[str, tuple[str, ...]]] = {"queue": (), "listener": ()}
_QUEUE_LABELS: Final[Mapping[str, tuple[str, ...]]] = {"queue": ()}

DETAILED: Final = (
    Metric("discue_listener_backlog_messages", "gauge", "Deliveries that are not settled.", _LISTENER_LABELS),
    Metric(
        "discue_listener_backlog_age_seconds",
        "gauge",
        "Age of the oldest message whose first attempt has not ended.",
        _LISTENER_LABELS,
    ),
    Metric("discue_listener_retrying_messages", "gauge", "Deliveries that wait for another attempt.", _LISTENER_LABELS),
    Metric(
        "discue_queue_backlog_messages", "gauge", "Deliveries of all listeners that are not settled.", _QUEUE_LABELS
    ),
    Metric(
        "discue_queue_backlog_age_seconds",
        "gauge",
        "Age of the oldest message whose first attempt by a listener has not ended.",
        _QUEUE_LABELS,
    ),
    Metric("discue_queue_retrying_messages", "gauge", "Deliveries that wait for another attempt.", _QUEUE_LABELS),
)


def details_of(dispatcher: Dispatcher, clock: Clock, asked: Details) -> Snapshot:
    """Return the metrics of the listeners or queues that a worker has."""
    found: dict[tuple[str, ...], list[Lane]] = {}
    for lane in dispatcher.lanes:
        record = lane.record
        if not asked.queue or asked.queue == record.queue_public_id:
            listener = (record.listener_public_id,) if asked.family == "listeners" else ()
            found.setdefault((record.queue_public_id, *listener), []).append(lane)
    backlogs = {key: sum(lane.waiting for lane in lanes) for key, lanes in found.items()}
    now, kind = clock.now(), asked.family.removesuffix("s")
    backlog: Samples = []
    age: Samples = []
    retrying: Samples = []
    for key in nlargest(asked.limit, backlogs, key=backlogs.__getitem__):
        lanes = found[key]
        since = min((lane.waiting_since for lane in lanes if lane.waiting_since), default=now)
        backlog.append((key, backlogs[key]))
        age.append((key, max(0, now - since) / 1_000))
        retrying.append((key, sum(lane.cursor.retrying for lane in lanes)))
    return {
        f"discue_{kind}_backlog_messages": backlog,
        f"discue_{kind}_backlog_age_seconds": age,
        f"discue_{kind}_retrying_messages": retrying,
    }


def details_asked(query: str) -> Details:
    """Read a query such as `family=listeners&queue=…&limit=100`. Raises ValueError with a sentence for the client."""
    given = parse_qsl(query, keep_blank_values=True)
    unknown = [name for name, _ in given if name not in Details.__struct_fields__]
    if unknown or len(dict(given)) < len(given):
        raise ValueError("Known parameters, each at most once: family, queue and limit.")
    try:
        return msgspec.convert(dict(given), Details, strict=False)
    except msgspec.ValidationError:
        raise ValueError(f"`family` must be listeners or queues, and `limit` from 1 to {_MOST}.") from None
