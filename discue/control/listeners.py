"""Listeners. A listener receives the messages that are stored in its queue after its creation."""

from collections.abc import Collection, Sequence
from typing import Final, Literal

import msgspec
from msgspec import UnsetType

from discue.control import encryption, usage
from discue.control.context import ControlContext, Record, changed_settings, one_of, reading, require_found, searching
from discue.control.listener_fields import (
    MODES,
    ListenerFields,
    asked_authentication,
    changed_listener,
    check_hosts,
    check_system_types_of,
    customer_in_queue,
    require_registered,
    urls_in,
    urls_of,
)
from discue.crypto import signing
from discue.crypto.endpoint_credentials import Credentials
from discue.crypto.signing import NO_SECRETS, SigningSecret
from discue.domain.aliases import changed_alias, new_alias
from discue.domain.attempts import StoredAttempt
from discue.domain.errors import Conflict
from discue.domain.filter_parser import check_filter
from discue.domain.listener_health import Liveness
from discue.domain.model import CursorCounts, Listener, Queue
from discue.domain.representation import shows
from discue.domain.scopes import Access, Principal
from discue.domain.system_events import ListenerDisabled, ListenerRecovered, ResourceName, SystemEvent
from discue.domain.transforms import check_transform
from discue.domain.waiting import ListenerCondition
from discue.store import (
    aliases,
    attempts,
    domains,
    listeners,
    message_log,
    missed,
    purge,
    queues,
    system_events,
)
from discue.store.engine import Transaction
from discue.store.listeners import ListenerFacts
from discue.store.pagination import FIRST_PAGE, Listing, Selection
from discue.store.purge import Job
from discue.store.recipients import Recipient

MOST_OF_A_CUSTOMER: Final = 100
"""The largest number of listeners with which a customer may create another one in the portal."""

ListenerPath = tuple[str, ...]
"""The public ids of a queue and of one of its listeners, as they stand in the URL."""


@shows("listener")
class ListenerDetails(msgspec.Struct, frozen=True):
    """A listener without its secrets, with its liveness, counters and missed messages.

    Functions that only read take it in place of a `ListenerPath`, so that the listener is not read again.
    """

    listener: Listener
    facts: ListenerFacts
    is_verified: bool = True
    """False if its domain must be verified and is not."""
    missed: tuple[str, ...] = ()
    """Ids of missed messages, newest first, at most 100."""
    last_failure: StoredAttempt | None = None
    """The last failed attempt; None if no attempt failed, if it is no longer kept, or if it was not asked for."""
    secret: str = ""
    """The signing secret, in the response to the creation only. "" otherwise."""
    has_new_status: bool = False
    """Whether the request has disabled or enabled it."""

    @property
    def counts(self) -> CursorCounts:
        return self.facts.counts

    @property
    def liveness(self) -> Liveness:
        return self.facts.liveness

    @property
    def condition(self) -> ListenerCondition:
        """The facts that decide whether the listener receives messages."""
        listener = self.listener
        return ListenerCondition(listener.mode, listener.status, listener.disabled_by, self.is_verified, self.liveness)

    @property
    def status_changed_at(self) -> int:
        """When the listener was enabled or disabled, or became inactive or stopped to be, whichever was last."""
        listener = self.listener
        if listener.status == "disabled":
            return listener.status_changed_at or listener.updated_at
        return max(listener.status_changed_at or listener.created_at, self.liveness.changed_at)


async def create(
    control: ControlContext, principal: Principal, queue_public_id: str, fields: ListenerFields
) -> ListenerDetails:
    """Create a listener; its default alias is its id.

    Raises BadRequest for a listener in push mode without `notify_url`. Raises Unprocessable for a taken or invalid
    alias, for URLs that requests cannot be sent to, for fields of the other mode, and for a customer other than that of
    the queue. In the portal, raises Forbidden unless the queue is the customer's, and Conflict for a customer who has
    created as many as the portal allows.
    """
    principal.require("listeners", "write", queue_public_id)
    if principal.customer is not None:
        fields = msgspec.structs.replace(fields, customer=principal.customer)
    check_filter(fields.options.filter)
    check_transform(fields.options.transform)
    public_id, now = control.public_ids.next(), control.clock.now()
    draft = Listener(
        organization=principal.organization,
        id=control.row_ids.next(),
        public_id=public_id,
        queue=0,
        queue_public_id="",
        alias=public_id,
        status="enabled",
        notify_url="",
        liveness_url="",
        config_version=0,
        created_at=now,
        updated_at=now,
        mode=one_of(MODES, "push" if fields.mode is None else fields.mode, "/mode"),
        status_changed_at=now,
    )
    # Nothing is sent to a listener in pull mode, so there is nothing to sign.
    secret = signing.new_secret(control.random_bytes) if draft.mode == "push" else ""
    first = SigningSecret(secret, control.public_ids.next(), "hmac", now)
    asked = asked_authentication(control, draft, fields.authentication)
    fresh = changed_listener(control, draft, fields, new_alias(fields, public_id), asked=asked)
    check_hosts(draft, fresh, await control.hosts.refused(urls_of(fresh).values(), control.egress))

    async def work(tx: Transaction, record: Record) -> ListenerDetails:
        queue = await own_queue(tx, principal, queue_public_id)
        principal.require_customer(queue.customer)
        # Read by the transaction that inserts the cursor: the listener receives every message that is stored after it.
        head = require_found(await queues.head(tx, queue.organization, queue.id)).head
        row, secrets = (fresh.organization, fresh.id), (first,) if secret else ()
        credentials = asked if isinstance(asked, Credentials) else None
        sealed = await encryption.sealed(tx, control, row, secrets, credentials=credentials)
        listener = msgspec.structs.replace(
            fresh,
            queue=queue.id,
            queue_public_id=queue.public_id,
            queue_alias=queue.alias,
            queue_retry=queue.retry,
            queue_title=queue.title,
            queue_customer=queue.customer,
            customer=customer_in_queue(queue.customer, fresh.customer),
            secrets=sealed,
        )
        check_system_types_of(listener)
        await require_registered(tx, None, listener)
        await usage.require_room(tx, control, listener, "listeners")
        if principal.customer is not None:
            await _require_room_of_customer(tx, listener)
        await listeners.insert(tx, listener, head)
        await record("listener_added", listener)
        (details,) = await _details_of_all(tx, listener.organization, [listener])
        return msgspec.structs.replace(details, secret=secret)

    return await control.write_as(principal, work)


@reading
async def get(
    tx: Transaction, principal: Principal, queue_public_id: str, public_id: str, *, with_missed: bool = True
) -> ListenerDetails:
    """Return a listener, with or without its last failed attempt and the ids of its missed messages."""
    own = await own_with_facts(tx, principal, "read", (queue_public_id, public_id))
    found = await _with_facts(tx, [own], with_missed=with_missed)
    return (await _with_failures(tx, principal.organization, found) if with_missed else found)[0]


async def names(control: ControlContext, principal: Principal, public_ids: Collection[str]) -> dict[str, str]:
    if not public_ids:
        return {}
    return await control.store.read(lambda tx: aliases.of_ids(tx, "listener", principal.organization, public_ids))


@reading
async def holds(tx: Transaction, principal: Principal, public_ids: Collection[str]) -> dict[str, str]:
    """Return why nothing is sent to listeners, as `held_by` says it, by the ids of those that get nothing."""
    principal.require("listeners", "read")
    if not public_ids:
        return {}
    found = await listeners.page(tx, principal.organization, Selection(per_page=len(public_ids)), public_ids)
    facts = await listeners.read_facts(tx, principal.organization, found.items)
    details = await _with_facts(tx, [(each, facts[each.id]) for each in found.items], with_missed=False)
    return {each.listener.public_id: each.condition.held_by for each in details if each.condition.held_by}


async def waiting_since(control: ControlContext, details: ListenerDetails) -> int:
    """Return when the first message beyond a listener's position was stored; 0 if none is.

    Messages that are retried are not counted: the position is beyond them.
    """
    of, position = details.listener, details.counts.position
    return await control.store.read(lambda tx: message_log.stored_at_after(tx, of.organization, of.queue, position))


@reading
async def newest_and_inactive(tx: Transaction, principal: Principal, count: int) -> Listing[ListenerDetails]:
    """Return the newest listeners of all queues, and the newest that are inactive: at most `count` of each.

    Without a page before it. The ids of missed messages are left out, and so are inactive listeners if the principal
    may not read all listeners.
    """
    targets = principal.targets_of("listeners", "read")
    selection = seen_by(principal, Selection(per_page=count))
    newest = await listeners.page(tx, principal.organization, selection, targets)
    found = {each.id: each for each in newest.items}
    if newest.has_next and targets is None and selection.customer is None:
        found |= {each.id: each for each in await listeners.inactive(tx, principal.organization, count)}
    items = await _details_of_all(tx, principal.organization, list(found.values()), with_missed=False)
    return Listing(items, newest.has_next, False)


@searching
async def page(
    tx: Transaction, principal: Principal, selection: Selection = FIRST_PAGE, *, with_missed: bool = True
) -> Listing[ListenerDetails]:
    """Return listeners of all queues, with the ids of their missed messages or without."""
    targets = principal.targets_of("listeners", "read")
    found = await listeners.page(tx, principal.organization, seen_by(principal, selection), targets)
    return found.with_items(await _details_of_all(tx, principal.organization, found.items, with_missed=with_missed))


@searching
async def page_of_queue(
    tx: Transaction,
    principal: Principal,
    queue: Queue | str,
    selection: Selection = FIRST_PAGE,
    *,
    with_missed: bool = True,
) -> Listing[ListenerDetails]:
    """Return listeners of a queue: of that with a public id, or of one that the caller has just read."""
    only = targets_in(principal, "listeners", queue)
    of = await own_queue(tx, principal, queue)
    found = await listeners.page_of_queue(tx, of, seen_by(principal, selection), only)
    return found.with_items(await _details_of_all(tx, principal.organization, found.items, with_missed=with_missed))


async def change(
    control: ControlContext, principal: Principal, queue_public_id: str, public_id: str, *, fields: ListenerFields
) -> ListenerDetails:
    """Change a listener. Raises what `create` raises.

    In the portal, only the status of a listener can be changed in a queue that is not the customer's.
    """
    check_filter(fields.options.filter)
    check_transform(fields.options.transform)
    event_id = control.row_ids.next()
    # Before the transaction, which must not wait for name servers.
    refused = await control.hosts.refused(urls_in(fields), control.egress)

    async def work(tx: Transaction, record: Record) -> ListenerDetails:
        stored = control.require_match(await own_listener(tx, principal, "write", (queue_public_id, public_id)))
        if fields != ListenerFields(status=fields.status):
            principal.require_customer(stored.queue_customer)
        asked = asked_authentication(control, stored, fields.authentication)
        changed = changed_listener(control, stored, fields, changed_alias(fields, stored.alias), asked=asked)
        if changed.options.types != stored.options.types:
            check_system_types_of(changed)
        check_hosts(stored, changed, refused)
        await require_registered(tx, stored, changed)
        await _report_change(tx, event_id, stored, changed)
        await listeners.update(tx, changed)
        changes = changed_settings(stored, changed)
        if not isinstance(asked, UnsetType):
            # The secret can be a new one, in which its public part does not differ.
            changes = tuple(dict.fromkeys((*changes, "authentication")))
            row = (stored.organization, stored.id)
            # Secrets and credentials are encrypted as one value: the stored secrets are sealed again.
            held = encryption.secrets_of(control, stored)
            sealed = await encryption.sealed(tx, control, row, held.signing, credentials=asked)
            await listeners.set_secrets(tx, *row, sealed)
        await record("listener_updated", changed, changes=changes)
        (details,) = await _details_of_all(tx, changed.organization, [changed])
        return msgspec.structs.replace(details, has_new_status=changed.status != stored.status)

    return await control.write_as(principal, work)


async def delete(control: ControlContext, principal: Principal, queue_public_id: str, public_id: str) -> None:
    now = control.clock.now()
    job_id = control.row_ids.next()

    async def work(tx: Transaction, record: Record) -> None:
        stored = control.require_match(await own_listener(tx, principal, "write", (queue_public_id, public_id)))
        await listeners.mark_deleted(tx, stored.organization, stored.id, now)
        await purge.enqueue(tx, Job(stored.organization, job_id, "purge_listener", listener=stored.id))
        await record("listener_deleted", stored)

    await control.write_as(principal, work)


async def own_listener(
    tx: Transaction, principal: Principal, access: Access, at: ListenerPath | ListenerDetails
) -> Listener:
    """Return the caller's listener at a path. Raises NotFound, and Forbidden if the key has no access to it."""
    if isinstance(at, ListenerDetails):
        principal.require("listeners", access, at.listener.public_id, at.listener.queue_public_id)
        return at.listener
    queue_public_id, public_id = at
    principal.require("listeners", access, public_id, queue_public_id)
    listener = require_found(await listeners.get(tx, principal.organization, public_id, principal.customer))
    return require_found(listener if listener.queue_public_id == queue_public_id else None)


async def own_with_facts(
    tx: Transaction, principal: Principal, access: Access, at: ListenerPath | ListenerDetails
) -> tuple[Listener, ListenerFacts]:
    """Return the caller's listener at a path like `own_listener`, with the facts about it."""
    if isinstance(at, ListenerDetails):
        return await own_listener(tx, principal, access, at), at.facts
    queue_public_id, public_id = at
    principal.require("listeners", access, public_id, queue_public_id)
    found = require_found(await listeners.get_with_facts(tx, principal.organization, public_id, principal.customer))
    return require_found(found if found[0].queue_public_id == queue_public_id else None)


def recipient_of(listener: Listener, facts: ListenerFacts) -> Recipient:
    """Return what the state of the listener's deliveries depends on."""
    return Recipient(
        organization=listener.organization,
        listener=listener.id,
        queue=listener.queue,
        queue_public_id=listener.queue_public_id,
        start_seq=facts.start_seq,
        window=facts.window,
        public_id=listener.public_id,
        alias=listener.alias,
        queue_alias=listener.queue_alias,
    )


async def own_queue(tx: Transaction, principal: Principal, queue: Queue | str) -> Queue:
    """Return the caller's queue with a public id, or the one that was just read. Raises NotFound."""
    if isinstance(queue, Queue):
        return queue
    return require_found(await queues.get(tx, principal.organization, queue))


def targets_in(principal: Principal, resource: str, queue: Queue | str) -> frozenset[str] | None:
    """Return the targets that limit what the principal may read of a queue. None means that it may read everything."""
    targets = principal.targets_of(resource, "read")
    public_id = queue if isinstance(queue, str) else queue.public_id
    return None if targets is not None and public_id in targets else targets


def seen_by(principal: Principal, selection: Selection) -> Selection:
    """Return the selection restricted to what the principal may see: a customer, only what concerns their listeners."""
    if principal.customer is None:
        return selection
    return msgspec.structs.replace(selection, customer=principal.customer)


async def _require_room_of_customer(tx: Transaction, listener: Listener) -> None:
    """Raise Conflict if the customer has as many listeners as they may create: the quota is for all customers."""
    if await listeners.count_of_customer(tx, listener.organization, listener.customer) >= MOST_OF_A_CUSTOMER:
        detail = f"There are {MOST_OF_A_CUSTOMER} endpoints already. Delete one first."
        raise Conflict(detail, code="limit_reached")


async def _report_change(tx: Transaction, event_id: int, stored: Listener, changed: Listener) -> None:
    """Record the event of a listener that is disabled, enabled, or not inactive any more with its new liveness URL."""
    was: Literal["disabled", "inactive"] = "disabled"
    if stored.status == changed.status:
        was = "inactive"
        if stored.liveness_url == changed.liveness_url:
            return
        facts = await listeners.read_facts(tx, stored.organization, [stored])
        if facts[stored.id].liveness.state != "inactive":
            return
    queue = require_found(await queues.by_id(tx, stored.organization, stored.queue))
    names = (ResourceName(changed.public_id, changed.alias), ResourceName(queue.public_id, queue.alias))
    event: SystemEvent = ListenerRecovered(at=changed.updated_at, listener=names[0], queue=names[1], was=was)
    if changed.status == "disabled" != stored.status:
        event = ListenerDisabled(at=changed.updated_at, listener=names[0], queue=names[1], reason="request")
    await system_events.record(tx, stored.organization, event_id, event)


async def _details_of_all(
    tx: Transaction, organization: int, found: Sequence[Listener], *, with_missed: bool = True
) -> tuple[ListenerDetails, ...]:
    """Return the details of listeners. `with_missed` includes the ids of their newest missed messages."""
    facts = await listeners.read_facts(tx, organization, found)
    # A search is no snapshot: a listener may be deleted in the middle of it.
    shown = [(each, facts[each.id]) for each in found if each.id in facts]
    return await _with_failures(tx, organization, await _with_facts(tx, shown, with_missed=with_missed))


async def _with_facts(
    tx: Transaction, found: Sequence[tuple[Listener, ListenerFacts]], *, with_missed: bool
) -> list[ListenerDetails]:
    verified = domains.VerifiedDomains(tx)
    shown = []
    for listener, facts in found:
        missed_ids = await missed.newest_ids(tx, listener) if facts.counts.missed and with_missed else []
        is_verified = (
            not facts.must_be_verified
            or listener.mode == "pull"
            or await verified.has(listener.organization, listener.notify_url)
        )
        without_secrets = msgspec.structs.replace(listener, secrets=NO_SECRETS)
        shown.append(ListenerDetails(without_secrets, facts, is_verified, tuple(missed_ids)))
    return shown


async def _with_failures(
    tx: Transaction, organization: int, found: Sequence[ListenerDetails]
) -> tuple[ListenerDetails, ...]:
    """Add the last failed attempt of each listener."""
    failed = [each.listener.id for each in found if each.counts.last_failure_at]
    failures = await attempts.last_failures_of_listeners(tx, organization, failed)
    return tuple(msgspec.structs.replace(each, last_failure=failures.get(each.listener.id)) for each in found)
