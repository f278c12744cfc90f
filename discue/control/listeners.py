"""Listeners: consumers that get what is published to their queue after they were registered."""

from collections.abc import Sequence
from typing import Final, Literal, get_args

import msgspec
from msgspec import UNSET, UnsetType

from discue.control import domains, encryption, listener_options, usage
from discue.control.context import ControlContext, require_found
from discue.control.listener_options import OptionFields
from discue.crypto import endpoint_credentials, signatures
from discue.crypto.endpoint_credentials import AuthenticationFields, Credentials
from discue.crypto.signing_secrets import NO_SECRETS, SigningSecret
from discue.domain import egress
from discue.domain.aliases import changed_alias, new_alias
from discue.domain.errors import BadRequest, Fault, Unprocessable
from discue.domain.json_pointer import below
from discue.domain.model import CursorCounts, Listener, ListenerMode, Liveness
from discue.domain.scopes import Access, Principal
from discue.store import domains as stored_domains
from discue.store import events, feed, listener_health, listeners, organizations, purge, queues
from discue.store.engine import Transaction
from discue.store.pagination import FIRST_PAGE, Listing, Selection
from discue.store.purge import Job

HEADER: Final = "authorization"

AuthenticationChange = Credentials | UnsetType | None
"""UNSET leaves what there is, None takes it away."""


def _asked_authentication(
    control: ControlContext, stored: Listener, fields: AuthenticationFields | UnsetType | None
) -> AuthenticationChange:
    """What a request asks for. Raises BadRequest and Unprocessable."""
    if fields is None or isinstance(fields, UnsetType):
        return fields
    if stored.mode == "pull":
        raise _invalid("/authentication", "cannot be given: nothing is sent to a listener whose messages are pulled")
    if endpoint_credentials.is_same(stored.options.authentication, fields):
        return UNSET
    made = endpoint_credentials.checked(fields, control.clock.now())
    if made.public.token_url:
        pointer = "/authentication/token_url"
        egress.check_target(egress.parse_target(made.public.token_url, pointer), control.egress, pointer)
    return made


def _check_authentication(stored: Listener, changed: Listener, asked: AuthenticationChange) -> None:
    """Raises Unprocessable for what does not go together with the rest of the listener."""
    public = changed.options.authentication
    if public is None:
        return
    target = egress.parse_target(changed.notify_url, "/notify_url")
    if public.type == "certificate":
        if target.scheme != "https":
            raise _invalid("/notify_url", "must be https: a certificate is shown in TLS alone")
    elif taken := next((name for name, _ in changed.options.headers if name.lower() == HEADER), None):
        raise _invalid(below("/headers", taken), "cannot be chosen beside an authentication, which sends it")
    if isinstance(asked, UnsetType) and stored.notify_url != changed.notify_url:
        before = egress.parse_target(stored.notify_url, "/notify_url")
        if (before.scheme, before.host, before.port) != (target.scheme, target.host, target.port):
            # Whoever may change a listener need not know its secrets, and must not get them sent to a place of theirs.
            raise _invalid("/authentication", "must be given again, with its secret: notify_url leads to another place")


def _invalid(pointer: str, rule: str) -> Unprocessable:
    return Unprocessable(f"The value at {pointer} {rule}.", faults=(Fault(pointer, rule),))


Status = Literal["enabled", "disabled"]
MODES: Final[tuple[ListenerMode, ...]] = get_args(ListenerMode)


class ListenerFields(msgspec.Struct, frozen=True):
    """What a request says of a listener. None leaves a field as it is."""

    alias: str | None = None
    name: str | None = None
    status: Status | None = None
    mode: str | None = None
    notify_url: str | None = None
    liveness_url: str | None = None
    options: OptionFields = OptionFields()
    authentication: AuthenticationFields | UnsetType | None = UNSET


class ListenerDetails(msgspec.Struct, frozen=True):
    """A listener without its secrets, how it is, what its cursor has counted, and its missed messages.

    `missed` are ids, newest first, at most 100. `secret` is "" except in the answer to its creation.
    """

    listener: Listener
    counts: CursorCounts
    liveness: Liveness
    missed: tuple[str, ...] = ()
    secret: str = ""

    def __repr__(self) -> str:
        return f"ListenerDetails(listener={self.listener!r})"


async def create(
    control: ControlContext, principal: Principal, queue_public_id: str, fields: ListenerFields
) -> ListenerDetails:
    """Without a name it is called by its id.

    Raises BadRequest without the URLs that it must have; Unprocessable for a taken or unfit alias, for URLs that
    nothing can be sent to, and for what means nothing in its mode.
    """
    principal.require("listeners", "write", queue_public_id)
    draft = msgspec.structs.replace(_draft(control, principal), mode=_mode(fields.mode))
    # Nothing is sent to a listener whose messages are pulled: there is nothing to sign.
    secret = signatures.new_secret(control.random_bytes) if draft.mode == "push" else ""
    first = SigningSecret(secret, control.public_ids.next(), "hmac", draft.created_at)
    asked = _asked_authentication(control, draft, fields.authentication)
    fresh = _changed(control, draft, fields, (new_alias(fields, draft.alias), asked))
    occurrence = control.occurrence(principal)

    async def work(tx: Transaction) -> ListenerDetails:
        queue = require_found(await queues.get(tx, principal.organization, queue_public_id))
        head = require_found(await queues.head(tx, queue.organization, queue.id)).head
        place, secrets = (fresh.organization, fresh.id), (first,) if secret else ()
        credentials = asked if isinstance(asked, Credentials) else None
        sealed = await encryption.sealed(tx, control, place, secrets, credentials)
        listener = msgspec.structs.replace(
            fresh, queue=queue.id, queue_public_id=queue.public_id, queue_retry=queue.retry, secrets=sealed
        )
        await _require_registered(tx, None, listener)
        await usage.require_listener(tx, control, listener.organization)
        await listeners.insert(tx, listener, head)
        await feed.record(tx, "listener", listener.organization, listener.id)
        await events.record(tx, occurrence, "listener_added", listener.organization, listener.public_id, listener.alias)
        return msgspec.structs.replace(await _details(tx, listener), secret=secret)

    return await control.write(work)


async def get(control: ControlContext, principal: Principal, queue_public_id: str, public_id: str) -> ListenerDetails:
    async def work(tx: Transaction) -> ListenerDetails:
        return await _details(tx, await _own(tx, principal, "read", (queue_public_id, public_id)))

    return await control.store.read(work)


async def page(
    control: ControlContext, principal: Principal, selection: Selection = FIRST_PAGE
) -> Listing[ListenerDetails]:
    """The listeners of all queues."""
    targets = principal.targets_of("listeners", "read")

    async def work(tx: Transaction) -> Listing[ListenerDetails]:
        found = await listeners.page(tx, principal.organization, selection, targets)
        return await _all_details(tx, principal.organization, found)

    return await control.store.read(work)


async def page_of_queue(
    control: ControlContext, principal: Principal, queue_public_id: str, selection: Selection = FIRST_PAGE
) -> Listing[ListenerDetails]:
    targets = principal.targets_of("listeners", "read")
    only = None if targets is not None and queue_public_id in targets else targets

    async def work(tx: Transaction) -> Listing[ListenerDetails]:
        queue = require_found(await queues.get(tx, principal.organization, queue_public_id))
        found = await listeners.page_of_queue(tx, queue, selection, only)
        return await _all_details(tx, principal.organization, found)

    return await control.store.read(work)


async def change(
    control: ControlContext,
    principal: Principal,
    queue_public_id: str,
    public_id: str,
    fields: ListenerFields,
) -> ListenerDetails:
    """Raises Unprocessable as `create` does."""
    occurrence = control.occurrence(principal)

    async def work(tx: Transaction) -> ListenerDetails:
        stored = await _own(tx, principal, "write", (queue_public_id, public_id))
        control.require_match(stored)
        asked = _asked_authentication(control, stored, fields.authentication)
        changed = _changed(control, stored, fields, (changed_alias(fields, stored.alias), asked))
        await _require_registered(tx, stored, changed)
        await listeners.update(tx, changed)
        if not isinstance(asked, UnsetType):
            await _keep(tx, control, stored, asked)
        await feed.record(tx, "listener", stored.organization, stored.id)
        await events.record(tx, occurrence, "listener_updated", stored.organization, stored.public_id, changed.alias)
        return await _details(tx, changed)

    return await control.write(work)


async def delete(control: ControlContext, principal: Principal, queue_public_id: str, public_id: str) -> None:
    now = control.clock.now()
    job_id = control.row_ids.next()
    occurrence = control.occurrence(principal)

    async def work(tx: Transaction) -> None:
        stored = await _own(tx, principal, "write", (queue_public_id, public_id))
        control.require_match(stored)
        await listeners.mark_deleted(tx, stored.organization, stored.id, now)
        await purge.enqueue(tx, Job(stored.organization, job_id, "purge_listener", listener=stored.id))
        await feed.record(tx, "listener", stored.organization, stored.id)
        await events.record(tx, occurrence, "listener_deleted", stored.organization, stored.public_id, stored.alias)

    await control.write(work)


async def _own(tx: Transaction, principal: Principal, access: Access, path: tuple[str, str]) -> Listener:
    queue_public_id, public_id = path
    principal.require("listeners", access, public_id, queue_public_id)
    listener = require_found(await listeners.get(tx, principal.organization, public_id))
    return require_found(listener if listener.queue_public_id == queue_public_id else None)


async def _keep(tx: Transaction, control: ControlContext, listener: Listener, credentials: Credentials | None) -> None:
    """Store what the listener is shown from now on, beside its signing secrets."""
    place = (listener.organization, listener.id)
    secrets = encryption.opened(control, listener)
    await listeners.set_secrets(tx, *place, await encryption.sealed(tx, control, place, secrets, credentials))


async def _require_registered(tx: Transaction, stored: Listener | None, changed: Listener) -> None:
    """Where the organization wants that: new URLs lie on its domains. Those that a listener has stay as they are."""
    owner = require_found(await organizations.get(tx, changed.organization))
    if changed.mode == "push" and owner.settings.get(stored_domains.REQUIRE_VERIFIED_DOMAINS):
        fresh = [] if stored and stored.notify_url == changed.notify_url else [("/notify_url", changed.notify_url)]
        if stored is None or stored.liveness_url != changed.liveness_url:
            fresh.append(("/liveness_url", changed.liveness_url))
        await domains.require_registered(tx, changed.organization, fresh)


async def _details(tx: Transaction, listener: Listener) -> ListenerDetails:
    [details] = await _details_of(tx, listener.organization, [listener])
    return details


async def _details_of(tx: Transaction, organization: int, found: Sequence[Listener]) -> list[ListenerDetails]:
    counts_of = await listeners.read_counts_of(tx, organization, [listener.id for listener in found])
    liveness_of = await listener_health.read_liveness(tx, organization, found)
    details = []
    for listener in found:
        counts = require_found(counts_of.get(listener.id))
        missed = await listeners.missed_ids(tx, listener) if counts.missed else []
        shown = msgspec.structs.replace(listener, secrets=NO_SECRETS)
        details.append(ListenerDetails(shown, counts, liveness_of[listener.id], tuple(missed)))
    return details


async def _all_details(tx: Transaction, organization: int, found: Listing[Listener]) -> Listing[ListenerDetails]:
    items = await _details_of(tx, organization, found.items)
    return Listing(tuple(items), found.has_next, found.has_previous)


def _draft(control: ControlContext, principal: Principal) -> Listener:
    """A listener that nothing was said of. Its version is 0: the first one stored is 1."""
    public_id, now = control.public_ids.next(), control.clock.now()
    return Listener(
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
    )


def _changed(
    control: ControlContext, stored: Listener, fields: ListenerFields, chosen: tuple[str, AuthenticationChange]
) -> Listener:
    """`chosen` are its alias, and what it is to be shown."""
    if fields.mode is not None and _mode(fields.mode) != stored.mode:
        raise Unprocessable("The mode of a listener cannot be changed.", faults=(Fault("/mode", "cannot be changed"),))
    alias, asked = chosen
    options = listener_options.changed(stored.options, fields.options, stored.mode)
    if not isinstance(asked, UnsetType):
        options = msgspec.structs.replace(options, authentication=None if asked is None else asked.public)
    changed = msgspec.structs.replace(
        stored,
        alias=alias,
        status=fields.status or stored.status,
        notify_url=_url(control, fields.notify_url, stored, "/notify_url"),
        liveness_url=_url(control, fields.liveness_url, stored, "/liveness_url"),
        options=options,
        config_version=stored.config_version + 1,
        updated_at=control.clock.now(),
    )
    _check_authentication(stored, changed, asked)
    return changed


def _mode(given: str | None) -> ListenerMode:
    """Raises Unprocessable for another word."""
    for known in MODES:
        if known == ("push" if given is None else given):
            return known
    rule = f"must be one of {', '.join(MODES)}"
    raise Unprocessable(f"The mode {rule}.", faults=(Fault("/mode", rule),))


def _url(control: ControlContext, given: str | None, listener: Listener, pointer: str) -> str:
    """As it was sent: nothing is normalised."""
    stored: str = getattr(listener, pointer[1:])
    if listener.mode == "pull":
        if given is not None:
            rule = "cannot be given: the messages of this listener are pulled"
            raise Unprocessable(f"The field {pointer[1:]} {rule}.", faults=(Fault(pointer, rule),))
        return ""
    if given is None:
        if not stored:
            raise BadRequest(f"The field {pointer[1:]} is missing.", faults=(Fault(pointer, "is missing"),))
        return stored
    if not given or given != stored:
        egress.check_target(egress.parse_target(given, pointer), control.egress, pointer)
    return given
