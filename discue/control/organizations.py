"""Organizations. Keys of the operator's organization see all of them, other keys only their own."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from discue.control.api_keys import CreatedKey, first_key
from discue.control.context import ControlContext, after_commit, changed_settings, record, require_found, require_none
from discue.control.listener_fields import chosen_retry
from discue.control.queues import new_system_queue
from discue.domain import aliases
from discue.domain.aliases import NameFields, changed_alias, new_alias
from discue.domain.errors import Conflict, Fault, Forbidden, NotFound, QuotaExceeded, invalid
from discue.domain.model import Organization, Queue
from discue.domain.quotas import HIGHEST, NAMES, QuotaName, setting_of
from discue.domain.retry import RetryOptions
from discue.domain.scopes import Access, Principal
from discue.store import api_keys, domains, events, feed, organizations, purge, queues, tallies
from discue.store.engine import Transaction
from discue.store.events import Occurrence
from discue.store.pagination import FIRST_PAGE, Listing, Selection
from discue.store.purge import Job
from discue.store.tallies import EventKind

HIGHEST_RATE: Final = 2_147_483_647
LONGEST_RETENTION_SECONDS: Final = 3_153_600_000


_LIMITS: Final[Mapping[str, tuple[str, int]]] = {
    "rate_limit": ("/rate_limit", HIGHEST_RATE),
    "retention_seconds": ("/retention", LONGEST_RETENTION_SECONDS),
    **{setting_of(name): (f"/quotas/{name}", HIGHEST[name]) for name in NAMES},
}
"""JSON pointer and highest value of each limit that the operator sets, by the name of the setting that holds it."""

_HEADS_AT_ONCE: Final = 500


class OrganizationFields(NameFields, frozen=True):
    """The fields of an organization in a request. UNSET and None leave or clear them as documented."""

    rate_limit: int | UnsetType | None = UNSET
    """Requests per minute and key. 0: no limit. None: the server's default."""
    require_verified_domains: bool | UnsetType | None = UNSET
    require_known_types: bool | UnsetType | None = UNSET
    quotas: Mapping[QuotaName, int | None] | None = msgspec.field(default_factory=dict)
    """Only the named quotas change. A value of None clears one, None instead of the mapping clears all."""
    retention_seconds: int | UnsetType | None = UNSET
    retry: RetryOptions | UnsetType | None = UNSET


class NewOrganization(msgspec.Struct, frozen=True):
    """A new organization, its first key, which has every scope, and its queue of system events."""

    organization: Organization
    first_key: CreatedKey
    system_queue: Queue


def _changed_limits(
    principal: Principal | None, stored: Mapping[str, int | bool], sent: Mapping[str, int | None]
) -> dict[str, int | bool]:
    """Return the settings with the sent limits; None clears a limit. `principal` is None on the command line.

    Raises Forbidden if another organization than the operator's changes a limit, Unprocessable for a value out of
    range.
    """
    changed = {name: value for name, value in stored.items() if sent.get(name, value) is not None}
    changed |= {name: value for name, value in sent.items() if value is not None}
    if changed == stored:
        return changed
    if principal is not None and not principal.is_operator:
        raise Forbidden(
            "Only keys of the operator's organization can change limits. Ask the operator.", code="operator_only"
        )
    faults = []
    for name, value in sent.items():
        pointer, highest = _LIMITS[name]
        if value is not None and not 0 <= value <= highest:
            faults.append(Fault(pointer, f"must be from 0 to {highest}"))
    require_none(faults)
    return changed


def _new_organization(
    control: ControlContext,
    public_id: str,
    alias: str,
    settings: dict[str, int | bool],
    *,
    is_operator: bool = False,
    retry: RetryOptions | None = None,
) -> Organization:
    aliases.check_organization_alias(alias)
    now = control.clock.now()
    return Organization(
        id=control.row_ids.next(),
        public_id=public_id,
        alias=alias,
        state="active",
        is_operator=is_operator,
        settings=settings,
        created_at=now,
        updated_at=now,
        retry=retry,
    )


async def _insert(
    tx: Transaction, created: NewOrganization, creator: int, *, occurrence: Occurrence, of_key: Occurrence
) -> None:
    """Store the organization, its key and its queue.

    `creator` is the organization that sees the `organization_added` event.
    """
    organization, key = created.organization, created.first_key.key
    await organizations.insert(tx, organization)
    await api_keys.insert(tx, key)
    await queues.insert(tx, created.system_queue)
    await _record(tx, occurrence, "organization_added", organization, seen_by=creator)
    await record(tx, of_key, "api_key_added", key)


async def ensure_operator(control: ControlContext, alias: str, key: str | None) -> tuple[Organization, str | None]:
    """Create the operator's organization if the database is empty.

    Returns the operator's organization, and the text of its first key if this call created it. `key` is the text to
    use instead of a random one. Raises Unprocessable for an invalid alias, SettingsInvalid for an invalid key.
    """
    organization = _new_organization(control, control.public_ids.next(), alias, {}, is_operator=True)
    created = NewOrganization(
        organization, first_key(control, organization.id, key), new_system_queue(control, organization.id)
    )
    occurrence, of_key = control.occurrence(None), control.occurrence(None)

    async def work(tx: Transaction) -> Organization | None:
        # Read in the exclusive transaction: of two servers that start on an empty database, one creates it.
        existing = await organizations.operator(tx)
        if existing is None:
            await _insert(tx, created, organization.id, occurrence=occurrence, of_key=of_key)
        return existing

    existing = await control.write(work)
    return (organization, created.first_key.text) if existing is None else (existing, None)


async def create(control: ControlContext, principal: Principal, fields: OrganizationFields) -> NewOrganization:
    """Create an organization; its default alias is `<caller's alias>.<id>`.

    Raises Unprocessable if the alias is taken or invalid, Forbidden and QuotaExceeded if a tenant may not create it.
    """
    principal.require("api_clients", "write")
    settings = _settings(principal, {}, fields)
    caller = require_found(await control.store.read(lambda tx: organizations.get(tx, principal.organization)))
    _require_creator(control, caller)
    public_id = control.public_ids.next()
    alias = new_alias(fields, f"{caller.alias}.{public_id}", aliases.check_organization_alias)
    organization = _new_organization(control, public_id, alias, settings, retry=chosen_retry(None, fields.retry))
    if not caller.is_operator and not aliases.is_below(alias, caller.alias):
        raise invalid("/alias", f"must be below {caller.alias}, such as {caller.alias}.dev")
    first, system_queue = first_key(control, organization.id), new_system_queue(control, organization.id)
    # The new organization has its key from no key of its own: that event has no author.
    occurrence, of_key = control.occurrence(principal), control.occurrence(None)

    async def work(tx: Transaction) -> NewOrganization:
        shared = organization
        if not principal.is_operator:
            founder = require_found(await organizations.get(tx, principal.organization))
            await _require_room(tx, control, founder)
            shared = _with_limits_of(organization, founder)
        created = NewOrganization(shared, first, system_queue)
        await _insert(tx, created, principal.organization, occurrence=occurrence, of_key=of_key)
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
        stored = control.require_match(await _visible(tx, principal, "write", public_id))
        alias = changed_alias(fields, stored.alias, aliases.check_organization_alias)
        if alias != stored.alias:
            await _require_movable(tx, stored, alias)
        settings = _settings(principal, stored.settings, fields)
        retry = chosen_retry(stored.retry, fields.retry)
        changed = msgspec.structs.replace(stored, alias=alias, settings=settings, retry=retry, updated_at=now)
        await _update(tx, stored, changed)
        await _record(tx, occurrence, "organization_updated", changed, seen_by=principal.organization, before=stored)
        return changed

    return await control.write(work)


async def delete(control: ControlContext, principal: Principal, public_id: str) -> None:
    """Delete an organization. Its data is unreachable at once, and purged in the background.

    Raises Conflict for the operator's organization.
    """
    now = control.clock.now()
    job_id = control.row_ids.next()
    occurrence = control.occurrence(principal)

    async def work(tx: Transaction) -> int:
        stored = control.require_match(await _visible(tx, principal, "write", public_id))
        if stored.is_operator:
            raise Conflict("The operator's organization cannot be deleted.", code="operator_organization")
        if await organizations.created_by_tenant(tx, stored.id):
            raise Conflict("This organization has created others. Delete them first.", code="has_organizations")
        if stored.founder:
            await organizations.carry_messages(tx, stored.id, stored.founder, tallies.day_of(now).start)
        await organizations.mark_deleted(tx, stored.id, now)
        await purge.enqueue(tx, Job(stored.id, job_id, "purge_organization"))
        await _record(tx, occurrence, "organization_deleted", stored, seen_by=principal.organization)
        return stored.id

    organization = await control.write(work)
    # Publishes that any worker has already admitted must find the logs closed.
    last: int | None = 0
    while last is not None:
        step = partial(queues.close_some, organization=organization, after=last, limit=_HEADS_AT_ONCE, now=now)
        with after_commit():
            last = await control.store.write(step)


async def set_state(control: ControlContext, alias: str, state: Literal["active", "suspended"]) -> Organization:
    """Suspend or resume an organization from the command line.

    Raises NotFound, and Conflict if the operator's organization is to be suspended.
    """

    def suspend_or_resume(stored: Organization) -> Organization:
        if stored.is_operator and state == "suspended":
            raise Conflict("The operator's organization cannot be suspended.", code="operator_organization")
        return msgspec.structs.replace(stored, state=state)

    return await _change_by_alias(control, alias, suspend_or_resume)


async def set_limits(control: ControlContext, alias: str, limits: Mapping[str, int | None]) -> Organization:
    """Change limits of an organization from the command line, by the names of the settings; None clears a limit.

    Raises NotFound, and Unprocessable for a value out of range.
    """

    def limit(stored: Organization) -> Organization:
        return msgspec.structs.replace(stored, settings=_changed_limits(None, stored.settings, limits))

    return await _change_by_alias(control, alias, limit)


async def _change_by_alias(
    control: ControlContext, alias: str, change: Callable[[Organization], Organization]
) -> Organization:
    now = control.clock.now()
    occurrence = control.occurrence(None)

    async def work(tx: Transaction) -> Organization:
        stored = require_found(await organizations.by_alias(tx, alias))
        changed = msgspec.structs.replace(change(stored), updated_at=now)
        await _update(tx, stored, changed)
        await _record(tx, occurrence, "organization_updated", changed, seen_by=stored.id, before=stored)
        return changed

    return await control.write(work)


async def _record(
    tx: Transaction,
    occurrence: Occurrence,
    kind: EventKind,
    changed: Organization,
    *,
    seen_by: int,
    before: Organization | None = None,
) -> None:
    """Record a change in the feed, and its event in the organization that sees it."""
    await feed.record(tx, "organization", changed.id, changed.id)
    changes = () if before is None else changed_settings(before, changed)
    await events.record(tx, occurrence, kind, seen_by, ref=changed.public_id, name=changed.alias, changes=changes)


def _require_creator(control: ControlContext, caller: Organization) -> None:
    """Raise Forbidden unless the organization may create others."""
    if caller.is_operator:
        return
    if not control.settings.tenant_organizations:
        raise Forbidden(
            "Only keys of the operator's organization can create organizations; the operator can allow it with "
            "`tenant_organizations`.",
            code="operator_only",
        )
    if caller.founder:
        raise Forbidden("An organization that a tenant has created cannot create others.", code="operator_only")


async def _require_room(tx: Transaction, control: ControlContext, founder: Organization) -> None:
    """Raise QuotaExceeded if a tenant has created as many organizations as the operator allows."""
    most = control.settings.tenant_organizations
    if len(await organizations.created_by_tenant(tx, founder.id)) >= most:
        raise QuotaExceeded(
            f"Quota exceeded: this organization has created {most} others. "
            "Delete one, or ask the operator to raise `tenant_organizations`."
        )


async def _require_movable(tx: Transaction, stored: Organization, alias: str) -> None:
    """Raise Conflict or Unprocessable if aliases of organizations would no longer be below that of their founder."""
    if await organizations.created_by_tenant(tx, stored.id):
        detail = "This organization has created others, whose aliases are below its own. It keeps its alias."
        raise Conflict(detail, code="has_organizations")
    founder = await organizations.get(tx, stored.founder) if stored.founder else None
    if founder is not None and not aliases.is_below(alias, founder.alias):
        raise invalid("/alias", f"must be below {founder.alias}, such as {founder.alias}.dev")


def _with_limits_of(organization: Organization, founder: Organization) -> Organization:
    """Return the organization with the state and the limits of its founder."""
    settings = {name: value for name, value in organization.settings.items() if name not in _LIMITS}
    settings |= {name: value for name, value in founder.settings.items() if name in _LIMITS}
    return msgspec.structs.replace(organization, founder=founder.id, state=founder.state, settings=settings)


async def _update(tx: Transaction, stored: Organization, changed: Organization) -> None:
    """Store a change, and apply it to all organizations that the changed one has created.

    Raises Conflict for limits of an organization that shares those of its founder.
    """
    founder = await organizations.get(tx, stored.founder) if stored.founder else None
    if founder is not None:
        if _with_limits_of(changed, founder).settings != changed.settings:
            detail = f"This organization shares the limits of {founder.alias}. Change them there."
            raise Conflict(detail, code="follows_founder")
        if changed.state != stored.state and founder.state == "suspended":
            detail = f"This organization is suspended with {founder.alias}. Resume that one."
            raise Conflict(detail, code="follows_founder")
    await organizations.update(tx, changed)
    for member in await organizations.created_by_tenant(tx, changed.id):
        shared = _with_limits_of(require_found(await organizations.get(tx, member)), changed)
        await organizations.update(tx, msgspec.structs.replace(shared, updated_at=changed.updated_at))
        await feed.record(tx, "organization", member, member)


async def _visible(tx: Transaction, principal: Principal, access: Access, public_id: str) -> Organization:
    principal.require("api_clients", access, public_id)
    if not principal.is_operator and public_id != principal.organization_public_id:
        raise NotFound
    return require_found(await organizations.by_public_id(tx, public_id))


def _settings(principal: Principal, stored: dict[str, int | bool], fields: OrganizationFields) -> dict[str, int | bool]:
    """Return the settings after a request."""
    sent: dict[str, int | None] = {}
    if not isinstance(fields.rate_limit, UnsetType):
        sent["rate_limit"] = fields.rate_limit
    if not isinstance(fields.retention_seconds, UnsetType):
        sent["retention_seconds"] = fields.retention_seconds
    quotas = dict.fromkeys(NAMES) if fields.quotas is None else fields.quotas
    sent |= {setting_of(name): limit for name, limit in quotas.items()}
    settings = _changed_limits(principal, stored, sent)
    # Not limits: the organization itself may change them.
    for name in (domains.REQUIRE_VERIFIED_DOMAINS, organizations.REQUIRE_KNOWN_TYPES):
        asked: bool | UnsetType | None = getattr(fields, name)
        if not isinstance(asked, UnsetType):
            settings.pop(name, None)
            if asked:
                settings[name] = True
    return settings
