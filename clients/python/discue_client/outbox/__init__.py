"""The outbox: messages are stored in the transaction of the application, and published once it has committed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from discue_client.outbox.publish import publish, publish_async
from discue_client.outbox.waking import wake

if TYPE_CHECKING:
    from discue_client.outbox.relay import Relay

__all__ = ["Relay", "publish", "publish_async", "wake"]


def __getattr__(name: str) -> Any:
    if name != "Relay":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Applications that only publish need no event loop.
    from discue_client.outbox.relay import Relay  # noqa: PLC0415

    return Relay
