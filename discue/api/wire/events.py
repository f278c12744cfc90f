"""Usage events."""

import msgspec
from msgspec import UNSET, UnsetType

from discue.api.wire.answer import Answer


class EventClient(msgspec.Struct, frozen=True):
    """The organization."""

    id: str


class EventSubject(msgspec.Struct, frozen=True):
    id: str
    name: str


class EventShown(msgspec.Struct, frozen=True, kw_only=True):
    """What it happened to stands under the name of its sort. `api_key_id` is the key that did it, if it is known."""

    id: str
    type: str
    stored_at: int
    client: EventClient
    api_key_id: str | UnsetType = UNSET
    message: EventSubject | UnsetType = UNSET
    api_key: EventSubject | UnsetType = UNSET
    queue: EventSubject | UnsetType = UNSET
    listener: EventSubject | UnsetType = UNSET
    organization: EventSubject | UnsetType = UNSET
    domain: EventSubject | UnsetType = UNSET
    user: EventSubject | UnsetType = UNSET
    topic: EventSubject | UnsetType = UNSET
    channel: EventSubject | UnsetType = UNSET
    address: EventSubject | UnsetType = UNSET


class Events(Answer, kw_only=True, frozen=True):
    events: list[EventShown]
