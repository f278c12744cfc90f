"""Requests whose messages are sent as CloudEvents."""

import msgspec

from discue.domain.cloudevents import event_of
from discue.domain.messages import decode_options
from discue.domain.model import DeliveryFormat, Entry
from discue.sending.attempt_request import AttemptRequest


def as_event(request: AttemptRequest, entry: Entry, kind: DeliveryFormat) -> AttemptRequest:
    """The same request with its message in one of the two modes of CloudEvents: its body is what is signed."""
    media_type = decode_options(entry.extra).media_type if entry.extra else None
    event = event_of(entry, kind, request.queue_id, request.headers, media_type)
    return msgspec.structs.replace(request, body=event.body, media_type=event.media_type, headers=event.headers)
