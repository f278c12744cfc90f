"""Quotas of organizations: their values, and whether a use is within them."""

from collections.abc import Iterator, Mapping
from typing import Final, Literal, get_args

import msgspec

from discue.domain.errors import QuotaExceeded

ResourceQuotaName = Literal["queues", "listeners", "topics", "domains", "api_keys", "users", "portal_sessions"]
QuotaName = ResourceQuotaName | Literal["creations_a_day", "messages_a_day", "bytes_stored"]

RESOURCES: Final[tuple[ResourceQuotaName, ...]] = get_args(ResourceQuotaName)
NAMES: Final[tuple[QuotaName, ...]] = (*RESOURCES, "creations_a_day", "messages_a_day", "bytes_stored")

HIGHEST: Final[Mapping[QuotaName, int]] = {
    **dict.fromkeys(RESOURCES, 100_000),
    "creations_a_day": 1_000_000_000,
    "messages_a_day": 1_000_000_000_000,
    "bytes_stored": 1_000_000_000_000_000,
}
"""Maximum of each quota. Resources have a low one because each creation counts the existing ones."""

_DAILY: Final = frozenset({"creations_a_day", "messages_a_day"})
CREATIONS_OF_A_CUSTOMER: Final = 1_000
"""The largest number of resources that a customer may create per day: see `most_creations_of_a_customer`."""
_PARTS_OF_A_QUOTA: Final = 10
"""A customer may use at most a tenth of the organization's quota of creations."""
_NEAR_TENTHS: Final = 9
REPORTED_TENTHS: Final = 8
_UNITS: Final[Mapping[QuotaName, str]] = {
    **{name: name for name in RESOURCES},
    "api_keys": "API keys",
    "portal_sessions": "portal sessions",
    "creations_a_day": "resources created per day (UTC)",
    "messages_a_day": "messages per day (UTC)",
    "bytes_stored": "bytes of stored messages, schedules and responses",
}


class Quotas(msgspec.Struct, frozen=True, gc=False):
    """The quotas of an organization; None: no quota."""

    queues: int | None = None
    listeners: int | None = None
    topics: int | None = None
    domains: int | None = None
    api_keys: int | None = None
    users: int | None = None
    portal_sessions: int | None = None
    creations_a_day: int | None = None
    messages_a_day: int | None = None
    bytes_stored: int | None = None

    @property
    def limit_publishing(self) -> bool:
        return self.messages_a_day is not None or self.bytes_stored is not None


NO_QUOTAS: Final = Quotas()


class PublishUsage(msgspec.Struct, frozen=True, gc=False):
    """Use of the publishing quotas: by an organization, or by messages that are to be published."""

    messages: int = 0
    """Messages published on the current day."""
    bytes: int = 0

    def __add__(self, other: "PublishUsage") -> "PublishUsage":
        return PublishUsage(self.messages + other.messages, self.bytes + other.bytes)


def setting_of(name: QuotaName) -> str:
    """Return the key of a quota in an organization's settings."""
    return f"quota_{name}"


def quotas_of(settings: Mapping[str, int | bool], defaults: Quotas) -> Quotas:
    """Return an organization's quotas: those in its settings, else the defaults."""
    return Quotas(**{name: settings.get(setting_of(name), getattr(defaults, name)) for name in NAMES})


def check(name: QuotaName, quota: int | None, used: int, more: int = 1) -> None:
    """Raise QuotaExceeded if `more` does not fit."""
    if quota is not None and used + more > quota:
        remedy = "Wait until midnight (UTC)" if name in _DAILY else "Delete some"
        raise QuotaExceeded(
            f"Quota exceeded: {used} of {quota} {_UNITS[name]} are in use. "
            f"{remedy}, or ask the operator to raise `{setting_of(name)}`."
        )


def check_publishing(quotas: Quotas, used: PublishUsage, more: PublishUsage) -> None:
    """Raise QuotaExceeded if these messages do not fit."""
    check("messages_a_day", quotas.messages_a_day, used.messages, more.messages)
    check("bytes_stored", quotas.bytes_stored, used.bytes, more.bytes)


def fits(quotas: Quotas, used: PublishUsage, more: PublishUsage) -> bool:
    return _is_within(quotas.messages_a_day, used.messages + more.messages) and _is_within(
        quotas.bytes_stored, used.bytes + more.bytes
    )


def is_near(
    quotas: Quotas, used: PublishUsage, more: PublishUsage, workers: int, *, tenths: int = _NEAR_TENTHS
) -> bool:
    """Return whether nine tenths of a quota would be in use if each worker published as much.

    From then on the exact use must be read before each publish.
    """
    # A worker knows the use of the others only as of its last read. Meanwhile each may have published as much.
    return _is_near(quotas.messages_a_day, used.messages + more.messages * workers, tenths) or _is_near(
        quotas.bytes_stored, used.bytes + more.bytes * workers, tenths
    )


def most_creations_of_a_customer(quota: int | None) -> int:
    """Return how many resources a customer may create per day, given the organization's quota of creations.

    Customers can delete what they have created, so only this limit keeps a customer from using up the quota.
    """
    most = CREATIONS_OF_A_CUSTOMER
    return most if quota is None else min(most, max(1, quota // _PARTS_OF_A_QUOTA))


def is_reported(quota: int, used: int) -> bool:
    """Return whether 80 % of a quota are in use, which a system event reports."""
    return quota > 0 and _is_near(quota, used, REPORTED_TENTHS)


def reported_use(quotas: Quotas, used: PublishUsage) -> Iterator[tuple[QuotaName, int, int]]:
    """Return the publishing quotas of which 80 % are in use: their names, the quotas, and what is used."""
    limits: tuple[tuple[QuotaName, int | None, int], ...] = (
        ("messages_a_day", quotas.messages_a_day, used.messages),
        ("bytes_stored", quotas.bytes_stored, used.bytes),
    )
    return ((name, quota, use) for name, quota, use in limits if quota is not None and is_reported(quota, use))


def _is_within(quota: int | None, used: int) -> bool:
    return quota is None or used <= quota


def _is_near(quota: int | None, used: int, tenths: int) -> bool:
    return quota is not None and used * 10 >= quota * tenths
