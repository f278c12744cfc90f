"""Listeners, and how they are."""

from typing import Self

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from discue.api.wire.answer import Answer, Shown
from discue.api.wire.delivery_options import EffectiveShown, RateLimitShown, RetryShown


class Liveness(msgspec.Struct, frozen=True):
    """The counts are totals. What there was not yet is 0, or an empty text."""

    state: str
    success_count: int
    failure_count: int
    last_success_at: int
    last_failure_at: int
    last_failure_status: int
    last_failure_msg: str


class ListenerMessages(msgspec.Struct, frozen=True):
    """`missed` are ids, newest first, at most 100."""

    acknowledged_count: int
    missed: tuple[str, ...]
    missed_count: int
    pending_count: int
    last_success_at: int
    last_failure_at: int


class AuthenticationShown(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """How the service shows the listener who it is, without what is secret of it."""

    type: str
    username: str | UnsetType = UNSET
    token_url: str | UnsetType = UNSET
    client_id: str | UnsetType = UNSET
    scope: str | UnsetType = UNSET
    audience: str | UnsetType = UNSET
    certificate: str | UnsetType = UNSET


class ListenerShown(Shown, kw_only=True, frozen=True):
    """`secret` is there in the answer to its creation alone, options where they were chosen, and URLs unless its
    mode is pull.
    """

    queue_id: str
    status: str
    mode: str
    notify_url: str | UnsetType = UNSET
    liveness_url: str | UnsetType = UNSET
    liveness: Liveness
    messages: ListenerMessages
    effective: EffectiveShown
    lease_seconds: int | UnsetType = UNSET
    headers: dict[str, str] | UnsetType = UNSET
    timeout: int | UnsetType = UNSET
    max_in_flight: int | UnsetType = UNSET
    rate_limit: RateLimitShown | UnsetType = UNSET
    retry: RetryShown | UnsetType = UNSET
    filter: msgspec.Raw | UnsetType = UNSET
    format: str | UnsetType = UNSET
    authentication: AuthenticationShown | UnsetType = UNSET
    secret: str | UnsetType = UNSET


class Listener(Answer, kw_only=True, frozen=True):
    listener: ListenerShown

    def without_secrets(self) -> Self:
        return replace(self, listener=replace(self.listener, secret=UNSET))


class Listeners(Answer, kw_only=True, frozen=True):
    listeners: list[ListenerShown]
