"""How an organization comes into being: with a key that can make all others."""

from collections.abc import Mapping

import msgspec

from discue.control.context import ControlContext
from discue.control.key_making import CreatedKey
from discue.domain import aliases
from discue.domain.model import Organization
from discue.domain.scopes import Principal
from discue.store import api_keys, events, feed, organizations
from discue.store.engine import Transaction
from discue.store.events import Occurrence


class NewOrganization(msgspec.Struct, frozen=True):
    """A new organization and its first key, which carries every scope."""

    organization: Organization
    first_key: CreatedKey


class Founding(msgspec.Struct, frozen=True):
    """Which organization founded another one, or itself; and the moments of the two events that this makes."""

    founder: int
    of_organization: Occurrence
    of_key: Occurrence


def by(control: ControlContext, organization: Organization, principal: Principal | None) -> Founding:
    """By whoever calls, or by a command. That a new organization has a key is an event of its own."""
    founder = organization.id if principal is None else principal.organization
    return Founding(founder, control.occurrence(principal), control.occurrence(None))


def draft(
    control: ControlContext,
    public_id: str,
    alias: str,
    settings: Mapping[str, int | bool] | None = None,
    *,
    is_operator: bool = False,
) -> Organization:
    """An organization that is not stored yet. Raises Unprocessable for an unfit alias."""
    aliases.check_organization_alias(alias)
    now = control.clock.now()
    return Organization(
        id=control.row_ids.next(),
        public_id=public_id,
        alias=alias,
        state="active",
        is_operator=is_operator,
        settings=dict(settings or {}),
        created_at=now,
        updated_at=now,
    )


async def insert(tx: Transaction, created: NewOrganization, founded: Founding) -> None:
    organization, key = created.organization, created.first_key.key
    await organizations.insert(tx, organization)
    await api_keys.insert(tx, key)
    await feed.record(tx, "organization", organization.id, organization.id)
    await feed.record(tx, "api_key", organization.id, key.id)
    of_organization = (organization.public_id, organization.alias)
    await events.record(tx, founded.of_organization, "organization_added", founded.founder, *of_organization)
    await events.record(tx, founded.of_key, "api_key_added", organization.id, key.public_id, key.alias)
