"""Listeners with a CloudEvents format, up to the bytes that are signed and sent."""

import json

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event

from discue.crypto.signing import sign
from discue.domain.cloudevents import DeliveryFormat
from discue.domain.messages import MessageOptions
from discue.domain.model import DeliveryOptions
from discue.sending.request import attempt_head
from tests.dispatch.stage import Sent, Stage, badly, well

AT = 1_795_536_280
ORDER = MessageOptions(headers=(("ce-type", "order.paid"), ("X-Trace", "7")))


def headers_of(sent: Sent) -> dict[str, str]:
    """Return the requests as they are sent."""
    lines = attempt_head(sent.request, AT).decode("latin-1").split("\r\n")[1:-2]
    headers = dict(line.split(": ", 1) for line in lines)
    assert len(headers) == len(lines)
    return headers


@pytest.mark.parametrize("kind", ["cloudevents_binary", "cloudevents_structured"])
async def test_a_delivery_is_a_signed_cloud_event_on_every_attempt(stage: Stage, kind: DeliveryFormat) -> None:
    queue, listener = await stage.running(DeliveryOptions(format=kind))
    message = await stage.publish_with(queue, ORDER)
    for _ in range(2):
        [sent] = stage.courier.in_flight
        headers, body = headers_of(sent), sent.request.body
        event = from_http_event(HTTPMessage(headers, body))
        assert (event.get_id(), event.get_type(), event.get_data()) == (message, "order.paid", "hello")
        assert headers["webhook-id"] == message
        assert headers["webhook-signature"] == sign(sent.request.keys, message, AT, body)
        assert headers["content-length"] == str(len(body))
        assert headers["X-Trace"] == "7"
        await stage.end(sent, badly())
        await stage.advance(40_000)
    await stage.end(stage.courier.in_flight[0], well())
    assert (await stage.counts(listener)).acknowledged == 1


async def test_a_structured_event_is_a_document_and_a_change_of_the_format_counts_at_once(stage: Stage) -> None:
    queue, listener = await stage.running(DeliveryOptions(format="cloudevents_structured"))
    await stage.publish(queue)
    [sent] = stage.courier.in_flight
    assert json.loads(sent.request.body)["data"] == "hello"
    await stage.configure(listener, options=DeliveryOptions())
    await stage.end(sent, badly())
    await stage.advance(6_000)
    [again] = stage.courier.in_flight
    assert (again.request.body, headers_of(again)["content-type"]) == (b'"hello"', "application/json")
