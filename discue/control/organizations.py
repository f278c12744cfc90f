"""Organizations: a key of the operator's sees all, any other only its own."""

from collections.abc import Mapping
from functools import partial
from typing import Final, Literal, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from discue.control.api_keys import CreatedKey, first_key
from discue.control.context import ControlContext, require_found
from discue.domain import aliases, quotas
from discue.domain import quotas as quota
from discue.domain.aliases import changed_alias, new_alias
from discue.domain.errors import Conflict, Fault, Forbidden, NotFound, Unprocessable
from discue.domain.model import Organization
from discue.domain.quotas import setting_of
from discue.domain.scopes import Access, Principal
from discue.store import api_keys, domains, events, feed, organizations, purge, queues
from discue.store.engine import Transaction
from discue.store.events import Occurrence
from discue.store.pagination import FIRST_PAGE, Listing, Selection
from discue.store.purge import Job

Limits = Mapping[str, int | bool]

HIGHEST_RATE: Final = 2_147_483_647
LONGEST_RETENTION_SECONDS: Final = 3_153_600_000


class _Rule(NamedTuple):
    pointer: str
    highest: int


RULES: Final[Mapping[str, _Rule]] = {
    "rate_limit": _Rule("/rate_limit", HIGHEST_RATE),
    "retention_seconds": _Rule("/retention", LONGEST_RETENTION_SECONDS),
    **{setting_of(name): _Rule(f"/quotas/{name}", quotas.HIGHEST[name]) for name in quotas.NAMES},
}
"""By the names of the settings."""


def changed_limits(
    principal: Principal | None, stored: Limits, sent: Mapping[str, int | None]
) -> dict[str, int | bool]:
    """The settings with what was sent; None clears. `principal` is None for the command line.

    Raises Forbidden where anybody but the operator changes something, Unprocessable for a value out of its range.
    """
    changed = {name: value for name, value in stored.items() if sent.get(name, value) is not None}
    changed |= {name: value for name, value in sent.items() if value is not None}
    if changed == stored:
        return changed
    if principal is not None and not principal.is_operator:
        raise Forbidden("Only the operator's organization changes the limits of organizations.")
    faults = tuple(fault for name, value in sent.items() if (fault := _limit_fault(name, value)) is not None)
    if faults:
        raise Unprocessable(f"The value at {faults[0].pointer} {faults[0].detail}.", faults=faults)
    return changed


def _limit_fault(name: str, value: int | None) -> Fault | None:
    rule = RULES[name]
    if value is None or 0 <= value <= rule.highest:
        return None
    return Fault(rule.pointer, f"must be from 0 to {rule.highest}")


class NewOrganization(msgspec.Struct, frozen=True):
    """A new organization and its first key, which carries every scope."""

    organization: Organization
    first_key: CreatedKey


class _Founding(msgspec.Struct, frozen=True):
    """Which organization founded another one, or itself; and the moments of the two events that this makes."""

    founder: int
    of_organization: Occurrence
    of_key: Occurrence


def _founding(control: ControlContext, organization: Organization, principal: Principal | None) -> _Founding:
    """By whoever calls, or by a command. That a new organization has a key is an event of its own."""
    founder = organization.id if principal is None else principal.organization
    return _Founding(founder, control.occurrence(principal), control.occurrence(None))


def _draft(
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


async def _insert(tx: Transaction, created: NewOrganization, founded: _Founding) -> None:
    organization, key = created.organization, created.first_key.key
    await organizations.insert(tx, organization)
    await api_keys.insert(tx, key)
    await feed.record(tx, "organization", organization.id, organization.id)
    await feed.record(tx, "api_key", organization.id, key.id)
    of_organization = (organization.public_id, organization.alias)
    await events.record(tx, founded.of_organization, "organization_added", founded.founder, *of_organization)
    await events.record(tx, founded.of_key, "api_key_added", organization.id, key.public_id, key.alias)


async def ensure_operator(control: ControlContext, alias: str, key: str | None) -> tuple[Organization, str | None]:
    """Make the operator's organization on an empty database; elsewhere change nothing.

    Returns it, and the text of its first key if that was made now. `key` is that text where the operator
    chose one.
    Raises Unprocessable for an unfit alias, SettingsInvalid for a key that is none.
    """
    organization = _draft(control, control.public_ids.next(), alias, is_operator=True)
    created = NewOrganization(organization, first_key(control, organization.id, key))
    founded = _founding(control, organization, None)

    async def work(tx: Transaction) -> Organization | None:
        require_found = await organizations.operator(tx)
        if require_found is None:
            await _insert(tx, created, founded)
        return require_found

    require_found = await control.write(work)
    return (organization, created.first_key.text) if require_found is None else (require_found, None)


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
    organization = _draft(control, public_id, alias, settings)
    created = NewOrganization(organization, first_key(control, organization.id))
    founded = _founding(control, organization, principal)

    async def work(tx: Transaction) -> NewOrganization:
        await _insert(tx, created, founded)
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
