"""The metrics of all workers of a machine, in one place: `GET /metrics` and `GET /metrics/detailed`."""

import asyncio
import hmac
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from heapq import nlargest
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import parse_qsl

import msgspec

from discue.http.pipeline import HOST_MISSING, lacks_host
from discue.http.rsgi import HttpHeaders, HttpProtocol, HttpScope
from discue.observability.metrics import (
    OPENMETRICS,
    TEXT,
    Metric,
    Snapshot,
    decode_snapshot,
    encode_snapshot,
    exposition,
)
from discue.sending.dialer import SharedTasks
from discue.server.metric_table import METRICS, BacklogSum, snapshot_of
from discue.server.worker import Worker

PATH: Final = "/metrics"
DETAILED_PATH: Final = "/metrics/detailed"

_PEER_SECONDS: Final = 1.0
_MOST: Final = 3_333
"""Objects in a detailed response: with three metrics each, at most 10,000 samples."""


class Details(msgspec.Struct, frozen=True):
    """A request for the metrics of single objects, those with the largest backlogs first."""

    family: Literal["listeners", "queues"]
    queue: str = ""
    """Only this queue and its listeners; "": all."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=_MOST)] = 1_000


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


def details_of(worker: Worker, asked: Details) -> Snapshot:
    """Return the metrics of the listeners or queues that a worker reports."""
    found: dict[tuple[str, ...], BacklogSum] = {}

    def backlog_of(queue: str, listener: str) -> BacklogSum:
        return found.setdefault((queue, listener) if asked.family == "listeners" else (queue,), BacklogSum())

    lanes = worker.delivery.dispatcher.lanes
    for lane in lanes:
        if asked.queue in {"", lane.record.queue_public_id}:
            backlog = backlog_of(lane.record.queue_public_id, lane.record.listener_public_id)
            backlog.add(lane.waiting, lane.cursor.retrying, lane.waiting_since)
    for record in islice(lanes.idle_records(asked.queue), asked.limit):
        backlog_of(record.queue_public_id, record.listener_public_id)
    for pulled in worker.jobs.pull_backlogs.all:
        if asked.queue in {"", pulled.queue}:
            backlog_of(pulled.queue, pulled.listener).add(pulled.waiting, pulled.retrying, pulled.since)
    now, kind = worker.control.clock.now(), asked.family.removesuffix("s")
    largest = nlargest(asked.limit, found, key=lambda key: found[key].waiting)
    return {
        f"discue_{kind}_backlog_messages": [(key, found[key].waiting) for key in largest],
        f"discue_{kind}_backlog_age_seconds": [(key, found[key].age_seconds(now)) for key in largest],
        f"discue_{kind}_retrying_messages": [(key, found[key].retrying) for key in largest],
    }


def measured(worker: Worker, asked: Details | None) -> Snapshot:
    """Return the metrics of a worker, or only those of the requested listeners or queues."""
    return snapshot_of(worker) if asked is None else details_of(worker, asked)


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


@dataclass(eq=False)
class WorkerMetrics:
    """The measures of all workers of a machine. Each asks the others over Unix sockets in a folder that they share."""

    measure: Callable[[Details | None], Snapshot]
    """Measures this worker."""
    number: int = 1
    folder: Path | None = None
    """The folder with the sockets of all workers; None if there is only one."""
    _server: asyncio.Server | None = field(default=None, init=False)
    _in_flight: SharedTasks[Details | None, dict[str, Snapshot]] = field(default_factory=SharedTasks, init=False)

    async def start(self) -> None:
        if self.folder is not None:
            path = self.folder / str(self.number)
            # The socket of a worker that was killed is still there.
            path.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._respond, path)

    async def stop(self) -> None:
        if self._server is not None and self.folder is not None:
            self._server.close()
            (self.folder / str(self.number)).unlink(missing_ok=True)

    async def gather(self, asked: Details | None = None) -> dict[str, Snapshot]:
        """Return what each worker measures, by its number. A worker that does not respond in a second is left out.

        Requests that come meanwhile get the same result, so that many scrapes cost as much as one after another.
        """
        return await self._in_flight.result(asked, partial(self._gather, asked))

    async def _gather(self, asked: Details | None) -> dict[str, Snapshot]:
        found = {str(self.number): self.measure(asked)}
        if self.folder is not None:
            others = [path for path in self.folder.glob("[0-9]*") if path.name != str(self.number)]
            asking = [self._ask(path, asked) for path in others]
            for path, snapshot in zip(others, await asyncio.gather(*asking), strict=True):
                if snapshot is not None:
                    found[path.name] = snapshot
        return dict(sorted(found.items(), key=lambda item: int(item[0])))

    async def _ask(self, path: Path, asked: Details | None) -> Snapshot | None:
        with suppress(OSError, TimeoutError, msgspec.DecodeError):
            async with asyncio.timeout(_PEER_SECONDS):
                reader, writer = await asyncio.open_unix_connection(path)
                try:
                    writer.write(msgspec.msgpack.encode(asked))
                    writer.write_eof()
                    return decode_snapshot(await reader.read())
                finally:
                    writer.close()
        return None

    async def _respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError, msgspec.DecodeError):
            async with asyncio.timeout(_PEER_SECONDS):
                asked = msgspec.msgpack.decode(await reader.read(4_096), type=Details | None)
                writer.write(encode_snapshot(self.measure(asked)))
                await writer.drain()
        writer.close()


class MetricsApplication:
    """Serves the metrics as an RSGI application, and passes other requests on, if there is an application for them."""

    def __init__(self, metrics: WorkerMetrics, *, key: str | None = None, others: Any = None) -> None:
        """Require the `key` of requests, if there is one: as `Authorization: Bearer`, or as `X-API-Key`."""
        self._metrics = metrics
        self._key = key
        self._others = others

    async def __rsgi__(self, scope: HttpScope, exchange: HttpProtocol) -> None:
        is_known = scope.path in {PATH, DETAILED_PATH}
        if self._others is not None and not is_known:
            await self._others.__rsgi__(scope, exchange)
        elif lacks_host(scope):
            _respond(exchange, 400, HOST_MISSING)
        elif not is_known:
            _respond(exchange, 404, f"This port has {PATH} and {DETAILED_PATH} only.")
        elif scope.method not in {"GET", "HEAD"}:
            _respond(exchange, 405, "Only GET and HEAD are possible.", ("allow", "GET, HEAD"))
        elif not self._is_allowed(scope.headers):
            detail = "Send the `metrics_key` of the settings as `Authorization: Bearer <key>`."
            _respond(exchange, 401, detail, ("www-authenticate", 'Bearer realm="metrics"'))
        else:
            await self._show(scope, exchange)

    async def _show(self, scope: HttpScope, exchange: HttpProtocol) -> None:
        asked, metrics = None, METRICS
        if scope.path == DETAILED_PATH:
            try:
                asked, metrics = details_asked(scope.query_string), DETAILED
            except ValueError as error:
                _respond(exchange, 400, str(error))
                return
        measured = await self._metrics.gather(asked)
        if asked is not None and asked.queue and not any(any(found.values()) for found in measured.values()):
            detail = "No worker here reports a listener of this queue. `queue` takes the id of a queue, not its alias."
            _respond(exchange, 404, detail)
            return
        openmetrics = "application/openmetrics-text" in scope.headers.get("accept", "")
        content = exposition(metrics, measured, openmetrics=openmetrics)
        headers = [("content-type", OPENMETRICS if openmetrics else TEXT)]
        exchange.response_bytes(200, headers, b"" if scope.method == "HEAD" else content)

    def _is_allowed(self, headers: HttpHeaders) -> bool:
        if self._key is None:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            given = headers.get("x-api-key", "")
        return hmac.compare_digest(given.strip().encode(), self._key.encode())


def _respond(exchange: HttpProtocol, status: int, detail: str, *headers: tuple[str, str]) -> None:
    exchange.response_bytes(status, [("content-type", "text/plain; charset=utf-8"), *headers], f"{detail}\n".encode())
