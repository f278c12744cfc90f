"""Organizations: a key of the operator's sees all, any other only its own."""

from collections.abc import Mapping
from functools import partial
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from discue.control import founding, key_making
from discue.control.context import ControlContext, require_found
from discue.control.founding import NewOrganization
from discue.control.naming import changed_alias, new_alias
from discue.control.organization_limits import changed_limits
from discue.domain import aliases
from discue.domain import quotas as quota
from discue.domain.errors import Conflict, Forbidden, NotFound
from discue.domain.model import Organization
from discue.domain.scopes import Access, Principal
from discue.store import domains, events, feed, organizations, purge, queues
from discue.store.engine import Transaction
from discue.store.pagination import FIRST_PAGE, Listing, Selection
from discue.store.purge import Job

_HEADS_AT_ONCE = 500


class OrganizationFields(msgspec.Struct, frozen=True):
    """What a request says of an organization. `rate_limit`: requests a minute, 0: no limit, None: the default.

    `quotas` are those that it names; None clears one, and None in their place all of them.
    """

    alias: str | None = None
    name: str | None = None
    rate_limit: int | UnsetType | None = UNSET
    require_verified_domains: bool | UnsetType | None = UNSET
    quotas: Mapping[quota.QuotaName, int | None] | None = msgspec.field(default_factory=dict)
    retention_seconds: int | UnsetType | None = UNSET


async def create(control: ControlContext, principal: Principal, fields: OrganizationFields) -> NewOrganization:
    """Without a name it is called `<caller's alias>.<id>`. Raises Unprocessable for a taken or unfit alias."""
    if not principal.allows_all("api_clients", "write"):
        raise Forbidden
    settings = _with_verified_domains(_settings(principal, {}, fields), fields)
    caller = require_found(await control.store.read(lambda tx: organizations.get(tx, principal.organization)))
    public_id = control.public_ids.next()
    alias = new_alias(fields, f"{caller.alias}.{public_id}", aliases.check_organization_alias)
    organization = founding.draft(control, public_id, alias, settings)
    created = NewOrganization(organization, key_making.first(control, organization.id))
    founded = founding.by(control, organization, principal)

    async def work(tx: Transaction) -> NewOrganization:
        await founding.insert(tx, created, founded)
        return created

    return await control.write(work)


async def get(control: ControlContext, principal: Principal, public_id: str) -> Organization:
    return await control.store.read(lambda tx: _visible(tx, principal, "read", public_id))


async def page(
    control: ControlContext, principal: Principal, selection: Selection = FIRST_PAGE
) -> Listing[Organization]:
    targets = principal.targets_of("api_clients", "read")
    if not principal.is_operator:
        own = frozenset({principal.organization_public_id})
        targets = own if targets is None else own & targets
    return await control.store.read(lambda tx: organizations.page(tx, selection, targets))


async def change(
    control: ControlContext, principal: Principal, public_id: str, fields: OrganizationFields
) -> Organization:
    now = control.clock.now()
    occurrence = control.occurrence(principal)

    async def work(tx: Transaction) -> Organization:
        stored = await _visible(tx, principal, "write", public_id)
        control.require_match(stored)
        alias = changed_alias(fields, stored.alias, aliases.check_organization_alias)
        settings = _with_verified_domains(_settings(principal, stored.settings, fields), fields)
        changed = msgspec.structs.replace(stored, alias=alias, settings=settings, updated_at=now)
        await organizations.update(tx, changed)
        await feed.record(tx, "organization", stored.id, stored.id)
        await events.record(tx, occurrence, "organization_updated", principal.organization, public_id, alias)
        return changed

    return await control.write(work)


async def delete(control: ControlContext, principal: Principal, public_id: str) -> None:
    """Nothing of it is reachable from now on; what it had is removed step by step.

    Raises Conflict for the operator's own organization.
    """
    now = control.clock.now()
    job_id = control.row_ids.next()
    occurrence = control.occurrence(principal)

    async def work(tx: Transaction) -> int:
        stored = await _visible(tx, principal, "write", public_id)
        control.require_match(stored)
        if stored.is_operator:
            raise Conflict("The operator's organization cannot be deleted.")
        await organizations.mark_deleted(tx, stored.id, now)
        await purge.enqueue(tx, Job(stored.id, job_id, "purge_organization"))
        await feed.record(tx, "organization", stored.id, stored.id)
        await events.record(tx, occurrence, "organization_deleted", principal.organization, public_id, stored.alias)
        return stored.id

    await _close_logs(control, await control.write(work), now)


async def set_state(control: ControlContext, alias: str, state: Literal["active", "suspended"]) -> Organization:
    """Suspend an organization or let it in again: from the command line.

    Raises NotFound, and Conflict for suspending the operator's own organization.
    """
    now = control.clock.now()
    occurrence = control.occurrence(None)

    async def work(tx: Transaction) -> Organization:
        stored = require_found(await organizations.by_alias(tx, alias))
        if stored.is_operator and state == "suspended":
            raise Conflict("The operator's organization cannot be suspended.")
        changed = msgspec.structs.replace(stored, state=state, updated_at=now)
        await organizations.update(tx, changed)
        await feed.record(tx, "organization", stored.id, stored.id)
        await events.record(tx, occurrence, "organization_updated", stored.id, stored.public_id, stored.alias)
        return changed

    return await control.write(work)


async def set_limits(control: ControlContext, alias: str, limits: Mapping[str, int | None]) -> Organization:
    """Change what is allotted to an organization, by the names of the settings: from the command line.

    None clears. Raises NotFound, and Unprocessable for a value out of its range.
    """
    now = control.clock.now()
    occurrence = control.occurrence(None)

    async def work(tx: Transaction) -> Organization:
        stored = require_found(await organizations.by_alias(tx, alias))
        settings = changed_limits(None, stored.settings, limits)
        changed = msgspec.structs.replace(stored, settings=settings, updated_at=now)
        await organizations.update(tx, changed)
        await feed.record(tx, "organization", stored.id, stored.id)
        await events.record(tx, occurrence, "organization_updated", stored.id, stored.public_id, stored.alias)
        return changed

    return await control.write(work)


async def _close_logs(control: ControlContext, organization: int, now: int) -> None:
    """Publishes that were let in a moment ago, by whatever worker, must not be stored after the answer."""
    last: int | None = 0
    while last is not None:
        step = partial(queues.close_some, organization=organization, after=last, limit=_HEADS_AT_ONCE, now=now)
        last = await control.store.write(step)


async def _visible(tx: Transaction, principal: Principal, access: Access, public_id: str) -> Organization:
    principal.require("api_clients", access, public_id)
    if not principal.is_operator and public_id != principal.organization_public_id:
        raise NotFound
    return require_found(await organizations.by_public_id(tx, public_id))


def _with_verified_domains(settings: dict[str, int | bool], fields: OrganizationFields) -> dict[str, int | bool]:
    """This one is the organization's own choice: whoever may change the organization makes it."""
    wanted = fields.require_verified_domains
    if isinstance(wanted, UnsetType):
        return settings
    others = {name: value for name, value in settings.items() if name != domains.REQUIRE_VERIFIED_DOMAINS}
    return {**others, domains.REQUIRE_VERIFIED_DOMAINS: True} if wanted else others


def _settings(principal: Principal, stored: dict[str, int | bool], fields: OrganizationFields) -> dict[str, int | bool]:
    """The settings after a request. Limits are the operator's choices: Forbidden for everybody else."""
    return changed_limits(principal, stored, _limits_sent(fields))


def _limits_sent(fields: OrganizationFields) -> dict[str, int | None]:
    """By the names of the settings. Quotas that are None as a whole are all cleared."""
    sent: dict[str, int | None] = {}
    if not isinstance(fields.rate_limit, UnsetType):
        sent["rate_limit"] = fields.rate_limit
    if not isinstance(fields.retention_seconds, UnsetType):
        sent["retention_seconds"] = fields.retention_seconds
    quotas = dict.fromkeys(quota.NAMES) if fields.quotas is None else fields.quotas
    return sent | {quota.setting_of(name): most for name, most in quotas.items()}
