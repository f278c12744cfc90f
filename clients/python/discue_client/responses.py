"""Exceptions by which a handler says how a delivery ended. A normal return acknowledges the message.

`Retry` and `Reject` work for messages that a consumer pulls and for webhooks, the others for webhooks only.
"""

from __future__ import annotations

import math


class Response(Exception):
    """Base of the exceptions by which a handler responds. They are no errors."""

    status = 500
    """The HTTP status of the response to a webhook."""

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the response to a webhook."""
        return {}


class Retry(Response):
    """Deliver the message again: after so many seconds, or as the listener's retry policy says."""

    status = 503

    def __init__(self, after: float | None = None) -> None:
        if after is not None and not 0 <= after < math.inf:
            raise ValueError("after must be a number of seconds, 0 or more")
        super().__init__(after)
        self.after = after

    @property
    def headers(self) -> dict[str, str]:
        # Rounded up: a retry must not come early.
        return {} if self.after is None else {"retry-after": str(math.ceil(self.after))}


class Reject(Response):
    """The message could not be processed: count a failed attempt. The retry policy decides what follows."""


class DoNotRetry(Response):
    """The message can never be processed: it is missed at once, without another attempt."""

    status = 422

    @property
    def headers(self) -> dict[str, str]:
        return {"webhook-no-retry": "true"}


class Unsubscribe(Response):
    """The endpoint wants no more messages: the listener is disabled, and its messages wait until it is enabled."""

    status = 410


class Duplicate(Response):
    """The message was handled before: acknowledge it, and do nothing."""

    status = 204
