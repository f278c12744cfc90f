"""The outbox: messages are stored in the transaction of the application, and published once it has committed."""

from __future__ import annotations

from discue_client.outbox.publish import publish, publish_async
from discue_client.outbox.waking import wake

__all__ = ["publish", "publish_async", "wake"]
