"""An organization's event types as the `webhooks` of an OpenAPI document (OpenAPI 3.1, section 4.8.1)."""

from collections.abc import Sequence
from typing import Final

import msgspec

from discue.domain.messages import SEQUENCE_HEADER
from discue.domain.model import EventType

_HEADERS: Final = {
    "webhook-id": "The id of the message, the same on every attempt.",
    "webhook-timestamp": "The time of the attempt, in seconds since the epoch.",
    "webhook-signature": "The signature, as in Standard Webhooks 1.0.",
    "discue-type": "The type of the message.",
    "discue-queue": "The id of the queue.",
}
_PARAMETERS: Final[list[dict[str, object]]] = [
    *(
        {"in": "header", "name": name, "required": True, "description": text, "schema": {"type": "string"}}
        for name, text in _HEADERS.items()
    ),
    {
        "in": "header",
        "name": SEQUENCE_HEADER,
        # A test of a listener has no sequence.
        "required": False,
        "description": "A number that increases in the order in which the queue stored its messages.",
        "schema": {"type": "integer"},
    },
]
_RESPONSES: Final = {"2XX": {"description": "The message is acknowledged. Other responses are retried."}}


def webhooks_of(catalogue: Sequence[EventType]) -> bytes:
    """Return the document as JSON, with a webhook for each event type. Schemas and examples are as they were sent."""
    version = max((each.updated_at for each in catalogue), default=0)
    document = {
        "openapi": "3.1.0",
        "info": {"title": "Webhooks", "version": str(version)},
        "webhooks": {each.alias: {"post": _operation(each)} for each in catalogue},
    }
    return msgspec.json.encode(document)


def _operation(event_type: EventType) -> dict[str, object]:
    content: dict[str, object] = {}
    if event_type.json_schema is not None:
        content["schema"] = msgspec.Raw(_with_base(event_type.json_schema, event_type.public_id).encode())
    if event_type.example is not None:
        content["example"] = msgspec.Raw(event_type.example.encode())
    return {
        "operationId": event_type.alias,
        "description": event_type.description,
        "deprecated": event_type.status == "deprecated",
        "parameters": _PARAMETERS,
        "requestBody": {"required": True, "content": {"application/json": content}},
        "responses": _RESPONSES,
    }


def _with_base(schema: str, public_id: str) -> str:
    """Give a schema with references an id: without it, they would resolve from the root of the whole document."""
    if '"$ref"' not in schema or '"$id"' in schema:
        return schema
    return f'{{"$id":"urn:discue:{public_id}",{schema.lstrip()[1:]}'
