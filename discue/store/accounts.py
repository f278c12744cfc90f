"""Usage of accounts: of a tenant together with the organizations that it created, which share its quotas.

An account is named by the row id of its tenant.
"""

from typing import Final

from discue.domain.quotas import ResourceQuotaName
from discue.store import tallies
from discue.store.engine import Transaction
from discue.store.organizations import created_by_tenant
from discue.store.tallies import TallyEntry

_MESSAGES_OF_DELETED: Final = 1_000
"""A kind of tally: messages of the day of deleted organizations, counted under their founder."""

CREATIONS: Final = 1_003
"""A kind of tally: resources that all organizations of an account create on the day that begins with the period."""

_CARRY: Final = f"""
    INSERT INTO tally (organization, period, kind, slot, n)
    SELECT CAST($1 AS BIGINT), period, {_MESSAGES_OF_DELETED}, {tallies.WORK_SLOT}, CAST(sum(n) AS BIGINT) FROM tally
    WHERE organization = $2 AND period >= $3 AND kind = {tallies.MESSAGE_ADDED} GROUP BY period
    ON CONFLICT (organization, period, kind, slot) DO UPDATE SET n = tally.n + excluded.n"""


async def count_resources(tx: Transaction, account: int, name: ResourceQuotaName, at_most: int) -> int:
    """Count resources of an account, up to a limit."""
    count = 0
    for member in await _members(tx, account):
        count += await tallies.count_resources(tx, member, name, at_most - count)
        if count >= at_most:
            break
    return count


async def count_creation(tx: Transaction, account: int, today: int) -> int:
    """Count a resource that an account creates on the day that begins with a period. Returns the number of that day."""
    return await tallies.add_one(tx, TallyEntry(account, today, CREATIONS, 1))


async def count_creations(tx: Transaction, account: int, today: int) -> int:
    """Return the number of resources that an account created on the day that begins with a period."""
    return await tallies.count_messages(tx, account, range(today, today + 1), kind=CREATIONS)


async def count_messages(tx: Transaction, account: int, periods: range) -> int:
    """Count messages that an account published in a range of periods, in deleted organizations too."""
    count = await tallies.count_messages(tx, account, periods, kind=_MESSAGES_OF_DELETED)
    for member in await _members(tx, account):
        count += await tallies.count_messages(tx, member, periods)
    return count


async def bytes_stored(tx: Transaction, account: int) -> int:
    """Return the bytes that an account stores, including those of deleted organizations until they are purged."""
    return sum([await tallies.bytes_stored(tx, member) for member in await _members(tx, account, deleted=True)])


async def carry_messages(tx: Transaction, deleted: int, founder: int, first_period: int) -> None:
    """Count what an organization published from a period on under its founder, before it is deleted.

    Otherwise, deleting and creating organizations would renew a quota.
    """
    await tx.execute(_CARRY, founder, deleted, first_period)


async def _members(tx: Transaction, account: int, *, deleted: bool = False) -> list[int]:
    return [account, *await created_by_tenant(tx, account, deleted=deleted)]
