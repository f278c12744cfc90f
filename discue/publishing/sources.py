"""Publishes what sources receive: a verified request becomes a message, once for each event id."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

from discue.auth.control_plane_cache import QueueRecord
from discue.domain.errors import Unavailable, Unprocessable
from discue.domain.idempotency import IdempotencyKey, idempotency_key
from discue.domain.message_data import BYTES, JSON_VALUE, TEXT, Codec, check_media_type, is_json_text, is_json_type
from discue.domain.messages import MessageOptions
from discue.domain.model import WebhookSource
from discue.domain.providers import REMEMBERED_MS, RequestHeaders, headers_to_keep, provider_of, verify
from discue.publishing.publish import NewMessage, Publisher, publish, stored_messages
from discue.store import idempotency
from discue.store.engine import AlreadyDone


class ReceivedMessage(NamedTuple):
    """The message of a verified request, and the id of its event; the id is empty if the event has none."""

    event_id: str
    message: NewMessage


class Stored(NamedTuple):
    """The id of the message of a request, and whether an earlier request has stored it."""

    message_id: str
    is_repeated: bool


def received(
    source: WebhookSource,
    secrets: Sequence[str],
    headers: RequestHeaders,
    lines: Iterable[tuple[str, str]],
    *,
    body: bytes,
    now: int,
) -> ReceivedMessage:
    """Verify a request and return its message. The time is proportional to the size of the body.

    Raises Unauthorized, with the reason as its code.
    """
    provider = provider_of(source.provider, source.hmac)
    event = verify(provider, secrets, headers, body, now=now)
    media_type = _media_type(headers)
    options = MessageOptions(headers_to_keep(provider, lines), type=event.type, content_type=media_type)
    return ReceivedMessage(event.id, NewMessage(body, _codec(body, media_type), pointer="", options=options))


async def publish_received(
    publisher: Publisher, queue: QueueRecord, source: WebhookSource, given: ReceivedMessage
) -> Stored:
    """Store a message, unless one with the same event id was stored within 7 days. Raises what `publish` raises."""
    once = None
    if given.event_id:
        # Keys of clients have no spaces, so none of them equals this one.
        text = f"source {source.public_id} {given.event_id}"
        key = idempotency_key(source.organization, text, "POST", source.public_id, body=b"")
        once = IdempotencyKey(key.organization, key.text, key.hash, key.fingerprint, REMEMBERED_MS)
    try:
        [entry] = await publish(publisher, queue, (given.message,), once=once)
    except AlreadyDone:
        if once is None:
            raise
        # The request that stored it may still be committing: what is answered with 200 must be durable.
        read = partial(idempotency.read_response, organization=once.organization, key=once.hash)
        stored = await publisher.store.read(read)
        if stored is None:
            raise Unavailable("The same event is being stored. Try again soon.") from None
        return Stored(stored_messages(stored.content)[0][0], is_repeated=True)
    return Stored(entry.id, is_repeated=False)


def _media_type(headers: RequestHeaders) -> str | None:
    given = headers.get("content-type", "")
    try:
        return check_media_type(given, "") if given else None
    except Unprocessable:
        return None


def _codec(body: bytes, media_type: str | None) -> Codec:
    try:
        body.decode()
    except UnicodeDecodeError:
        return BYTES
    is_json = (media_type is None or is_json_type(media_type)) and is_json_text(body)
    return JSON_VALUE if is_json else TEXT
