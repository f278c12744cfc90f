"""How deliveries are made."""

import msgspec
from msgspec import UNSET, UnsetType


class RetryShown(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """What was chosen of a retry policy."""

    schedule: list[int] | UnsetType = UNSET
    jitter: float | UnsetType = UNSET
    attempts: int | UnsetType = UNSET
    final_statuses: list[int | str] | UnsetType = UNSET


class PolicyShown(msgspec.Struct, kw_only=True, frozen=True):
    """A whole retry policy."""

    schedule: list[int]
    jitter: float
    attempts: int
    final_statuses: list[str]


class RateLimitShown(msgspec.Struct, frozen=True):
    per_second: float
    burst: int


class EffectiveShown(msgspec.Struct, kw_only=True, frozen=True):
    """What holds for a listener's requests: its own choice, its queue's, or the service's."""

    timeout: int | UnsetType = UNSET
    lease_seconds: int | UnsetType = UNSET
    max_in_flight: int
    retry: PolicyShown
    format: str
    rate_limit: RateLimitShown | UnsetType = UNSET
