"""The client."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

from discue_client._async.consumer import AsyncConsumer
from discue_client._async.publisher import AsyncPublisher
from discue_client._async.requester import AsyncRequester
from discue_client._async.resources import AsyncResources
from discue_client._async.waiting import AsyncTransport
from discue_client.configuration import Configuration, RetryPolicy
from discue_client.messages import message_fields

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from discue_client.messages import MessageFields
    from discue_client.models import Message
    from discue_client.transport import HttpClient


class AsyncDiscue(AsyncResources):
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
        self._transport = AsyncTransport(self._configuration, http_client)
        self._set(RetryPolicy(timeout, deadline, attempts))

    def _set(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._requester = AsyncRequester(self._transport, policy)
        super().__init__(self._requester)

    def with_options(
        self, *, timeout: float | None = None, deadline: float | None = None, attempts: int | None = None
    ) -> AsyncDiscue:
        """Return a client with other options on the same connections. Closing either closes both."""
        policy = self._policy
        changed: AsyncDiscue = copy(self)
        changed._set(RetryPolicy(timeout or policy.timeout, deadline or policy.deadline, attempts or policy.attempts))
        return changed

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._configuration.url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. Requests after that raise RuntimeError."""
        await self._transport.close()

    async def request(self, method: str, path: str, **options: Any) -> bytes:
        """Send a request for which this version of the client has no method: see `AsyncRequester.request`."""
        return await self._requester.request(method, path, **options)

    def consume(self, queue: str, *, listener: str, concurrency: int = 10) -> AsyncConsumer:
        """Return a consumer of a listener in pull mode: see `AsyncConsumer`."""
        return AsyncConsumer(self._requester, queue, listener, concurrency=concurrency)

    def publisher(
        self, queue: str, *, linger: float = 0.005, max_messages: int = 100, max_bytes: int = 1_000_000
    ) -> AsyncPublisher:
        """Return a publisher to the queue, which sends messages in batches: see `AsyncPublisher`."""
        return AsyncPublisher(self._requester, queue, linger=linger, max_messages=max_messages, max_bytes=max_bytes)

    async def publish(
        self, queue: str, data: object, *, idempotency_key: str | None = None, **fields: Unpack[MessageFields]
    ) -> Message:
        """Publish a message to the queue with this alias or id, and return it once it is stored.

        `data` is text or bytes, which are delivered as they are, or any value with a JSON form. `fields` are `key`,
        `delay`, `expires_in` and the others of `MessageFields`. The message is published once, however often the
        request is sent. A call with the same `idempotency_key` and the same fields publishes nothing more.
        """
        return await self.messages.create(queue, idempotency_key=idempotency_key, **message_fields(data, **fields))
