"""What was counted."""

import msgspec

from discue.api.wire.answer import Answer


class UsageCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many events of each type there were."""

    api_key_added: int = 0
    api_key_updated: int = 0
    api_key_deleted: int = 0
    queue_added: int = 0
    queue_updated: int = 0
    queue_deleted: int = 0
    listener_added: int = 0
    listener_updated: int = 0
    listener_deleted: int = 0
    message_added: int = 0
    message_published_ok: int = 0
    message_published_not_ok: int = 0


class UsageWindows(msgspec.Struct, frozen=True):
    """Today begins at midnight UTC."""

    last_24_hours: UsageCounts
    last_1_hours: UsageCounts
    today_so_far: UsageCounts


class Statistics(Answer, kw_only=True, frozen=True):
    aggregated_api_usage_events: UsageWindows
