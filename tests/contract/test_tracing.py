"""The trace context of a publish, as listeners get it."""

import json
from typing import Any

import pytest

from tests.contract.caller import Caller, body, pointers
from tests.contract.reference import covers
from tests.contract.test_delivery import listening
from tests.support.receiver import Receiver, Reply

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"
FROM_A_TRACE = {"traceparent": TRACEPARENT, "tracestate": "vendor=1", "baggage": "user=9"}
CONTEXT = {"traceparent", "tracestate", "baggage", "ce-traceparent", "ce-tracestate"}


def _publish(owner: Caller, path: str, headers: dict[str, str] = FROM_A_TRACE, **fields: Any) -> None:
    body(owner.ask("POST", f"{path}/messages", {"data": "x", **fields}, headers=headers))


@covers("messages.md# Traces", "listeners.md: trace")
def test_each_attempt_continues_the_trace_of_the_publish_with_a_span_of_its_own(
    owner: Caller, receiver: Receiver
) -> None:
    endpoint = receiver.endpoint(Reply(500), Reply())
    path, listener = listening(owner, endpoint, retry={"schedule": [1], "jitter": 0})
    assert listener["effective"]["trace"] == "propagate"
    _publish(owner, path)
    received = endpoint.until(2)
    contexts = [each.headers["traceparent"].split("-") for each in received]
    assert [(version, trace, flags) for version, trace, _, flags in contexts] == [("00", TRACE, "01")] * 2
    assert len({SPAN, *(span for _, _, span, _ in contexts)}) == 3
    # Other headers of a trace have data of vendors and of the application.
    assert [CONTEXT.intersection(each.headers) for each in received] == [{"traceparent"}] * 2


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("traceparent", f"00-{'0' * 32}-{SPAN}-01")],
        [("traceparent", f"00-{TRACE}-{'0' * 16}-01")],
        [("traceparent", f"{TRACEPARENT}-more")],
        [("traceparent", TRACEPARENT), ("traceparent", TRACEPARENT)],
    ],
)
def test_malformed_context_is_dropped(owner: Caller, receiver: Receiver, headers: list[tuple[str, str]]) -> None:
    endpoint = receiver.endpoint()
    path, _ = listening(owner, endpoint)
    body(owner.ask("POST", f"{path}/messages", {"data": "x"}, headers=[*headers, ("tracestate", "vendor=1")]))
    [received] = endpoint.until(1)
    assert not CONTEXT.intersection(received.headers)


def test_listener_may_get_a_trace_of_its_own_or_none(owner: Caller, receiver: Receiver) -> None:
    endpoint, without = receiver.endpoint(), receiver.endpoint()
    path, _ = listening(owner, endpoint, trace="restart")
    made = owner.create(f"{path}/listeners", notify_url=without.url, trace="none")
    _publish(owner, path)
    [restarted] = endpoint.until(1)
    version, trace, span, flags = restarted.headers["traceparent"].split("-")
    assert (version, flags) == ("00", "01")
    assert TRACE != trace != "0" * 32
    assert SPAN != span != "0" * 16
    [received] = without.until(1)
    assert not CONTEXT.intersection(received.headers)
    place = f"{path}/listeners/{made['id']}"
    assert made["trace"] == "none"
    assert "trace" not in owner.change(place, trace=None)
    assert pointers(owner.refused(422, "PUT", place, {"trace": "always"})) == ["/trace"]


def test_context_of_a_message_wins_over_that_of_its_request(owner: Caller, receiver: Receiver) -> None:
    endpoint = receiver.endpoint()
    path, _ = listening(owner, endpoint)
    own = f"00-{'a' * 32}-{SPAN}-00"
    batch = [{"data": "own", "headers": {"traceparent": own, "baggage": "user=9"}}, {"data": "request's"}]
    body(owner.ask("POST", f"{path}/messages/batch", {"messages": batch}, headers=FROM_A_TRACE))
    contexts = {each.content: each.headers["traceparent"] for each in endpoint.until(2)}
    assert contexts[b"own"][:36] + contexts[b"own"][52:] == f"00-{'a' * 32}--00"
    assert contexts[b"request's"][:36] == TRACEPARENT[:36]
    assert not any("baggage" in each.headers for each in endpoint.received)


def test_context_passes_topics_and_delays(owner: Caller, receiver: Receiver) -> None:
    endpoint = receiver.endpoint()
    path, _ = listening(owner, endpoint)
    topic = f"/topics/{owner.create('/topics')['id']}"
    owner.create(f"{topic}/channels", queue_id=path.rpartition("/")[2])
    message = {"data": "x", "delay": 1, "type": "orders"}
    body(owner.ask("POST", f"{topic}/messages", message, headers=FROM_A_TRACE))
    [received] = endpoint.until(1)
    assert received.headers["traceparent"][:36] == TRACEPARENT[:36]


@pytest.mark.parametrize("mode", ["binary", "structured"])
@pytest.mark.parametrize("trace", ["propagate", "restart", "none"])
def test_event_names_the_context_it_was_created_in(owner: Caller, receiver: Receiver, mode: str, trace: str) -> None:
    endpoint = receiver.endpoint()
    path, _ = listening(owner, endpoint, format=f"cloudevents_{mode}", trace=trace)
    created = f"00-{TRACE}-{'c' * 16}-01"
    event = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "paid", "traceparent": created}
    content = json.dumps({**event, "tracestate": "vendor=1", "data": 1}).encode()
    kind = {"content-type": "application/cloudevents+json"}
    body(owner.ask("POST", f"{path}/messages", content, headers={**kind, **FROM_A_TRACE}))
    [received] = endpoint.until(1)
    if mode == "structured":
        attributes = json.loads(received.content)
    else:
        attributes = {name.removeprefix("ce-"): value for name, value in received.headers.items() if name[:3] == "ce-"}
    assert "tracestate" not in attributes
    header = received.headers.get("traceparent")
    expected = {"propagate": created, "restart": header, "none": None}
    assert attributes.get("traceparent") == expected[trace]
    assert (header is None) is (trace == "none")
    assert header is None or (header[:35] == created[:35]) is (trace == "propagate")


@covers("pulling.md: traceparent")
def test_pulled_message_has_the_context_of_its_attempt(owner: Caller) -> None:
    path = f"/queues/{owner.create('/queues')['id']}"
    place = f"{path}/listeners/{owner.create(f'{path}/listeners', mode='pull')['id']}"
    _publish(owner, path)
    [first] = owner.get(f"{place}/messages?wait=20")["messages"]
    body(owner.ask("POST", f"{place}/acknowledgements", {"release": [first["receipt"]]}))
    [second] = owner.get(f"{place}/messages?wait=20")["messages"]
    contexts = [first["traceparent"], second["traceparent"]]
    assert [each[:36] for each in contexts] == [TRACEPARENT[:36]] * 2
    assert len({SPAN, *(each[36:52] for each in contexts)}) == 3
    owner.change(place, trace="none")
    body(owner.ask("POST", f"{place}/acknowledgements", {"release": [second["receipt"]]}))
    [third] = owner.get(f"{place}/messages?wait=20")["messages"]
    assert "traceparent" not in third
