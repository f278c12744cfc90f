"""Requests whose messages are sent as CloudEvents."""

import msgspec

from discue.cloud_events import event_of
from discue.model import Entry, Format
from discue.sending.attempt_request import AttemptRequest


def as_event(request: AttemptRequest, entry: Entry, kind: Format) -> AttemptRequest:
    """The same request with its message in one of the two modes of CloudEvents: its body is what is signed."""
    event = event_of(entry, kind, request.queue_id, request.headers)
    return msgspec.structs.replace(request, body=event.body, media_type=event.media_type, headers=event.headers)
