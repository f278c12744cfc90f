"""A server that exports spans, from its environment alone."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from tests.cli.commands import PATIENCE_SECONDS, REPOSITORY, Running, serving
from tests.support.collector import Collector, SeenSpan, collecting, hanging
from tests.support.receiver import Receiver, Reply, receiving

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
SERVE = ("--allow-private-targets", "--log-format", "json", "--log-requests")


class _Client:
    """A client of a server with JSON logs."""

    def __init__(self, server: Running) -> None:
        self.server = server
        url = server.log.wait_for(r'"event":"server_started".*?"url":"([^"]+)"')[1]
        self._client = httpx.Client(base_url=url, headers={"X-API-KEY": server.key}, trust_env=False)

    def ask(self, method: str, path: str, content: Any = None, flags: str = "") -> dict[str, Any]:
        headers = {"traceparent": f"00-{TRACE}-{SPAN}-{flags}", "tracestate": "vendor=1"} if flags else {}
        answer = self._client.request(method, path, json=content, headers=headers, timeout=PATIENCE_SECONDS)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def lines(self) -> list[dict[str, Any]]:
        """Stop the server, and return the lines of its log."""
        self._client.close()
        assert self.server.stop() == 0
        return [json.loads(line) for line in self.server.log.text.splitlines()]


def _by_name(spans: list[SeenSpan]) -> dict[str, list[SeenSpan]]:
    return {name: [span for span in spans if span.name == name] for name in sorted({span.name for span in spans})}


def test_hanging_collector_delays_neither_deliveries_nor_the_stop(tmp_path: Path) -> None:
    # The exporter waits for the collector longer than this test runs.
    variables = {
        "OTEL_BSP_SCHEDULE_DELAY": "10",
        "OTEL_BSP_MAX_QUEUE_SIZE": "50",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "600",
    }
    with (
        receiving("127.0.0.1") as receiver,
        hanging() as (url, came),
        serving(tmp_path, *SERVE, **{ENDPOINT: url, **variables}) as server,
    ):
        client = _Client(server)
        endpoint = receiver.endpoint()
        client.ask("PUT", "/queues/orders")
        client.ask("PUT", "/queues/orders/listeners/billing", {"notify_url": endpoint.url})
        client.ask("POST", "/queues/orders/messages", {"data": "first"}, flags="01")
        assert came.wait(PATIENCE_SECONDS)
        # Each of these has three spans, more than the queue holds.
        batch = {"messages": [{"data": number} for number in range(200)]}
        client.ask("POST", "/queues/orders/messages/batch", batch, flags="01")
        assert len(endpoint.until(201, PATIENCE_SECONDS)) == 201
        client.lines()


@pytest.mark.usefixtures("every_engine")
def test_spans_of_a_message_lead_from_its_publish_to_its_acknowledgement(tmp_path: Path) -> None:
    with (
        receiving("127.0.0.1") as receiver,
        collecting() as collector,
        serving(tmp_path, *SERVE, **{ENDPOINT: collector.url, "OTEL_BSP_SCHEDULE_DELAY": "10"}) as server,
    ):
        client = _Client(server)
        _check_pushed(client, receiver, collector)
        _check_pulled(client, collector)
        lines = client.lines()
    validator = Draft202012Validator(json.loads((REPOSITORY / "docs" / "log-events.json").read_text()))
    assert [(line, list(validator.iter_errors(line))) for line in lines if not validator.is_valid(line)] == []
    failed = [line for line in lines if line["event"] == "attempt"]
    assert [(line["status"], line["trace_id"]) for line in failed] == [(500, TRACE)]
    publishes = [line for line in lines if line["event"] == "request" and "trace_id" in line]
    assert [(line["method"], line["trace_id"]) for line in publishes] == [("POST", TRACE)] * 3


def _check_pushed(client: _Client, receiver: Receiver, collector: Collector) -> None:
    endpoint = receiver.endpoint(Reply(500), Reply())
    listener = {"notify_url": endpoint.url, "retry": {"schedule": [1], "jitter": 0}}
    client.ask("PUT", "/queues/orders")
    made = client.ask("PUT", "/queues/orders/listeners/billing", listener)["listener"]
    message = client.ask("POST", "/queues/orders/messages", {"data": {"n": 1}}, flags="01")["message"]
    spans = _by_name(collector.until(5))
    assert {name: len(found) for name, found in spans.items()} == {
        "deliver orders": 2,
        "publish orders": 1,
        "settle orders": 2,
    }
    [published], delivered, settled = spans["publish orders"], spans["deliver orders"], spans["settle orders"]
    assert {span.trace_id for span in collector.spans} == {TRACE}
    assert (published.kind, published.parent_id) == ("producer", SPAN)
    assert published.attributes["messaging.message.id"] == message["id"]
    # The first attempt is a child of the publisher's span; the second one is only linked to it.
    assert [(span.kind, span.parent_id, span.links) for span in delivered] == [
        ("client", SPAN, (SPAN,)),
        ("client", "", (SPAN,)),
    ]
    # Each request names the span of its attempt as the parent.
    assert [each.headers["traceparent"][36:52] for each in endpoint.received] == [span.span_id for span in delivered]
    assert [span.is_error for span in delivered] == [True, False]
    first = delivered[0].attributes
    assert first.pop("server.port") == int(endpoint.url.rpartition("/")[0].rpartition(":")[2])
    assert first == {
        "messaging.system": "discue",
        "messaging.operation.name": "deliver",
        "messaging.destination.name": "orders",
        "messaging.destination.subscription.name": "billing",
        "messaging.message.id": message["id"],
        "messaging.message.body.size": 7,
        "discue.attempt": 1,
        "discue.queue.id": made["queue_id"],
        "discue.listener.id": made["id"],
        "server.address": "127.0.0.1",
        "http.request.method": "POST",
        "http.response.status_code": 500,
        "error.type": "500",
    }
    assert [(span.parent_id, span.attributes["discue.settlement"]) for span in settled] == [
        (delivered[0].span_id, "retry"),
        (delivered[1].span_id, "acknowledged"),
    ]


def _check_pulled(client: _Client, collector: Collector) -> None:
    collector.spans.clear()
    client.ask("PUT", "/queues/jobs")
    client.ask("PUT", "/queues/jobs/listeners/worker", {"mode": "pull"})
    client.ask("POST", "/queues/jobs/messages", {"data": "unsampled"}, flags="00")
    batch = {"messages": [{"data": "one"}, {"data": "two"}]}
    client.ask("POST", "/queues/jobs/messages/batch", batch, flags="01")
    pulled = client.ask("GET", "/queues/jobs/listeners/worker/messages?wait=20")["messages"]
    assert [each["traceparent"][:36] for each in pulled] == [f"00-{TRACE}-"] * 3
    receipts = [each["receipt"] for each in pulled]
    client.ask("POST", "/queues/jobs/listeners/worker/acknowledgements", {"acknowledge": receipts})
    spans = _by_name(collector.until(5))
    [published] = spans["publish jobs"]
    assert published.attributes["messaging.batch.message_count"] == 2
    # Of the message that is not sampled there are no spans.
    delivered = spans["deliver jobs"]
    assert [(span.kind, span.span_id) for span in delivered] == [
        ("server", each["traceparent"][36:52]) for each in pulled[1:]
    ]
    assert [span.attributes["discue.settlement"] for span in spans["settle jobs"]] == ["acknowledged"] * 2
