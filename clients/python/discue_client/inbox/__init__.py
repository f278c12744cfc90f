"""The inbox: messages are marked in the transaction of their effect, so that a duplicate has none."""

from __future__ import annotations

from discue_client.inbox.once import forget, forget_async, once

__all__ = ["forget", "forget_async", "once"]
