"""The outbox: messages are stored in the transaction of the application, and published once it has committed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from discue_client.outbox.publish import publish, publish_async
from discue_client.outbox.waking import wake

if TYPE_CHECKING:
    from discue_client.outbox.relay import OutboxUnavailable, Relay

__all__ = ["OutboxUnavailable", "Relay", "publish", "publish_async", "wake"]

_OF_RELAYS = ("OutboxUnavailable", "Relay")


def __getattr__(name: str) -> Any:
    if name not in _OF_RELAYS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Applications that only publish need no event loop.
    return getattr(import_module("discue_client.outbox.relay"), name)
