"""Operations by resource.

Written by `make docs` from `_async/resources.py`. Do not edit.
"""

# ruff: noqa: A002, PLR0913

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from msgspec import UNSET, UnsetType

from discue_client import models
from discue_client._sync.requester import Pages, Requester
from discue_client.messages import message_fields
from discue_client.wire import given, path_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from discue_client.messages import MessageFields


class ApiKeys:
    """Operations of `client.api_keys`."""

    def __init__(self, requester: Requester) -> None:
        self._requester = requester

    def list(
        self,
        *,
        alias: str | None = None,
        created_after: int | None = None,
        created_before: int | None = None,
        limit: int | None = None,
    ) -> Pages[models.ApiKey]:
        """List API keys."""
        path = path_of("api_keys")
        query = {"alias": alias, "created_after": created_after, "created_before": created_before}
        return Pages(self._requester, path, query, page_type=models.ApiKeysResponse, items="api_keys", limit=limit)

    def create(
        self,
        *,
        alias: str | UnsetType | None = UNSET,
        status: Literal["enabled", "disabled"] | None | UnsetType = UNSET,
        scopes: Mapping[str, Mapping[str, Any]] | Sequence[Mapping[str, Any]] | UnsetType = UNSET,
        expires_at: int | UnsetType | None = UNSET,
        idempotency_key: str | None = None,
    ) -> models.ApiKey:
        """Create an API key. Only this response shows the complete key."""
        found = self._requester.result(
            models.ApiKeyResponse,
            "POST",
            path_of("api_keys"),
            body=given(alias=alias, status=status, scopes=scopes, expires_at=expires_at),
            idempotency_key=idempotency_key,
        )
        return found.api_key

    def get(self, api_key: str) -> models.ApiKey:
        """Get an API key."""
        found = self._requester.result(models.ApiKeyResponse, "GET", path_of("api_keys", api_key))
        return found.api_key

    def update(
        self,
        api_key: str,
        *,
        alias: str | UnsetType | None = UNSET,
        status: Literal["enabled", "disabled"] | None | UnsetType = UNSET,
        scopes: Mapping[str, Mapping[str, Any]] | Sequence[Mapping[str, Any]] | UnsetType = UNSET,
        expires_at: int | UnsetType | None = UNSET,
    ) -> models.ApiKey:
        """Change an API key. `scopes` replaces all scopes of the key."""
        found = self._requester.result(
            models.ApiKeyResponse,
            "PUT",
            path_of("api_keys", api_key),
            body=given(alias=alias, status=status, scopes=scopes, expires_at=expires_at),
        )
        return found.api_key

    def delete(self, api_key: str) -> None:
        """Delete an API key."""
        self._requester.request("DELETE", path_of("api_keys", api_key))


class Channels:
    """Operations of `client.channels`."""

    def __init__(self, requester: Requester) -> None:
        self._requester = requester

    def list(
        self,
        topic: str,
        *,
        alias: str | None = None,
        created_after: int | None = None,
        created_before: int | None = None,
        limit: int | None = None,
    ) -> Pages[models.Channel]:
        """List the channels of a topic."""
        path = path_of("topics", topic, "channels")
        query = {"alias": alias, "created_after": created_after, "created_before": created_before}
        return Pages(self._requester, path, query, page_type=models.ChannelsResponse, items="channels", limit=limit)

    def create(
        self,
        topic: str,
        *,
        alias: str | UnsetType | None = UNSET,
        queue_id: str,
        pattern: str | UnsetType | None = UNSET,
        filter: Mapping[str, Any] | None | UnsetType = UNSET,
        idempotency_key: str | None = None,
    ) -> models.Channel:
        """Create a channel. Messages published to the topic from now on are copied to the queue if they pass it."""
        found = self._requester.result(
            models.ChannelResponse,
            "POST",
            path_of("topics", topic, "channels"),
            body=given(alias=alias, queue_id=queue_id, pattern=pattern, filter=filter),
            idempotency_key=idempotency_key,
        )
        return found.channel

    def get(self, topic: str, channel: str) -> models.Channel:
        """Get a channel."""
        found = self._requester.result(models.ChannelResponse, "GET", path_of("topics", topic, "channels", channel))
        return found.channel

    def update(
        self,
        topic: str,
        channel: str,
        *,
        alias: str | UnsetType | None = UNSET,
        queue_id: str | UnsetType = UNSET,
        pattern: str | UnsetType | None = UNSET,
        filter: Mapping[str, Any] | None | UnsetType = UNSET,
    ) -> models.Channel:
        """Change a channel. Its queue cannot change."""
        found = self._requester.result(
            models.ChannelResponse,
            "PUT",
            path_of("topics", topic, "channels", channel),
            body=given(alias=alias, queue_id=queue_id, pattern=pattern, filter=filter),
        )
        return found.channel

    def delete(self, topic: str, channel: str) -> None:
        """Delete a channel."""
        self._requester.request("DELETE", path_of("topics", topic, "channels", channel))


class Domains:
    """Operations of `client.domains`."""

    def __init__(self, requester: Requester) -> None:
        self._requester = requester

    def list(
        self,
        *,
        alias: str | None = None,
        created_after: int | None = None,
        created_before: int | None = None,
        limit: int | None = None,
    ) -> Pages[models.Domain]:
        """List domains."""
        path = path_of("domains")
        query = {"alias": alias, "created_after": created_after, "created_before": created_before}
        return Pages(self._requester, path, query, page_type=models.DomainsResponse, items="domains", limit=limit)

    def create(
        self,
        *,
        alias: str | UnsetType | None = UNSET,
        hostname: str,
        port: int | UnsetType | None = UNSET,
        idempotency_key: str | None = None,
    ) -> models.Domain:
        """Create a domain. The response names the file that verifies the domain, and its content."""
        found = self._requester.result(
            models.DomainResponse,
            "POST",
            path_of("domains"),
            body=given(alias=alias, hostname=hostname, port=port),
            idempotency_key=idempotency_key,
        )
        return found.domain

    def get(self, domain: str) -> models.Domain:
        """Get a domain."""
        found = self._requester.result(models.DomainResponse, "GET", path_of("domains", domain))
        return found.domain

    def update(
        self,
        domain: str,
        *,
        alias: str | UnsetType | None = UNSET,
        hostname: str | UnsetType = UNSET,
        port: int | UnsetType | None = UNSET,
    ) -> models.Domain:
        """Change a domain. Its hostname and port cannot change. Renews an expired challenge."""
        found = self._requester.result(
            models.DomainResponse,
            "PUT",
            path_of("domains", domain),
            body=given(alias=alias, hostname=hostname, port=port),
        )
        return found.domain

    def delete(self, domain: str) -> None:
        """Delete a domain. Listeners on it are no longer on a verified domain."""
        self._requester.request("DELETE", path_of("domains", domain))

    def verify(self, domain: str) -> models.Domain:
        """Verify a domain now. Checks the file, and returns the domain with the result."""
        found = self._requester.result(models.DomainResponse, "PUT", path_of("domains", domain, "verification"))
        return found.domain


class Erasures:
    """Operations of `client.erasures`."""

    def __init__(self, requester: Requester) -> None:
        self._requester = requester

    def list(
        self,
        queue: str,
        *,
        alias: str | None = None,
        created_after: int | None = None,
        created_before: int | None = None,
        limit: int | None = None,
    ) -> Pages[models.Erasure]:
        """List the erasures of a queue."""
        path = path_of("queues", queue, "erasures")
        query = {"alias": alias, "created_after": created_after, "created_before": created_before}
        return Pages(self._requester, path, query, page_type=models.ErasuresResponse, items="erasures", limit=limit)

    def create(self, queue: str, *, key: str, idempotency_key: str | None = None) -> models.Erasure:
        """Erase the messages with a key. After the response, none of them can be read, redelivered or replayed.
        Messages that are published during the erasure are kept.
        """
        found = self._requester.result(
            models.ErasureResponse,
            "POST",
            path_of("queues", queue, "erasures"),
            body=given(key=key),
            idempotency_key=idempotency_key,
        )
        return found.erasure

    def get(self, queue: str, erasure: str) -> models.Erasure:
        """Get an erasure."""
        found = self._requester.result(models.ErasureResponse, "GET", path_of("queues", queue, "erasures", erasure))
        return found.erasure


class EventTypes:
    """Operations of `client.event_types`."""

    def __init__(self, requester: Requester) -> None:
        self._requester = requester

    def list(
        self,
        *,
        alias: str | None = None,
        created_after: int | None = None,
        created_before: int | None = None,
        limit: int | None = None,
    ) -> Pages[models.EventType]:
        """List event types."""
        path = path_of("event_types")
        query = {"alias": alias, "created_after": created_after, "created_before": created_before}
        return Pages(
            self._requester, path, query, page_type=models.EventTypesResponse, items="event_types", limit=limit
        )

    def create(
        self,
        *,
        type: str,
        description: str | UnsetType | None = UNSET,
        status: Literal["enabled", "deprecated"] | None | UnsetType = UNSET,
        json_schema: Mapping[str, Any] | bool | None | UnsetType = UNSET,
        example: Any = UNSET,
        idempotency_key: str | None = None,
    ) -> models.EventType:
        """Create an event type."""
        found = self._requester.result(
            models.EventTypeResponse,
            "POST",
            path_of("event_types"),
            body=given(type=type, description=description, status=status, json_schema=json_schema, example=example),
            idempotency_key=idempotency_key,
        )
        return found.event_type

    def get(self, event_type: str) -> models.EventType:
        """Get an event type."""
        found = self._requester.result(models.EventTypeResponse, "GET", path_of("event_types", event_type))
        return found.event_type

    def update(
        self,
        event_type: str,
        *,
        type: str | UnsetType = UNSET,
        description: str | UnsetType | None = UNSET,
        status: Literal["enabled", "deprecated"] | None | UnsetType = UNSET,
        json_schema: Mapping[str, Any] | bool | None | UnsetType = UNSET,
        example: Any = UNSET,
    ) -> models.EventType:
        """Change an event type."""
        found = self._requester.result(
            models.EventTypeResponse,
            "PUT",
            path_of("event_types", event_type),
            body=given(type=type, description=description, status=status, json_schema=json_schema, example=example),
        )
        return found.event_type

    def delete(self, event_type: str) -> None:
        """Delete an event type. Messages and listeners keep their types."""
        self._requester.request("DELETE", path_of("event_types", event_type))

    def openapi(self) -> models.WebhooksDocument:
        """Get the catalogue as OpenAPI. Returns `webhooks` of OpenAPI 3.1, for your customers' code generators."""
        return self._requester.result(models.WebhooksDocument, "GET", path_of("event_types.openapi.json"))


class Events:
    """Operations of `client.events`."""

    def __init__(self, requester: Requester) -> None:
        self._requester = requester

    def list(
        self,
        *,
        events: Literal["all", "api_keys", "listeners", "messages", "queues"] | None = None,
        created_after: int | None = None,
        limit: int | None = None,
    ) -> Pages[models.Event]:
        """List usage events. Events, newest first. `_links.next` leads to later events. It goes back a few
        seconds, because events can be stored slightly later than their ids say, so some events may be repeated.
        With `page`, `per_page`, `after` or `before`, it pages like other lists: `_links.next` leads to earlier
        events.
        """
        path = path_of("events")
        query = {"events": events, "created_after": created_after}
        return Pages(self._requester, path, query, page_type=models.EventsResponse, items="events", limit=limit)


class Listeners:
    """Operations of `client.listeners`."""

    def __init__(self, requester: Requester) -> None:
        self._requester = requester

    def list(
        self,
        queue: str | None = None,
        *,
        alias: str | None = None,
        created_after: int | None = None,
        created_before: int | None = None,
        customer: str | None = None,
        limit: int | None = None,
    ) -> Pages[models.Listener]:
        """List the listeners of a queue."""
        path = path_of("queues", queue, "listeners") if queue is not None else path_of("listeners")
        query = {"alias": alias, "created_after": created_after, "created_before": created_before, "customer": customer}
        return Pages(self._requester, path, query, page_type=models.ListenersResponse, items="listeners", limit=limit)

    def create(
        self,
        queue: str,
        *,
        alias: str | UnsetType | None = UNSET,
        notify_url: str | UnsetType = UNSET,
        liveness_url: str | UnsetType | None = UNSET,
        status: Literal["enabled", "disabled"] | None | UnsetType = UNSET,
        headers: Mapping[str, str] | None | UnsetType = UNSET,
        timeout: int | UnsetType | None = UNSET,
        retry: models.RetryBody | Sequence[int] | None | UnsetType = UNSET,
        max_in_flight: int | UnsetType | None = UNSET,
        rate_limit: models.RateLimitBody | UnsetType | None = UNSET,
        types: Sequence[str] | None | UnsetType = UNSET,
        filter: Mapping[str, Any] | None | UnsetType = UNSET,
        transform: str | UnsetType | None = UNSET,
        format: Literal["plain", "cloudevents_binary", "cloudevents_structured"] | None | UnsetType = UNSET,
        mode: Literal["push", "pull"] | None | UnsetType = UNSET,
        lease_seconds: int | UnsetType | None = UNSET,
        trace: Literal["propagate", "restart", "none"] | None | UnsetType = UNSET,
        description: str | UnsetType | None = UNSET,
        customer: str | UnsetType | None = UNSET,
        authentication: models.AuthenticationBody | UnsetType | None = UNSET,
        idempotency_key: str | None = None,
    ) -> models.Listener:
        """Create a listener. It receives messages that are published from now on. Only this response shows its
        signing secret. In pull mode it has neither a secret nor URLs.
        """
        found = self._requester.result(
            models.ListenerResponse,
            "POST",
            path_of("queues", queue, "listeners"),
            body=given(
                alias=alias,
                notify_url=notify_url,
                liveness_url=liveness_url,
                status=status,
                headers=headers,
                timeout=timeout,
                retry=retry,
                max_in_flight=max_in_flight,
                rate_limit=rate_limit,
                types=types,
                filter=filter,
                transform=transform,
                format=format,
                mode=mode,
                lease_seconds=lease_seconds,
                trace=trace,
                description=description,
                customer=customer,
                authentication=authentication,
            ),
            idempotency_key=idempotency_key,
        )
        return found.listener

    def get(self, queue: str, listener: str) -> models.Listener:
        """Get a listener."""
        found = self._requester.result(models.ListenerResponse, "GET", path_of("queues", queue, "listeners", listener))
        return found.listener

    def update(
        self,
        queue: str,
        listener: str,
        *,
        alias: str | UnsetType | None = UNSET,
        notify_url: str | UnsetType = UNSET,
        liveness_url: str | UnsetType | None = UNSET,
        status: Literal["enabled", "disabled"] | None | UnsetType = UNSET,
        headers: Mapping[str, str] | None | UnsetType = UNSET,
        timeout: int | UnsetType | None = UNSET,
        retry: models.RetryBody | Sequence[int] | None | UnsetType = UNSET,
        max_in_flight: int | UnsetType | None = UNSET,
        rate_limit: models.RateLimitBody | UnsetType | None = UNSET,
        types: Sequence[str] | None | UnsetType = UNSET,
        filter: Mapping[str, Any] | None | UnsetType = UNSET,
        transform: str | UnsetType | None = UNSET,
        format: Literal["plain", "cloudevents_binary", "cloudevents_structured"] | None | UnsetType = UNSET,
        mode: Literal["push", "pull"] | None | UnsetType = UNSET,
        lease_seconds: int | UnsetType | None = UNSET,
        trace: Literal["propagate", "restart", "none"] | None | UnsetType = UNSET,
        description: str | UnsetType | None = UNSET,
        customer: str | UnsetType | None = UNSET,
        authentication: models.AuthenticationBody | UnsetType | None = UNSET,
    ) -> models.Listener:
        """Change a listener. The messages of a disabled listener wait."""
        found = self._requester.result(
            models.ListenerResponse,
            "PUT",
            path_of("queues", queue, "listeners", listener),
            body=given(
                alias=alias,
                notify_url=notify_url,
                liveness_url=liveness_url,
                status=status,
                headers=headers,
                timeout=timeout,
                retry=retry,
                max_in_flight=max_in_flight,
                rate_limit=rate_limit,
                types=types,
                filter=filter,
                transform=transform,
                format=format,
                mode=mode,
                lease_seconds=lease_seconds,
                trace=trace,
                description=description,
                customer=customer,
                authentication=authentication,
            ),
        )
        return found.listener

    def delete(self, queue: str, listener: str) -> None:
        """Delete a listener."""
        self._requester.request("DELETE", path_of("queues", queue, "listeners", listener))

    def test_filter(
        self,
        queue: str,
        listener: str,
        *,
        filter: Mapping[str, Any] | None | UnsetType = UNSET,
        types: Sequence[str] | None | UnsetType = UNSET,
        message_id: str | UnsetType | None = UNSET,
        data: Any = UNSET,
        data_base64: str | UnsetType | None = UNSET,
        content_type: str | UnsetType | None = UNSET,
        type: str | UnsetType | None = UNSET,
        headers: Mapping[str, str] | None | UnsetType = UNSET,
        key: str | UnsetType | None = UNSET,
    ) -> models.FilterTest:
        """Try a filter. Stores and sends nothing. A stored message requires a key that may read it."""
        found = self._requester.result(
            models.FilterTestResponse,
            "POST",
            path_of("queues", queue, "listeners", listener, "filter-tests"),
            body=given(
                filter=filter,
                types=types,
                message_id=message_id,
                data=data,
                data_base64=data_base64,
                content_type=content_type,
                type=type,
                headers=headers,
                key=key,
            ),
        )
        return found.filter_test

    def test_transform(
        self,
        queue: str,
        listener: str,
        *,
        transform: str | UnsetType | None = UNSET,
        limit: int | UnsetType | None = UNSET,
    ) -> models.TransformTest:
        """Try a transform. Applies it to the newest messages of the queue, for up to a second. Stores and sends
        nothing.
        """
        found = self._requester.result(
            models.TransformTestResponse,
            "POST",
            path_of("queues", queue, "listeners", listener, "transform-tests"),
            body=given(transform=transform, limit=limit),
        )
        return found.transform_test

    def test(
        self,
        queue: str,
        listener: str,
        *,
        data: Any = UNSET,
        data_base64: str | UnsetType | None = UNSET,
        content_type: str | UnsetType | None = UNSET,
        type: str | UnsetType | None = UNSET,
        headers: Mapping[str, str] | None | UnsetType = UNSET,
    ) -> models.DeliveryTest:
        """Test a listener. Sends one request to its `notify_url`, signed like a delivery, with `discue-test:
        true`. It is not stored, counted or retried.
        """
        found = self._requester.result(
            models.DeliveryTestResponse,
            "POST",
            path_of("queues", queue, "listeners", listener, "tests"),
            body=given(data=data, data_base64=data_base64, content_type=content_type, type=type, headers=headers),
            repeatable=False,
        )
        return found.test

    def pull(
        self, queue: str, listener: str, *, max: int | None = None, wait: int | None = None
    ) -> tuple[models.PulledMessage, ...]:
        """Pull messages. For listeners in pull mode. Each message is leased: no other consumer receives it until
        it is released or its lease ends. With `Accept: text/event-stream`, messages are streamed as events
        until the client disconnects or its key expires.
        """
        found = self._requester.result(
            models.PulledMessagesResponse,
            "GET",
            path_of("queues", queue, "listeners", listener, "messages"),
            query={"max": max, "wait": wait},
            extra_time=wait or 0,
        )
        return found.messages

    def settle(
        self,
        queue: str,
        listener: str,
        *,
        acknowledge: Sequence[str] | None | UnsetType = UNSET,
        reject: Sequence[str] | None | UnsetType = UNSET,
        release: Sequence[str] | None | UnsetType = UNSET,
        extend: Sequence[str] | None | UnsetType = UNSET,
        delay: int | UnsetType | None = UNSET,
        lease_seconds: int | UnsetType | None = UNSET,
    ) -> tuple[models.Receipt, ...]:
        """Acknowledge pulled messages. Each receipt is handled on its own, and has its own result."""
        found = self._requester.result(
            models.ReceiptsResponse,
            "POST",
            path_of("queues", queue, "listeners", listener, "acknowledgements"),
            body=given(
                acknowledge=acknowledge,
                reject=reject,
                release=release,
                extend=extend,
                delay=delay,
                lease_seconds=lease_seconds,
            ),
        )
        return found.receipts

    def attempts(
        self,
        queue: str,
        listener: str,
        *,
        created_after: int | None = None,
        created_before: int | None = None,
        state: Literal["acknowledged", "failed"] | None = None,
        status: str | None = None,
        limit: int | None = None,
    ) -> Pages[models.Attempt]:
        """List the attempts to deliver to a listener. Of all its messages, without details. A page can be short or
        empty and still have a `next`: the list ends at the page without one.
        """
        path = path_of("queues", queue, "listeners", listener, "attempts")
        query = {"created_after": created_after, "created_before": created_before, "state": state, "status": status}
        return Pages(self._requester, path, query, page_type=models.AttemptsResponse, items="attempts", limit=limit)

    def attempt(self, queue: str, listener: str, attempt: str) -> models.Attempt:
        """Get an attempt to deliver to a listener. With details, if they were kept."""
        found = self._requester.result(
            models.AttemptResponse, "GET", path_of("queues", queue, "listeners", listener, "attempts", attempt)
        )
        return found.attempt


class Messages:
    """Operations of `client.messages`."""

    def __init__(self, requester: Requester) -> None:
        self._requester = requester

    def list(
        self,
        queue: str | None = None,
        *,
        alias: str | None = None,
        created_after: int | None = None,
        created_before: int | None = None,
        listener: str | None = None,
        state: Literal["acknowledged", "pending", "retrying", "missed", "no_listeners"] | None = None,
        key: str | None = None,
        header: str | None = None,
        data: bool | Literal["true", "false"] | None = None,
        limit: int | None = None,
    ) -> Pages[models.Message]:
        """List the messages of a queue."""
        path = path_of("queues", queue, "messages") if queue is not None else path_of("messages")
        query = {
            "alias": alias,
            "created_after": created_after,
            "created_before": created_before,
            "listener": listener,
            "state": state,
            "key": key,
            "header": header,
            "data": data,
        }
        return Pages(self._requester, path, query, page_type=models.MessagesResponse, items="messages", limit=limit)

    def create(
        self,
        queue: str,
        *,
        alias: str | UnsetType | None = UNSET,
        data: Any = UNSET,
        data_base64: str | UnsetType | None = UNSET,
        content_type: str | UnsetType | None = UNSET,
        type: str | UnsetType | None = UNSET,
        deliver_at: int | UnsetType | None = UNSET,
        delay: int | UnsetType | None = UNSET,
        expires_at: int | UnsetType | None = UNSET,
        key: str | UnsetType | None = UNSET,
        headers: Mapping[str, str] | None | UnsetType = UNSET,
        retry: models.RetryBody | Sequence[int] | None | UnsetType = UNSET,
        idempotency_key: str | None = None,
    ) -> models.Message:
        """Publish a message. The message is durable when the response arrives. Every listener of the queue
        receives it. With headers `ce-…`, including `ce-specversion`, the request is a CloudEvent in binary
        mode: its body is the data, of any media type.
        """
        found = self._requester.result(
            models.MessageResponse,
            "POST",
            path_of("queues", queue, "messages"),
            body=given(
                alias=alias,
                data=data,
                data_base64=data_base64,
                content_type=content_type,
                type=type,
                deliver_at=deliver_at,
                delay=delay,
                expires_at=expires_at,
                key=key,
                headers=headers,
                retry=retry,
            ),
            idempotency_key=idempotency_key,
        )
        return found.message

    def create_batch(
        self, queue: str, *, messages: Sequence[models.MessageBody], idempotency_key: str | None = None
    ) -> tuple[models.Message, ...]:
        """Publish many messages. Publishes all of them or none."""
        found = self._requester.result(
            models.MessagesResponse,
            "POST",
            path_of("queues", queue, "messages", "batch"),
            body=given(messages=messages),
            idempotency_key=idempotency_key,
        )
        return found.messages

    def get(self, queue: str, message: str) -> models.Message:
        """Get a message and its deliveries."""
        found = self._requester.result(models.MessageResponse, "GET", path_of("queues", queue, "messages", message))
        return found.message

    def update(self, queue: str, message: str, *, alias: str | UnsetType | None = UNSET) -> models.Message:
        """Change the alias of a message."""
        found = self._requester.result(
            models.MessageResponse, "PUT", path_of("queues", queue, "messages", message), body=given(alias=alias)
        )
        return found.message

    def delete(self, queue: str, message: str) -> None:
        """Delete a message. Pending deliveries are dropped."""
        self._requester.request("DELETE", path_of("queues", queue, "messages", message))

    def deliveries(
        self,
        queue: str,
        message: str,
        *,
        created_after: int | None = None,
        created_before: int | None = None,
        state: Literal["acknowledged", "pending", "retrying", "missed", "filtered"] | None = None,
        limit: int | None = None,
    ) -> Pages[models.Delivery]:
        """List the deliveries of a message. One for each listener that existed when the message was stored, newest
        listener first. `after` and `before` are ids of listeners.
        """
        path = path_of("queues", queue, "messages", message, "deliveries")
        query = {"created_after": created_after, "created_before": created_before, "state": state}
        return Pages(self._requester, path, query, page_type=models.DeliveriesResponse, items="deliveries", limit=limit)

    def attempts(
        self,
        queue: str,
        message: str,
        *,
        created_after: int | None = None,
        created_before: int | None = None,
        state: Literal["acknowledged", "failed"] | None = None,
        status: str | None = None,
        listener: str | None = None,
        limit: int | None = None,
    ) -> Pages[models.Attempt]:
        """List the attempts to deliver a message. To all listeners, without details."""
        path = path_of("queues", queue, "messages", message, "attempts")
        query = {
            "created_after": created_after,
            "created_before": created_before,
            "state": state,
            "status": status,
            "listener": listener,
        }
        return Pages(self._requester, path, query, page_type=models.AttemptsResponse, items="attempts", limit=limit)

    def attempt(self, queue: str, message: str, attempt: str) -> models.Attempt:
        """Get an attempt to deliver a message. With details, if they were kept."""
        found = self._requester.result(
            models.AttemptResponse, "GET", path_of("queues", queue, "messages", message, "attempts", attempt)
        )
        return found.attempt


class Missed:
    """Operations of `client.missed`."""

    def __init__(self, requester: Requester) -> None:
        self._requester = requester

    def list(
        self,
        *,
        created_after: int | None = None,
        created_before: int | None = None,
        reason: Literal["attempts_used_up", "expired", "final_status", "no_retry", "too_old", "transform"]
        | None = None,
        queue: str | None = None,
        listener: str | None = None,
        group: str | None = None,
        limit: int | None = None,
    ) -> Pages[models.MissedMessage]:
        """List the missed messages of all listeners. By listener, the newest first, and for each listener from its
        newest missed message to its oldest. A message that several listeners missed is listed for each. `after`
        and `before` are positions from `_links`. A page can be short or empty and still have a `next`: the list
        ends at the page without one.
        """
        path = path_of("missed")
        query = {
            "created_after": created_after,
            "created_before": created_before,
            "reason": reason,
            "queue": queue,
            "listener": listener,
            "group": group,
        }
        return Pages(self._requester, path, query, page_type=models.MissedMessagesResponse, items="missed", limit=limit)

    def groups(
        self, *, queue: str | None = None, listener: str | None = None, limit: int | None = None
    ) -> Pages[models.MissedGroup]:
        """List the groups of missed messages. A group has the messages that a listener missed for one reason,
        after responses with one status that differ at most in numbers, ids, times and addresses. `after` and
        `before` are ids of groups. Groups can change their places.
        """
        path = path_of("missed", "groups")
        query = {"queue": queue, "listener": listener}
        return Pages(self._requester, path, query, page_type=models.MissedGroupsResponse, items="groups", limit=limit)


class Organizations:
    """Operations of `client.organizations`."""

    def __init__(self, requester: Requester) -> None:
        self._requester = requester

    def list(
        self,
        *,
        alias: str | None = None,
        created_after: int | None = None,
        created_before: int | None = None,
        limit: int | None = None,
    ) -> Pages[models.Organization]:
        """List organizations. A key of the operator's organization sees all organizations, other keys only their
        own.
        """
        path = path_of("organizations")
        query = {"alias": alias, "created_after": created_after, "created_before": created_before}
        return Pages(
            self._requester, path, query, page_type=models.OrganizationsResponse, items="organizations", limit=limit
        )

    def create(
        self,
        *,
        alias: str | UnsetType | None = UNSET,
        rate_limit: int | UnsetType | None = UNSET,
        quotas: models.QuotasBody | UnsetType | None = UNSET,
        retention: int | UnsetType | None = UNSET,
        require_verified_domains: bool | UnsetType | None = UNSET,
        require_known_types: bool | UnsetType | None = UNSET,
        retry: models.RetryBody | Sequence[int] | None | UnsetType = UNSET,
        idempotency_key: str | None = None,
    ) -> models.CreatedOrganizationResponse:
        """Create an organization. Only this response shows the organization's first API key. A key of the
        operator's organization can create any, other keys those below their own organization, as many as the
        operator allows.
        """
        return self._requester.result(
            models.CreatedOrganizationResponse,
            "POST",
            path_of("organizations"),
            body=given(
                alias=alias,
                rate_limit=rate_limit,
                quotas=quotas,
                retention=retention,
                require_verified_domains=require_verified_domains,
                require_known_types=require_known_types,
                retry=retry,
            ),
            idempotency_key=idempotency_key,
        )

    def get(self, organization: str) -> models.Organization:
        """Get an organization."""
        found = self._requester.result(models.OrganizationResponse, "GET", path_of("organizations", organization))
        return found.organization

    def update(
        self,
        organization: str,
        *,
        alias: str | UnsetType | None = UNSET,
        rate_limit: int | UnsetType | None = UNSET,
        quotas: models.QuotasBody | UnsetType | None = UNSET,
        retention: int | UnsetType | None = UNSET,
        require_verified_domains: bool | UnsetType | None = UNSET,
        require_known_types: bool | UnsetType | None = UNSET,
        retry: models.RetryBody | Sequence[int] | None | UnsetType = UNSET,
    ) -> models.Organization:
        """Change an organization."""
        found = self._requester.result(
            models.OrganizationResponse,
            "PUT",
            path_of("organizations", organization),
            body=given(
                alias=alias,
                rate_limit=rate_limit,
                quotas=quotas,
                retention=retention,
                require_verified_domains=require_verified_domains,
                require_known_types=require_known_types,
                retry=retry,
            ),
        )
        return found.organization

    def delete(self, organization: str) -> None:
        """Delete an organization. Also deletes everything in it."""
        self._requester.request("DELETE", path_of("organizations", organization))


class Portal:
    """Operations of `client.portal`."""

    def __init__(self, requester: Requester) -> None:
        self._requester = requester

    def list(self, organization: str) -> models.PortalSettings:
        """Get the settings of the portal."""
        found = self._requester.result(models.PortalResponse, "GET", path_of("organizations", organization, "portal"))
        return found.portal

    def update(self, organization: str, *, frame_ancestors: Sequence[str]) -> models.PortalSettings:
        """Change the settings of the portal: which pages may embed it."""
        found = self._requester.result(
            models.PortalResponse,
            "PUT",
            path_of("organizations", organization, "portal"),
            body=given(frame_ancestors=frame_ancestors),
        )
        return found.portal


class PortalSessions:
    """Operations of `client.portal_sessions`."""

    def __init__(self, requester: Requester) -> None:
        self._requester = requester

    def list(
        self,
        *,
        alias: str | None = None,
        created_after: int | None = None,
        created_before: int | None = None,
        limit: int | None = None,
    ) -> Pages[models.PortalSession]:
        """List the sessions of customers in the portal."""
        path = path_of("portal_sessions")
        query = {"alias": alias, "created_after": created_after, "created_before": created_before}
        return Pages(
            self._requester, path, query, page_type=models.PortalSessionsResponse, items="portal_sessions", limit=limit
        )

    def create(
        self,
        *,
        customer: str,
        queues: Sequence[str] | UnsetType = UNSET,
        topics: Sequence[str] | UnsetType = UNSET,
        may: Sequence[Literal["create", "edit", "disable", "delete", "secrets", "test", "redeliver", "replay", "limit"]]
        | UnsetType = UNSET,
        expires_in: int | UnsetType = UNSET,
        return_url: str | UnsetType = UNSET,
        theme: models.PortalThemeBody | UnsetType = UNSET,
        idempotency_key: str | None = None,
    ) -> models.PortalSession:
        """Create a session of a customer in the portal. Only this response has the URL that opens it, within a
        minute and once. Give the URL to the customer's browser.
        """
        found = self._requester.result(
            models.PortalSessionResponse,
            "POST",
            path_of("portal_sessions"),
            body=given(
                customer=customer,
                queues=queues,
                topics=topics,
                may=may,
                expires_in=expires_in,
                return_url=return_url,
                theme=theme,
            ),
            idempotency_key=idempotency_key,
        )
        return found.portal_session

    def get(self, portal_session: str) -> models.PortalSession:
        """Get a session of a customer in the portal."""
        found = self._requester.result(models.PortalSessionResponse, "GET", path_of("portal_sessions", portal_session))
        return found.portal_session

    def delete(self, portal_session: str) -> None:
        """End a session of a customer in the portal."""
        self._requester.request("DELETE", path_of("portal_sessions", portal_session))


class Queues:
    """Operations of `client.queues`."""

    def __init__(self, requester: Requester) -> None:
        self._requester = requester

    def list(
        self,
        *,
        alias: str | None = None,
        created_after: int | None = None,
        created_before: int | None = None,
        customer: str | None = None,
        limit: int | None = None,
    ) -> Pages[models.Queue]:
        """List queues."""
        path = path_of("queues")
        query = {"alias": alias, "created_after": created_after, "created_before": created_before, "customer": customer}
        return Pages(self._requester, path, query, page_type=models.QueuesResponse, items="queues", limit=limit)

    def create(
        self,
        *,
        alias: str | UnsetType | None = UNSET,
        retention: int | UnsetType | None = UNSET,
        max_message_bytes: int | UnsetType | None = UNSET,
        schema: Mapping[str, Any] | None | UnsetType = UNSET,
        json_schema: Mapping[str, Any] | bool | None | UnsetType = UNSET,
        retry: models.RetryBody | Sequence[int] | None | UnsetType = UNSET,
        ordered: bool | UnsetType | None = UNSET,
        on_missed: Literal["pass", "block"] | None | UnsetType = UNSET,
        customer: str | UnsetType | None = UNSET,
        idempotency_key: str | None = None,
    ) -> models.Queue:
        """Create a queue."""
        found = self._requester.result(
            models.QueueResponse,
            "POST",
            path_of("queues"),
            body=given(
                alias=alias,
                retention=retention,
                max_message_bytes=max_message_bytes,
                schema=schema,
                json_schema=json_schema,
                retry=retry,
                ordered=ordered,
                on_missed=on_missed,
                customer=customer,
            ),
            idempotency_key=idempotency_key,
        )
        return found.queue

    def get(self, queue: str) -> models.Queue:
        """Get a queue."""
        found = self._requester.result(models.QueueResponse, "GET", path_of("queues", queue))
        return found.queue

    def update(
        self,
        queue: str,
        *,
        alias: str | UnsetType | None = UNSET,
        retention: int | UnsetType | None = UNSET,
        max_message_bytes: int | UnsetType | None = UNSET,
        schema: Mapping[str, Any] | None | UnsetType = UNSET,
        json_schema: Mapping[str, Any] | bool | None | UnsetType = UNSET,
        retry: models.RetryBody | Sequence[int] | None | UnsetType = UNSET,
        ordered: bool | UnsetType | None = UNSET,
        on_missed: Literal["pass", "block"] | None | UnsetType = UNSET,
        customer: str | UnsetType | None = UNSET,
    ) -> models.Queue:
        """Change a queue."""
        found = self._requester.result(
            models.QueueResponse,
            "PUT",
            path_of("queues", queue),
            body=given(
                alias=alias,
                retention=retention,
                max_message_bytes=max_message_bytes,
                schema=schema,
                json_schema=json_schema,
                retry=retry,
                ordered=ordered,
                on_missed=on_missed,
                customer=customer,
            ),
        )
        return found.queue

    def delete(self, queue: str) -> None:
        """Delete a queue. Also deletes its listeners and messages."""
        self._requester.request("DELETE", path_of("queues", queue))


class Redeliveries:
    """Operations of `client.redeliveries`."""

    def __init__(self, requester: Requester) -> None:
        self._requester = requester

    def list(
        self,
        queue: str,
        listener: str,
        *,
        alias: str | None = None,
        created_after: int | None = None,
        created_before: int | None = None,
        limit: int | None = None,
    ) -> Pages[models.Redelivery]:
        """List the redeliveries of a listener."""
        path = path_of("queues", queue, "listeners", listener, "redeliveries")
        query = {"alias": alias, "created_after": created_after, "created_before": created_before}
        return Pages(
            self._requester, path, query, page_type=models.RedeliveriesResponse, items="redeliveries", limit=limit
        )

    def create(
        self,
        queue: str,
        listener: str,
        *,
        messages: Sequence[str] | None | UnsetType = UNSET,
        filter: models.MissedFilterBody | UnsetType | None = UNSET,
        group: str | UnsetType | None = UNSET,
        all: bool | UnsetType | None = UNSET,
        trial: int | UnsetType | None = UNSET,
        pace: int | UnsetType | None = UNSET,
        dry_run: bool | UnsetType | None = UNSET,
        idempotency_key: str | None = None,
    ) -> models.CreatedRedeliveryResponse:
        """Redeliver messages. The selected deliveries become due again, with all their attempts. With `dry_run`,
        nothing changes.
        """
        return self._requester.result(
            models.CreatedRedeliveryResponse,
            "POST",
            path_of("queues", queue, "listeners", listener, "redeliveries"),
            body=given(messages=messages, filter=filter, group=group, all=all, trial=trial, pace=pace, dry_run=dry_run),
            idempotency_key=idempotency_key,
        )

    def get(self, queue: str, listener: str, redelivery: str) -> models.Redelivery:
        """Get a redelivery."""
        found = self._requester.result(
            models.RedeliveryResponse,
            "GET",
            path_of("queues", queue, "listeners", listener, "redeliveries", redelivery),
        )
        return found.redelivery

    def delete(self, queue: str, listener: str, redelivery: str) -> None:
        """Cancel a redelivery. Deletes it at once. Deliveries that are due again already stay due."""
        self._requester.request("DELETE", path_of("queues", queue, "listeners", listener, "redeliveries", redelivery))


class Refusals:
    """Operations of `client.refusals`."""

    def __init__(self, requester: Requester) -> None:
        self._requester = requester

    def list(
        self,
        source: str,
        *,
        alias: str | None = None,
        created_after: int | None = None,
        created_before: int | None = None,
        limit: int | None = None,
    ) -> Pages[models.Refusal]:
        """List the requests that a source refused. The last 100, without bodies. A request is listed within
        seconds.
        """
        path = path_of("sources", source, "refusals")
        query = {"alias": alias, "created_after": created_after, "created_before": created_before}
        return Pages(self._requester, path, query, page_type=models.RefusalsResponse, items="refusals", limit=limit)


class Replays:
    """Operations of `client.replays`."""

    def __init__(self, requester: Requester) -> None:
        self._requester = requester

    def list(
        self,
        queue: str,
        listener: str,
        *,
        alias: str | None = None,
        created_after: int | None = None,
        created_before: int | None = None,
        limit: int | None = None,
    ) -> Pages[models.Replay]:
        """List the replays of a listener."""
        path = path_of("queues", queue, "listeners", listener, "replays")
        query = {"alias": alias, "created_after": created_after, "created_before": created_before}
        return Pages(self._requester, path, query, page_type=models.ReplaysResponse, items="replays", limit=limit)

    def create(
        self,
        queue: str,
        listener: str,
        *,
        from_at: int | UnsetType | None = UNSET,
        from_message: str | UnsetType | None = UNSET,
        until_at: int | UnsetType | None = UNSET,
        until_message: str | UnsetType | None = UNSET,
        pace: int | UnsetType | None = UNSET,
        filter: Mapping[str, Any] | None | UnsetType = UNSET,
        dry_run: bool | UnsetType | None = UNSET,
        idempotency_key: str | None = None,
    ) -> models.CreatedReplayResponse:
        """Replay a part of the queue. Sends messages to the listener again, in addition to new ones. With
        `dry_run`, nothing changes.
        """
        return self._requester.result(
            models.CreatedReplayResponse,
            "POST",
            path_of("queues", queue, "listeners", listener, "replays"),
            body=given(
                from_at=from_at,
                from_message=from_message,
                until_at=until_at,
                until_message=until_message,
                pace=pace,
                filter=filter,
                dry_run=dry_run,
            ),
            idempotency_key=idempotency_key,
        )

    def get(self, queue: str, listener: str, replay: str) -> models.Replay:
        """Get a replay."""
        found = self._requester.result(
            models.ReplayResponse, "GET", path_of("queues", queue, "listeners", listener, "replays", replay)
        )
        return found.replay

    def delete(self, queue: str, listener: str, replay: str) -> None:
        """Cancel a replay. Deletes it at once. Nothing more is sent for it."""
        self._requester.request("DELETE", path_of("queues", queue, "listeners", listener, "replays", replay))


class Schedules:
    """Operations of `client.schedules`."""

    def __init__(self, requester: Requester) -> None:
        self._requester = requester

    def list(
        self,
        queue: str,
        *,
        alias: str | None = None,
        created_after: int | None = None,
        created_before: int | None = None,
        limit: int | None = None,
    ) -> Pages[models.Schedule]:
        """List the schedules of a queue."""
        path = path_of("queues", queue, "schedules")
        query = {"alias": alias, "created_after": created_after, "created_before": created_before}
        return Pages(self._requester, path, query, page_type=models.SchedulesResponse, items="schedules", limit=limit)

    def create(
        self,
        queue: str,
        *,
        alias: str | UnsetType | None = UNSET,
        cron: str,
        time_zone: str | UnsetType | None = UNSET,
        data: Any = UNSET,
        data_base64: str | UnsetType | None = UNSET,
        content_type: str | UnsetType | None = UNSET,
        status: Literal["enabled", "disabled"] | None | UnsetType = UNSET,
        missed_runs: Literal["skip", "catch_up"] | None | UnsetType = UNSET,
        catch_up_limit: int | UnsetType | None = UNSET,
        starts_at: int | UnsetType | None = UNSET,
        ends_at: int | UnsetType | None = UNSET,
        type: str | UnsetType | None = UNSET,
        key: str | UnsetType | None = UNSET,
        headers: Mapping[str, str] | None | UnsetType = UNSET,
        retry: models.RetryBody | Sequence[int] | None | UnsetType = UNSET,
        expires_in: int | UnsetType | None = UNSET,
        idempotency_key: str | None = None,
    ) -> models.Schedule:
        """Create a schedule. Publishes a message at each of its runs, once, whatever the number of workers."""
        found = self._requester.result(
            models.ScheduleResponse,
            "POST",
            path_of("queues", queue, "schedules"),
            body=given(
                alias=alias,
                cron=cron,
                time_zone=time_zone,
                data=data,
                data_base64=data_base64,
                content_type=content_type,
                status=status,
                missed_runs=missed_runs,
                catch_up_limit=catch_up_limit,
                starts_at=starts_at,
                ends_at=ends_at,
                type=type,
                key=key,
                headers=headers,
                retry=retry,
                expires_in=expires_in,
            ),
            idempotency_key=idempotency_key,
        )
        return found.schedule

    def get(self, queue: str, schedule: str) -> models.Schedule:
        """Get a schedule."""
        found = self._requester.result(models.ScheduleResponse, "GET", path_of("queues", queue, "schedules", schedule))
        return found.schedule

    def update(
        self,
        queue: str,
        schedule: str,
        *,
        alias: str | UnsetType | None = UNSET,
        cron: str | UnsetType = UNSET,
        time_zone: str | UnsetType | None = UNSET,
        data: Any = UNSET,
        data_base64: str | UnsetType | None = UNSET,
        content_type: str | UnsetType | None = UNSET,
        status: Literal["enabled", "disabled"] | None | UnsetType = UNSET,
        missed_runs: Literal["skip", "catch_up"] | None | UnsetType = UNSET,
        catch_up_limit: int | UnsetType | None = UNSET,
        starts_at: int | UnsetType | None = UNSET,
        ends_at: int | UnsetType | None = UNSET,
        type: str | UnsetType | None = UNSET,
        key: str | UnsetType | None = UNSET,
        headers: Mapping[str, str] | None | UnsetType = UNSET,
        retry: models.RetryBody | Sequence[int] | None | UnsetType = UNSET,
        expires_in: int | UnsetType | None = UNSET,
    ) -> models.Schedule:
        """Change a schedule. A change of its times applies from now on."""
        found = self._requester.result(
            models.ScheduleResponse,
            "PUT",
            path_of("queues", queue, "schedules", schedule),
            body=given(
                alias=alias,
                cron=cron,
                time_zone=time_zone,
                data=data,
                data_base64=data_base64,
                content_type=content_type,
                status=status,
                missed_runs=missed_runs,
                catch_up_limit=catch_up_limit,
                starts_at=starts_at,
                ends_at=ends_at,
                type=type,
                key=key,
                headers=headers,
                retry=retry,
                expires_in=expires_in,
            ),
        )
        return found.schedule

    def delete(self, queue: str, schedule: str) -> None:
        """Delete a schedule. The messages that it published stay."""
        self._requester.request("DELETE", path_of("queues", queue, "schedules", schedule))


class Schemas:
    """Operations of `client.schemas`."""

    def __init__(self, requester: Requester) -> None:
        self._requester = requester

    def get(self, queue: str, schema: str) -> models.QueueSchemaResponse:
        """Get a schema. The current schema of the queue. Previous schemas are not found."""
        return self._requester.result(models.QueueSchemaResponse, "GET", path_of("queues", queue, "schemas", schema))


class Secrets:
    """Operations of `client.secrets`."""

    def __init__(self, requester: Requester) -> None:
        self._requester = requester

    def list(
        self,
        queue: str,
        listener: str,
        *,
        alias: str | None = None,
        created_after: int | None = None,
        created_before: int | None = None,
        limit: int | None = None,
    ) -> Pages[models.Secret]:
        """List a listener's signing secrets. The valid ones, without the secrets themselves."""
        path = path_of("queues", queue, "listeners", listener, "secrets")
        query = {"alias": alias, "created_after": created_after, "created_before": created_before}
        return Pages(self._requester, path, query, page_type=models.SecretsResponse, items="secrets", limit=limit)

    def create(
        self,
        queue: str,
        listener: str,
        *,
        type: Literal["hmac", "ed25519"] | None | UnsetType = UNSET,
        secret: str | UnsetType | None = UNSET,
        expire_previous_in: int | UnsetType | None = UNSET,
        idempotency_key: str | None = None,
    ) -> models.Secret:
        """Create a signing secret. Requests are signed with it from now on, and with the older secrets of its type
        until these expire. Only this response shows the secret; the private key of a key pair is never shown.
        """
        found = self._requester.result(
            models.SecretResponse,
            "POST",
            path_of("queues", queue, "listeners", listener, "secrets"),
            body=given(type=type, secret=secret, expire_previous_in=expire_previous_in),
            idempotency_key=idempotency_key,
        )
        return found.secret

    def get(self, queue: str, listener: str, secret: str) -> models.Secret:
        """Get a signing secret. Without the secret itself."""
        found = self._requester.result(
            models.SecretResponse, "GET", path_of("queues", queue, "listeners", listener, "secrets", secret)
        )
        return found.secret

    def delete(self, queue: str, listener: str, secret: str) -> None:
        """Delete a signing secret. Requests are no longer signed with it."""
        self._requester.request("DELETE", path_of("queues", queue, "listeners", listener, "secrets", secret))


class Service:
    """Operations of `client.service`."""

    def __init__(self, requester: Requester) -> None:
        self._requester = requester

    def live(self) -> str:
        """Check that the process is alive."""
        found = self._requester.result(models.HealthResponse, "GET", path_of("health", "live"))
        return found.status

    def ready(self) -> str:
        """Check that requests are served. 503 while the service starts or drains, or the database is not writable.
        If a part of the database is damaged, the response is 200 with the status `damaged`, because other
        queues are served.
        """
        found = self._requester.result(models.HealthResponse, "GET", path_of("health", "ready"))
        return found.status


class Sources:
    """Operations of `client.sources`."""

    def __init__(self, requester: Requester) -> None:
        self._requester = requester

    def list(
        self,
        *,
        alias: str | None = None,
        created_after: int | None = None,
        created_before: int | None = None,
        limit: int | None = None,
    ) -> Pages[models.Source]:
        """List sources."""
        path = path_of("sources")
        query = {"alias": alias, "created_after": created_after, "created_before": created_before}
        return Pages(self._requester, path, query, page_type=models.SourcesResponse, items="sources", limit=limit)

    def create(
        self,
        *,
        alias: str | UnsetType | None = UNSET,
        provider: Literal["stripe", "github", "shopify", "standard-webhooks", "hmac"],
        queue_id: str,
        secrets: Sequence[str],
        header: str | UnsetType | None = UNSET,
        algorithm: Literal["sha256", "sha1", "sha512"] | None | UnsetType = UNSET,
        encoding: Literal["hex", "base64"] | None | UnsetType = UNSET,
        prefix: str | UnsetType | None = UNSET,
        timestamp_header: str | UnsetType | None = UNSET,
        id_header: str | UnsetType | None = UNSET,
        idempotency_key: str | None = None,
    ) -> models.Source:
        """Create a source. Enter its `url` in the settings of the provider."""
        found = self._requester.result(
            models.SourceResponse,
            "POST",
            path_of("sources"),
            body=given(
                alias=alias,
                provider=provider,
                queue_id=queue_id,
                secrets=secrets,
                header=header,
                algorithm=algorithm,
                encoding=encoding,
                prefix=prefix,
                timestamp_header=timestamp_header,
                id_header=id_header,
            ),
            idempotency_key=idempotency_key,
        )
        return found.source

    def get(self, source: str) -> models.Source:
        """Get a source. The response does not contain its secrets."""
        found = self._requester.result(models.SourceResponse, "GET", path_of("sources", source))
        return found.source

    def update(
        self,
        source: str,
        *,
        alias: str | UnsetType | None = UNSET,
        provider: Literal["stripe", "github", "shopify", "standard-webhooks", "hmac"] | UnsetType = UNSET,
        queue_id: str | UnsetType = UNSET,
        secrets: Sequence[str] | UnsetType = UNSET,
        header: str | UnsetType | None = UNSET,
        algorithm: Literal["sha256", "sha1", "sha512"] | None | UnsetType = UNSET,
        encoding: Literal["hex", "base64"] | None | UnsetType = UNSET,
        prefix: str | UnsetType | None = UNSET,
        timestamp_header: str | UnsetType | None = UNSET,
        id_header: str | UnsetType | None = UNSET,
    ) -> models.Source:
        """Change a source."""
        found = self._requester.result(
            models.SourceResponse,
            "PUT",
            path_of("sources", source),
            body=given(
                alias=alias,
                provider=provider,
                queue_id=queue_id,
                secrets=secrets,
                header=header,
                algorithm=algorithm,
                encoding=encoding,
                prefix=prefix,
                timestamp_header=timestamp_header,
                id_header=id_header,
            ),
        )
        return found.source

    def delete(self, source: str) -> None:
        """Delete a source. Messages that it has published stay in the queue."""
        self._requester.request("DELETE", path_of("sources", source))


class Stats:
    """Operations of `client.stats`."""

    def __init__(self, requester: Requester) -> None:
        self._requester = requester

    def messages(self) -> models.EventWindows:
        """Count usage events. Counts have a resolution of five minutes: a period starts at a multiple of five
        minutes.
        """
        found = self._requester.result(models.StatisticsResponse, "GET", path_of("stats", "messages"))
        return found.aggregated_api_usage_events

    def limits(self) -> models.Limits:
        """Get limits and their use. The rate limit of the API key, and the quotas of its organization."""
        found = self._requester.result(models.LimitsResponse, "GET", path_of("limits"))
        return found.limits


class Topics:
    """Operations of `client.topics`."""

    def __init__(self, requester: Requester) -> None:
        self._requester = requester

    def list(
        self,
        *,
        alias: str | None = None,
        created_after: int | None = None,
        created_before: int | None = None,
        limit: int | None = None,
    ) -> Pages[models.Topic]:
        """List topics."""
        path = path_of("topics")
        query = {"alias": alias, "created_after": created_after, "created_before": created_before}
        return Pages(self._requester, path, query, page_type=models.TopicsResponse, items="topics", limit=limit)

    def create(self, *, alias: str | UnsetType | None = UNSET, idempotency_key: str | None = None) -> models.Topic:
        """Create a topic."""
        found = self._requester.result(
            models.TopicResponse, "POST", path_of("topics"), body=given(alias=alias), idempotency_key=idempotency_key
        )
        return found.topic

    def get(self, topic: str) -> models.Topic:
        """Get a topic."""
        found = self._requester.result(models.TopicResponse, "GET", path_of("topics", topic))
        return found.topic

    def update(self, topic: str, *, alias: str | UnsetType | None = UNSET) -> models.Topic:
        """Change a topic."""
        found = self._requester.result(models.TopicResponse, "PUT", path_of("topics", topic), body=given(alias=alias))
        return found.topic

    def delete(self, topic: str) -> None:
        """Delete a topic. Also deletes its channels. Messages that were published to it stay in the queues."""
        self._requester.request("DELETE", path_of("topics", topic))

    def publish(
        self, topic: str, data: object, *, idempotency_key: str | None = None, **fields: Unpack[MessageFields]
    ) -> models.TopicMessage:
        """Publish a message to a topic. When the response arrives, the message is durable in all queues that the
        topic's channels select, or in none. `data` is text or bytes, which are delivered as they are, or any
        value with a JSON form. `fields` are `type`, `key`, `delay` and the others of `MessageFields`. As with
        `client.publish`, the message is published once, however often the request is sent.
        """
        found = self._requester.result(
            models.TopicMessageResponse,
            "POST",
            path_of("topics", topic, "messages"),
            body=message_fields(data, **fields),
            idempotency_key=idempotency_key,
        )
        return found.message

    def publish_batch(
        self, topic: str, *, messages: Sequence[models.MessageBody], idempotency_key: str | None = None
    ) -> tuple[models.TopicMessage, ...]:
        """Publish many messages to a topic. Publishes all of them or none."""
        found = self._requester.result(
            models.TopicMessagesResponse,
            "POST",
            path_of("topics", topic, "messages", "batch"),
            body=given(messages=messages),
            idempotency_key=idempotency_key,
        )
        return found.messages


class Users:
    """Operations of `client.users`."""

    def __init__(self, requester: Requester) -> None:
        self._requester = requester

    def list(
        self,
        *,
        alias: str | None = None,
        created_after: int | None = None,
        created_before: int | None = None,
        limit: int | None = None,
    ) -> Pages[models.User]:
        """List users."""
        path = path_of("users")
        query = {"alias": alias, "created_after": created_after, "created_before": created_before}
        return Pages(self._requester, path, query, page_type=models.UsersResponse, items="users", limit=limit)

    def create(
        self,
        *,
        email: str,
        display_name: str | UnsetType | None = UNSET,
        role: Literal["owner", "admin", "developer", "viewer"],
        status: Literal["enabled", "disabled"] | UnsetType = UNSET,
        password: str | UnsetType = UNSET,
        invite: bool | UnsetType = UNSET,
        idempotency_key: str | None = None,
    ) -> models.UserResponse:
        """Create a user. With a password, or with an invitation, which only this response shows."""
        return self._requester.result(
            models.UserResponse,
            "POST",
            path_of("users"),
            body=given(
                email=email, display_name=display_name, role=role, status=status, password=password, invite=invite
            ),
            idempotency_key=idempotency_key,
        )

    def get(self, user: str) -> models.User:
        """Get a user."""
        found = self._requester.result(models.UserResponse, "GET", path_of("users", user))
        return found.user

    def update(
        self,
        user: str,
        *,
        email: str | UnsetType = UNSET,
        display_name: str | UnsetType | None = UNSET,
        role: Literal["owner", "admin", "developer", "viewer"] | UnsetType = UNSET,
        status: Literal["enabled", "disabled"] | UnsetType = UNSET,
        password: str | UnsetType = UNSET,
        invite: bool | UnsetType = UNSET,
    ) -> models.User:
        """Change a user. A new password or invitation invalidates the previous invitation."""
        found = self._requester.result(
            models.UserResponse,
            "PUT",
            path_of("users", user),
            body=given(
                email=email, display_name=display_name, role=role, status=status, password=password, invite=invite
            ),
        )
        return found.user

    def delete(self, user: str) -> None:
        """Delete a user."""
        self._requester.request("DELETE", path_of("users", user))

    def accept_invitation(self, *, token: str, password: str) -> models.UserResponse:
        """Accept an invitation. Sets the user's password. A token can be used once."""
        return self._requester.result(
            models.UserResponse,
            "POST",
            path_of("invitations"),
            body=given(token=token, password=password),
            repeatable=False,
        )


class Resources:
    """The resources of a service, as attributes."""

    def __init__(self, requester: Requester) -> None:
        self.api_keys = ApiKeys(requester)
        self.channels = Channels(requester)
        self.domains = Domains(requester)
        self.erasures = Erasures(requester)
        self.event_types = EventTypes(requester)
        self.events = Events(requester)
        self.listeners = Listeners(requester)
        self.messages = Messages(requester)
        self.missed = Missed(requester)
        self.organizations = Organizations(requester)
        self.portal = Portal(requester)
        self.portal_sessions = PortalSessions(requester)
        self.queues = Queues(requester)
        self.redeliveries = Redeliveries(requester)
        self.refusals = Refusals(requester)
        self.replays = Replays(requester)
        self.schedules = Schedules(requester)
        self.schemas = Schemas(requester)
        self.secrets = Secrets(requester)
        self.service = Service(requester)
        self.sources = Sources(requester)
        self.stats = Stats(requester)
        self.topics = Topics(requester)
        self.users = Users(requester)
