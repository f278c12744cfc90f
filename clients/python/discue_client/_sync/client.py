"""The client.

Written by `make docs` from `_async/client.py`. Do not edit.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

from discue_client._sync.consumer import Consumer
from discue_client._sync.publisher import Publisher
from discue_client._sync.requester import Requester
from discue_client._sync.resources import Resources
from discue_client._sync.waiting import Transport
from discue_client.configuration import Configuration, RetryPolicy
from discue_client.messages import message_fields

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from discue_client.messages import MessageFields
    from discue_client.models import Message
    from discue_client.transport import HttpClient


class Discue(Resources):
    """A client of a discue service.

    Takes the URL and the API key from `DISCUE_URL` and `DISCUE_API_KEY` unless they are given. Use it as a context
    manager, or close it: it keeps connections open. Requests that fail are sent again, unless that could repeat their
    effect, until `deadline` seconds have passed; each attempt has `timeout` seconds.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = RetryPolicy.timeout,
        deadline: float = RetryPolicy.deadline,
        attempts: int = RetryPolicy.attempts,
        http_client: HttpClient | None = None,
    ) -> None:
        self._configuration = Configuration.of(url, api_key)
        self._transport = Transport(self._configuration, http_client)
        self._set(RetryPolicy(timeout, deadline, attempts))

    def _set(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._requester = Requester(self._transport, policy)
        super().__init__(self._requester)

    def with_options(
        self, *, timeout: float | None = None, deadline: float | None = None, attempts: int | None = None
    ) -> Discue:
        """Return a client with other options on the same connections. Closing either closes both."""
        policy = self._policy
        changed: Discue = copy(self)
        changed._set(RetryPolicy(timeout or policy.timeout, deadline or policy.deadline, attempts or policy.attempts))
        return changed

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._configuration.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. Requests after that raise RuntimeError."""
        self._transport.close()

    def request(self, method: str, path: str, **options: Any) -> bytes:
        """Send a request for which this version of the client has no method: see `Requester.request`."""
        return self._requester.request(method, path, **options)

    def consume(self, queue: str, *, listener: str, concurrency: int = 10) -> Consumer:
        """Return a consumer of a listener in pull mode: see `Consumer`."""
        return Consumer(self._requester, queue, listener, concurrency=concurrency)

    def publisher(
        self, queue: str, *, linger: float = 0.005, max_messages: int = 100, max_bytes: int = 1_000_000
    ) -> Publisher:
        """Return a publisher to the queue, which sends messages in batches: see `Publisher`."""
        return Publisher(self._requester, queue, linger=linger, max_messages=max_messages, max_bytes=max_bytes)

    def publish(
        self, queue: str, data: object, *, idempotency_key: str | None = None, **fields: Unpack[MessageFields]
    ) -> Message:
        """Publish a message to the queue with this alias or id, and return it once it is stored.

        `data` is text or bytes, which are delivered as they are, or any value with a JSON form. `fields` are `key`,
        `delay`, `expires_in` and the others of `MessageFields`. The message is published once, however often the
        request is sent. A call with the same `idempotency_key` and the same fields publishes nothing more.
        """
        return self.messages.create(queue, idempotency_key=idempotency_key, **message_fields(data, **fields))
