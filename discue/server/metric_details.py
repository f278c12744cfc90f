"""The metrics of single listeners and queues: as many as are asked for, those with the largest backlogs first."""

from collections.abc import Mapping
from heapq import nlargest
from typing import Annotated, Final, Literal
from urllib.parse import parse_qsl

import msgspec

from discue.observability.metrics import Metric, Samples, Snapshot
from discue.server.backlogs import BacklogSum
from discue.server.metric_table import WorkerParts

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

_RETRYING: Final = "Deliveries that wait for another attempt. Leased messages are included."

DETAILED: Final = (
    Metric("discue_listener_backlog_messages", "Deliveries that are not settled.", _LISTENER_LABELS),
    Metric(
        "discue_listener_backlog_age_seconds",
        "Age of the oldest message whose first attempt has not ended.",
        _LISTENER_LABELS,
    ),
    Metric("discue_listener_retrying_messages", _RETRYING, _LISTENER_LABELS),
    Metric("discue_queue_backlog_messages", "Deliveries of all listeners that are not settled.", _QUEUE_LABELS),
    Metric(
        "discue_queue_backlog_age_seconds",
        "Age of the oldest message whose first attempt by a listener has not ended.",
        _QUEUE_LABELS,
    ),
    Metric("discue_queue_retrying_messages", _RETRYING, _QUEUE_LABELS),
)


def details_of(parts: WorkerParts, asked: Details) -> Snapshot:
    """Return the metrics of the listeners or queues that a worker reports."""
    found: dict[tuple[str, ...], BacklogSum] = {}

    def backlog_of(queue: str, listener: str) -> BacklogSum:
        return found.setdefault((queue, listener) if asked.family == "listeners" else (queue,), BacklogSum())

    for lane in parts.delivery.dispatcher.lanes:
        if asked.queue in {"", lane.record.queue_public_id}:
            backlog_of(lane.record.queue_public_id, lane.record.listener_public_id).add_lane(lane)
    for pulled in parts.jobs.pull_backlogs.all:
        if asked.queue in {"", pulled.queue}:
            backlog_of(pulled.queue, pulled.listener).add_pulled(pulled)
    now, kind = parts.control.clock.now(), asked.family.removesuffix("s")
    largest = nlargest(asked.limit, found, key=lambda key: found[key].waiting)
    backlog: Samples = [(key, found[key].waiting) for key in largest]
    age: Samples = [(key, found[key].age_seconds(now)) for key in largest]
    retrying: Samples = [(key, found[key].retrying) for key in largest]
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
