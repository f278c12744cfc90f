"""Quotas: of what is created, checked in the transaction that creates it, and how much of each is used."""

import msgspec

from discue.config.settings import default_quotas
from discue.control.context import ControlContext, require_found
from discue.domain import quotas as quota
from discue.domain.model import Organization
from discue.domain.quotas import Quotas, quotas_of
from discue.domain.scopes import Principal
from discue.store import organizations, tallies
from discue.store.engine import Transaction

DAY_MS = 86_400_000

_COUNTED = 10_000
"""Where no quota bounds how many there are, counting ends there."""


class QuotaUse(msgspec.Struct, frozen=True):
    """An organization, its quotas, and what is used of each, by their names."""

    organization: Organization
    quotas: Quotas
    used: dict[quota.QuotaName, int]


async def use(control: ControlContext, principal: Principal) -> QuotaUse:
    """As it is now, of the caller's organization."""
    today = control.clock.now() // DAY_MS * DAY_MS
    periods = range(tallies.period_of(today), tallies.period_of(today + DAY_MS))
    own = principal.organization

    async def work(tx: Transaction) -> QuotaUse:
        organization = require_found(await organizations.get(tx, own))
        quotas = quotas_of(organization.settings, default_quotas(control.settings))
        used: dict[quota.QuotaName, int] = {
            "queues": await tallies.count_queues(tx, own, _bound(quotas.queues)),
            "listeners": await tallies.count_listeners(tx, own, _bound(quotas.listeners)),
            "messages_a_day": await tallies.count_messages(tx, own, periods),
            "bytes_stored": await tallies.bytes_stored(tx, own),
        }
        return QuotaUse(organization, quotas, used)

    return await control.store.read(work)


async def require_queue(tx: Transaction, control: ControlContext, organization: int) -> None:
    """Raises QuotaUsedUp when the organization has all the queues that it may have. For an exclusive transaction."""
    most = (await _quotas(tx, control, organization)).queues
    if most is not None:
        quota.check("queues", most, await tallies.count_queues(tx, organization, most + 1))


async def require_listener(tx: Transaction, control: ControlContext, organization: int) -> None:
    """The same for listeners, of all queues together."""
    most = (await _quotas(tx, control, organization)).listeners
    if most is not None:
        quota.check("listeners", most, await tallies.count_listeners(tx, organization, most + 1))


async def _quotas(tx: Transaction, control: ControlContext, organization: int) -> Quotas:
    found = require_found(await organizations.get(tx, organization))
    return quotas_of(found.settings, default_quotas(control.settings))


def _bound(most: int | None) -> int:
    return _COUNTED if most is None else max(most, _COUNTED)
