"""Messages."""

from msgspec import UNSET, UnsetType

from discue.api.wire.answer import Answer, Shown
from discue.api.wire.deliveries import DeliveryShown
from discue.api.wire.delivery_options import RetryShown


class MessageShown(Shown, kw_only=True, frozen=True):
    """`data` is what listeners receive, as a string; options are there where they were chosen."""

    data: str | UnsetType = UNSET
    deliver_at: int | UnsetType = UNSET
    expires_at: int | UnsetType = UNSET
    key: str | UnsetType = UNSET
    headers: dict[str, str] | UnsetType = UNSET
    retry: RetryShown | UnsetType = UNSET
    subject: str | UnsetType = UNSET
    deliveries: list[DeliveryShown] | UnsetType = UNSET


class Message(Answer, kw_only=True, frozen=True):
    message: MessageShown


class Messages(Answer, kw_only=True, frozen=True):
    messages: list[MessageShown]
