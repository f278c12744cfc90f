"""Messages that were pulled, and what became of their receipts."""

import msgspec
from msgspec import UNSET, UnsetType

from discue.api.wire.answer import Answer


class PulledShown(msgspec.Struct, kw_only=True, frozen=True):
    """A message that was handed out. `data` is what listeners receive, as a string; `receipt` stands for its lease."""

    id: str
    stored_at: int
    data: str
    content_type: str
    attempt: int
    receipt: str
    leased_until: int
    key: str | UnsetType = UNSET
    headers: dict[str, str] | UnsetType = UNSET


class Pulled(Answer, kw_only=True, frozen=True):
    messages: list[PulledShown]


class ReceiptShown(msgspec.Struct, frozen=True):
    """What became of what was said of a message."""

    receipt: str
    state: str


class Receipts(Answer, kw_only=True, frozen=True):
    receipts: list[ReceiptShown]
