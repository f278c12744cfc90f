"""Limits, and what is used of them."""

import msgspec

from discue.api.wire.answer import Answer


class RateShown(msgspec.Struct, frozen=True):
    """Requests a minute. `reset_at` is in milliseconds; 2147483647 stands for any number."""

    limit: int
    remaining: int
    reset_at: int


class QuotaShown(msgspec.Struct, frozen=True):
    """`limit` is null where there is none. Without one, queues and listeners are counted up to 10,000."""

    limit: int | None
    used: int


class QuotasUsed(msgspec.Struct, frozen=True):
    queues: QuotaShown
    listeners: QuotaShown
    messages_a_day: QuotaShown
    bytes_stored: QuotaShown


class LimitsShown(msgspec.Struct, frozen=True):
    """What the key, its organization and a request may come to. Sizes are in bytes, `retention` is in seconds."""

    rate_limit: RateShown
    quotas: QuotasUsed
    retention: int
    max_message_bytes: int
    max_batch_messages: int
    max_batch_bytes: int
    max_per_page: int


class Limits(Answer, kw_only=True, frozen=True):
    limits: LimitsShown
