"""Domains. An organization proves that it controls a host by answering a challenge there."""

from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Protocol

import msgspec
from msgspec import UNSET, UnsetType

from discue.control import usage
from discue.control.context import ControlContext, Record, after_commit, changed_settings, record, require_found
from discue.domain import domain_challenge, egress
from discue.domain.aliases import NameFields, changed_alias, new_alias
from discue.domain.domain_challenge import Domain
from discue.domain.errors import Fault, Unprocessable, invalid, missing_field
from discue.domain.scopes import Access, Principal
from discue.domain.system_events import DomainLost, DomainVerified, ResourceName, SystemEvent
from discue.store import domains, feed, system_events
from discue.store.engine import Transaction
from discue.store.events import Occurrence
from discue.store.pagination import FIRST_PAGE, Listing, Selection


class DomainFields(NameFields, frozen=True):
    """The fields of a domain in a request. A port of None is the default port."""

    hostname: str | UnsetType = UNSET
    port: int | UnsetType | None = UNSET


class DomainChecker(Protocol):
    """Checks the challenges of domains: `dispatch.jobs.domain_checks`."""

    async def check(self, domain: Domain) -> str: ...

    def slot(self, organization: int) -> AbstractAsyncContextManager[None]: ...


async def create(control: ControlContext, principal: Principal, fields: DomainFields) -> Domain:
    """Create a domain; its default alias is its id.

    Raises BadRequest without a hostname, Unprocessable for a taken or invalid alias and an invalid hostname or port.
    """
    principal.require("domains", "write")
    if isinstance(fields.hostname, UnsetType):
        raise missing_field("/hostname")
    port = _port(fields.port)
    domain_challenge.check_port(port)
    public_id, now = control.public_ids.next(), control.clock.now()
    alias = new_alias(fields, public_id)
    host_key = egress.host_key(fields.hostname)
    if host_key is None:
        raise invalid("/hostname", "must be a DNS name of 4 to 253 characters, not an IP address")
    challenge = domain_challenge.new_challenge(control.random_text, now)
    domain = Domain(
        organization=principal.organization,
        id=control.row_ids.next(),
        public_id=public_id,
        alias=alias,
        hostname=fields.hostname,
        host_key=host_key,
        port=port,
        challenge=challenge,
        verification=domain_challenge.unverified(challenge),
        config_version=1,
        created_at=now,
        updated_at=now,
    )

    async def work(tx: Transaction, record: Record) -> Domain:
        await usage.require_room(tx, control, domain, "domains")
        await domains.insert(tx, domain)
        await record("domain_added", domain)
        return domain

    return await control.write_as(principal, work)


async def get(control: ControlContext, principal: Principal, public_id: str) -> Domain:
    return await control.store.read(lambda tx: _own(tx, principal, "read", public_id))


async def page(control: ControlContext, principal: Principal, selection: Selection = FIRST_PAGE) -> Listing[Domain]:
    targets = principal.targets_of("domains", "read")
    return await control.store.read(lambda tx: domains.page(tx, principal.organization, selection, targets))


async def change(control: ControlContext, principal: Principal, public_id: str, fields: DomainFields) -> Domain:
    """Change a domain and renew an expired challenge. Raises Unprocessable if the hostname or port differs."""
    now = control.clock.now()
    fresh = domain_challenge.new_challenge(control.random_text, now)

    async def work(tx: Transaction, record: Record) -> Domain:
        stored = control.require_match(await _own(tx, principal, "write", public_id))
        _require_same_origin(stored, fields)
        alias = changed_alias(fields, stored.alias)
        challenge = domain_challenge.after_change(stored.challenge, fresh, verified=stored.verification.verified)
        is_new = challenge.file_name != stored.challenge.file_name
        changed = msgspec.structs.replace(
            stored,
            alias=alias,
            challenge=challenge,
            verification=domain_challenge.unverified(challenge) if is_new else stored.verification,
            config_version=stored.config_version + 1,
            updated_at=now,
        )
        await domains.update(tx, changed)
        await record("domain_updated", changed, changes=changed_settings(stored, changed))
        return changed

    return await control.write_as(principal, work)


async def delete(control: ControlContext, principal: Principal, public_id: str) -> None:
    """Delete a domain. URLs that only this domain verified are no longer verified."""

    async def work(tx: Transaction, record: Record) -> None:
        stored = control.require_match(await _own(tx, principal, "write", public_id))
        await domains.delete(tx, stored.organization, stored.id)
        if stored.verification.verified:
            await feed.record(tx, "domain", stored.organization, stored.id)
        await record("domain_deleted", stored)

    await control.write_as(principal, work)


async def verify(control: ControlContext, principal: Principal, public_id: str, checks: DomainChecker) -> Domain:
    """Check the domain's challenge now, unless a check is in flight or just finished. Returns the domain afterwards.

    Raises TooManyRequests if too many checks of the organization are in flight.
    """
    now = control.clock.now()

    async def take(tx: Transaction) -> tuple[Domain, bool]:
        stored = await _own(tx, principal, "write", public_id)
        if not domain_challenge.may_check_now(stored.verification, now):
            return stored, False
        return await _tried(tx, stored, now), True

    # The transaction that takes the domain moves its next check, so that no other worker checks it at the same time.
    async with checks.slot(principal.organization):
        domain, is_taken = await control.store.write_exclusively(take)
        if not is_taken:
            return domain
        with after_commit():
            return require_found(await check_taken(control, domain, checks, control.occurrence(principal)))


async def take_due(control: ControlContext, limit: int) -> list[Domain]:
    """Take up to `limit` domains of all organizations whose check is due. Other workers skip them for a while."""
    now = control.clock.now()
    # Usually none is due: this read spares an exclusive transaction.
    if not await control.store.read(partial(domains.due, now=now, limit=1)):
        return []

    async def work(tx: Transaction) -> list[Domain]:
        return [await _tried(tx, domain, now) for domain in await domains.due(tx, now, limit)]

    return await control.store.write_exclusively(work)


async def check_taken(
    control: ControlContext, domain: Domain, checks: DomainChecker, occurrence: Occurrence | None = None
) -> Domain | None:
    """Check a domain that was taken and store the result. Returns the domain afterwards, None if it was deleted.

    The result is dropped if the domain was changed since it was taken.
    """
    challenge = domain.challenge
    is_of_use = domain_challenge.can_be_met(domain.verification, challenge, control.clock.now())
    # Outside of any transaction: the host may take seconds to respond.
    error = await checks.check(domain) if is_of_use else domain_challenge.EXPIRED
    now = control.clock.now()
    happened = occurrence or control.occurrence(None)

    async def work(tx: Transaction) -> Domain | None:
        stored = await domains.by_id(tx, domain.organization, domain.id)
        if stored is None or stored.config_version != domain.config_version:
            return stored
        found = domain_challenge.after_check(stored.verification, challenge, error, now)
        changed = msgspec.structs.replace(stored, verification=found)
        if found.verified != stored.verification.verified:
            changed = msgspec.structs.replace(changed, updated_at=now)
            await system_events.record(tx, stored.organization, happened.id, _event(changed))
            await feed.record(tx, "domain", stored.organization, stored.id)
            await record(
                tx, happened, "domain_updated", stored, changes=("verified" if found.verified else "unverified",)
            )
        await domains.update(tx, changed)
        return changed

    return await control.write(work)


def _event(domain: Domain) -> SystemEvent:
    """Return the event of a domain that was verified now, or is not verified any more."""
    name, at = ResourceName(domain.public_id, domain.alias), domain.updated_at
    if domain.verification.verified:
        return DomainVerified(at=at, domain=name, hostname=domain.hostname, port=domain.port)
    error = domain.verification.last_error
    return DomainLost(at=at, domain=name, hostname=domain.hostname, port=domain.port, error=error)


async def _tried(tx: Transaction, domain: Domain, now: int) -> Domain:
    changed = msgspec.structs.replace(domain, verification=domain_challenge.before_check(domain.verification, now))
    await domains.update(tx, changed)
    return changed


async def _own(tx: Transaction, principal: Principal, access: Access, public_id: str) -> Domain:
    principal.require("domains", access, public_id)
    return require_found(await domains.get(tx, principal.organization, public_id))


def _port(given: int | UnsetType | None) -> int:
    return given if isinstance(given, int) else domain_challenge.DEFAULT_PORT


def _require_same_origin(stored: Domain, fields: DomainFields) -> None:
    rule = "cannot be changed: create another domain instead"
    faults = []
    if fields.hostname not in {UNSET, stored.hostname}:
        faults.append(Fault("/hostname", rule))
    if fields.port is not UNSET and _port(fields.port) != stored.port:
        faults.append(Fault("/port", rule))
    if faults:
        detail = f"The hostname and the port of a domain {rule}."
        raise Unprocessable(detail, code="immutable_field", faults=tuple(faults))
