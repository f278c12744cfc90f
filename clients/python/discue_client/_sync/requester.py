"""Requests with common options, and lists that span pages.

Written by `make docs` from `_async/requester.py`. Do not edit.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import parse_qsl, urlsplit

from msgspec import UNSET

from discue_client import wire
from discue_client.transport import Request

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from discue_client._sync.waiting import Transport
    from discue_client.configuration import RetryPolicy

T = TypeVar("T")

_LONGEST_PAGE = 100
_KEY = re.compile(r"[!-~]{1,255}")


class Requester:
    """Sends requests with the same options."""

    def __init__(self, transport: Transport, policy: RetryPolicy) -> None:
        self._transport = transport
        self._policy = policy

    def once(self) -> Requester:
        """Return a requester that sends each request once."""
        return Requester(self._transport, replace(self._policy, attempts=1))

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: object = UNSET,
        headers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        repeatable: bool = True,
        extra_time: float = 0,
    ) -> bytes:
        """Send a request and return the body of the response.

        `path` starts with `/` and is encoded already. A `POST` gets an idempotency key. With `repeatable=False` it is
        sent again only if it cannot have had an effect. The service may take `extra_time` seconds longer than usual to
        respond.
        """
        content = None if body is UNSET else wire.encode(body)
        fields = dict(headers or {})
        if content is not None:
            fields["content-type"] = "application/json"
        if method == "POST" or idempotency_key is not None:
            key = os.urandom(16).hex() if idempotency_key is None else idempotency_key
            if not _KEY.fullmatch(key):
                raise ValueError("An idempotency key has 1 to 255 visible ASCII characters.")
            fields["idempotency-key"] = key
        full = wire.with_query(path, query or {})
        return self._transport.send(Request(method, full, content, fields, repeatable, extra_time), self._policy)

    def result(self, type_: type[T], method: str, path: str, **options: Any) -> T:
        """Like `request`, and decode the response."""
        return wire.decode(self.request(method, path, **options), type_, f"{method} {path}")


@dataclass(frozen=True)
class Pages(Generic[T]):
    """The elements of a list, fetched page by page while they are iterated over."""

    requester: Requester = field(repr=False)
    path: str
    query: Mapping[str, object]
    page_type: type[Any] = field(repr=False)
    items: str
    """The field of the response that has the elements."""
    limit: int | None

    def pages(self) -> Iterator[tuple[T, ...]]:
        """Iterate over the pages."""
        return self._pages(self.limit)

    def __iter__(self) -> Iterator[T]:
        for page in self._pages(self.limit):
            for element in page:
                yield element

    def first(self) -> T | None:
        """Return the first element, or None if there is none."""
        for page in self._pages(1):
            return page[0]
        return None

    def _pages(self, left: int | None) -> Iterator[tuple[T, ...]]:
        query: Mapping[str, object] | None = {"per_page": min(left or _LONGEST_PAGE, _LONGEST_PAGE), **self.query}
        while query is not None and (left is None or left > 0):
            page = self.requester.result(self.page_type, "GET", self.path, query=query)
            found: tuple[T, ...] = getattr(page, self.items)[:left]
            left = None if left is None else left - len(found)
            # Only the query of the link: the key goes to the service that the client was configured for, whatever URL
            # a response names.
            link = page.links.get("next") if found else None
            query = None if link is None else dict(parse_qsl(urlsplit(link.href).query))
            if found:
                yield found
