"""The inbox: marks each message in the transaction of its effect, so that a duplicate has no effect."""

from __future__ import annotations

from discue_client.inbox.once import forget, forget_async, once

__all__ = ["forget", "forget_async", "once"]
