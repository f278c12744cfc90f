"""How much an organization may have: what its quotas are, and when one is used up."""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from discue.domain.errors import QuotaExceeded

QuotaName = Literal["queues", "listeners", "messages_a_day", "bytes_stored"]

NAMES: Final[tuple[QuotaName, ...]] = ("queues", "listeners", "messages_a_day", "bytes_stored")

HIGHEST: Final[Mapping[QuotaName, int]] = {
    "queues": 100_000,
    "listeners": 100_000,
    "messages_a_day": 1_000_000_000_000,
    "bytes_stored": 1_000_000_000_000_000,
}
"""Queues and listeners are counted one by one when one is created, so that their quotas are bounded."""

_NEAR: Final = 10
_WHAT: Final[Mapping[QuotaName, str]] = {
    "queues": "queues",
    "listeners": "listeners",
    "messages_a_day": "messages a day (by UTC)",
    "bytes_stored": "bytes of messages that are kept",
}


class Quotas(msgspec.Struct, frozen=True, gc=False):
    """None: as much as there is room for."""

    queues: int | None = None
    listeners: int | None = None
    messages_a_day: int | None = None
    bytes_stored: int | None = None

    @property
    def limit_publishing(self) -> bool:
        return self.messages_a_day is not None or self.bytes_stored is not None


NO_QUOTAS: Final = Quotas()


class PublishUsage(msgspec.Struct, frozen=True, gc=False):
    """What was published in a day, and what is kept; or what some messages add to that."""

    messages: int = 0
    bytes: int = 0

    def __add__(self, other: "PublishUsage") -> "PublishUsage":
        return PublishUsage(self.messages + other.messages, self.bytes + other.bytes)


def setting_of(name: QuotaName) -> str:
    """What a quota is called among an organization's settings."""
    return f"quota_{name}"


def quotas_of(settings: Mapping[str, int | bool], defaults: Quotas) -> Quotas:
    """An organization's quotas: what its settings say, else the defaults."""
    return Quotas(**{name: settings.get(setting_of(name), getattr(defaults, name)) for name in NAMES})


def check(name: QuotaName, quota: int | None, used: int, more: int = 1) -> None:
    """Raise QuotaUsedUp unless so much more fits."""
    if quota is not None and used + more > quota:
        raise QuotaExceeded(
            f"The organization's quota of {quota} {_WHAT[name]} is used up: {used} of it are used. "
            "Remove what is not needed, or ask the operator for more."
        )


def check_publishing(quotas: Quotas, used: PublishUsage, more: PublishUsage) -> None:
    """Raise QuotaUsedUp unless these messages fit."""
    check("messages_a_day", quotas.messages_a_day, used.messages, more.messages)
    check("bytes_stored", quotas.bytes_stored, used.bytes, more.bytes)


def fits(quotas: Quotas, used: PublishUsage, more: PublishUsage) -> bool:
    """Whether these messages fit."""
    return _within(quotas.messages_a_day, used.messages + more.messages) and _within(
        quotas.bytes_stored, used.bytes + more.bytes
    )


def is_near(quotas: Quotas, used: PublishUsage, more: PublishUsage, workers: int) -> bool:
    """Whether nine tenths of a quota would be used if each worker added so much: then its use must be known exactly."""
    return _is_near(quotas.messages_a_day, used.messages + more.messages * workers) or _is_near(
        quotas.bytes_stored, used.bytes + more.bytes * workers
    )


def _within(quota: int | None, used: int) -> bool:
    return quota is None or used <= quota


def _is_near(quota: int | None, used: int) -> bool:
    return quota is not None and used * _NEAR >= quota * (_NEAR - 1)
