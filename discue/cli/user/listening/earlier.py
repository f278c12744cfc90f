"""Messages that a queue had before a listener was created, in the form in which a push listener would get them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

import msgspec

from discue.cli.user.listening.forwarding import Forwardable
from discue.domain.message_data import data_of, data_of_base64
from discue_client.wire import path_of

if TYPE_CHECKING:
    from discue_client import AsyncDiscue


class EarlierMessage(msgspec.Struct, frozen=True):
    """A message of a list. Its data is not decoded: the local server gets the bytes that were published."""

    id: str
    created_at: int
    data: msgspec.Raw = msgspec.Raw(b"null")
    data_base64: msgspec.Raw = msgspec.Raw()
    """Empty if the data was not sent in base64."""
    content_type: str | None = None
    deliver_at: int | None = None
    key: str | None = None
    headers: dict[str, str] = {}

    def forwardable(self) -> Forwardable:
        encoded = bytes(self.data_base64)
        body, codec = (
            data_of_base64(encoded, "/data_base64") if encoded else data_of(bytes(self.data), self.content_type)
        )
        return Forwardable(self.id, body, self.content_type or "", self.key, self.headers, 1, codec)


class _Page(msgspec.Struct, frozen=True):
    messages: tuple[EarlierMessage, ...]
    links: dict[str, object] = msgspec.field(name="_links", default_factory=dict)


_PER_PAGE: Final = 100
_page_of = msgspec.json.Decoder(_Page).decode


async def earlier_messages(client: AsyncDiscue, queue: str, since: int, until: int) -> AsyncIterator[EarlierMessage]:
    """Yield the messages of a queue from `since` to `until`, newest first. Both are included."""
    query = {"created_after": since - 1, "created_before": until + 1, "data": "true", "per_page": _PER_PAGE}
    path = path_of("queues", queue, "messages")
    page = _page_of(await client.request("GET", path, query=query))
    while page.messages:
        for message in page.messages:
            yield message
        if "next" not in page.links:
            return
        page = _page_of(await client.request("GET", path, query={**query, "after": page.messages[-1].id}))
