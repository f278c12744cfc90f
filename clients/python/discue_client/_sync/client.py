"""The client.

Written by `make docs` from `_async/client.py`. Do not edit.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from discue_client._sync.consumer import Consumer
from discue_client._sync.publisher import Publisher
from discue_client._sync.requester import Requester
from discue_client._sync.resources import Resources
from discue_client._sync.transport import Transport
from discue_client.configuration import Configuration, RetryPolicy
from discue_client.messages import message_fields

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from typing_extensions import Self

    from discue_client.models import Message
    from discue_client.wire import HttpClient

DEFAULT_TIMEOUT = 15.0


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
        timeout: float = DEFAULT_TIMEOUT,
        deadline: float = RetryPolicy.deadline,
        attempts: int = RetryPolicy.attempts,
        http_client: HttpClient | None = None,
    ) -> None:
        self._configuration = Configuration.of(url, api_key)
        self._transport = Transport(self._configuration, http_client)
        self._set(timeout, RetryPolicy(deadline=deadline, attempts=attempts))

    def _set(self, timeout: float, policy: RetryPolicy) -> None:
        self._timeout, self._policy = timeout, policy
        self.requester = Requester(self._transport, policy, timeout)
        """Sends requests for which there is no method."""
        super().__init__(self.requester)

    def with_options(
        self, *, timeout: float | None = None, deadline: float | None = None, attempts: int | None = None
    ) -> Discue:
        """Return a client with other options on the same connections. Closing either closes both."""
        policy = self._policy
        policy = policy if deadline is None else replace(policy, deadline=deadline)
        policy = policy if attempts is None else replace(policy, attempts=attempts)
        changed: Discue = object.__new__(type(self))
        changed._configuration, changed._transport = self._configuration, self._transport
        changed._set(self._timeout if timeout is None else timeout, policy)
        return changed

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._configuration.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. Requests after that raise RuntimeError."""
        self._transport.close()

    def request(self, method: str, path: str, **options: Any) -> bytes:
        """Send a request for which this version of the client has no method: see `Requester.request`."""
        return self.requester.request(method, path, **options)

    def consume(self, queue: str, *, listener: str, concurrency: int = 10, **options: Any) -> Consumer:
        """Return a consumer of a listener in pull mode, with up to `concurrency` messages at a time.

        See `Consumer`.
        """
        return Consumer(self.requester, queue, listener, concurrency=concurrency, **options)

    def publisher(self, queue: str, **options: Any) -> Publisher:
        """Return a publisher to the queue, which sends messages in batches: see `Publisher`."""
        return Publisher(self.requester, queue, **options)

    def publish(
        self,
        queue: str,
        data: object,
        *,
        key: str | None = None,
        delay: float | None = None,
        expires_in: float | None = None,
        headers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> Message:
        """Publish a message to the queue with this alias or id.

        When it returns, the message is stored and will be delivered. `data` is text or bytes, which are delivered as
        they are, or any value with a JSON form. `key` orders messages in an ordered queue. `delay` and `expires_in`
        are seconds. `fields` are further fields of a message, such as `alias`, `deliver_at` and `content_type`. The
        message is published once, however often the request is sent. A call with the same `idempotency_key` and the
        same fields publishes nothing more.
        """
        message = message_fields(data, key=key, delay=delay, expires_in=expires_in, headers=headers, **fields)
        return self.messages.create(queue, idempotency_key=idempotency_key, **message)
