"""The portal for customers: its sessions, the one-time codes that open them, and which pages may embed it.

A session is read from the database for each request: one that was revoked grants nothing from the next request on, on
every worker.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TypeVar

import msgspec

from discue.control import usage
from discue.control.context import ControlContext, require_found, require_none
from discue.dashboard.portal import tables
from discue.dashboard.portal.rules import (
    ACTIONS,
    CODE_MS,
    DEFAULT_LIFETIME_SECONDS,
    LIFETIME_SECONDS,
    MOST_ORIGINS,
    MOST_TARGETS,
    MOST_THEMES,
    OWN_QUEUE_ACTIONS,
    SHARED_ACTIONS,
    USUAL_ACTIONS,
    PortalAction,
    PortalGrant,
    PortalSession,
    PortalTheme,
    check_return_url,
    check_theme,
    origin_of,
    principal_of,
)
from discue.dashboard.portal.tables import FoundPortalSession, QueueOwner
from discue.dashboard.users.sessions import TOKEN_CHARACTERS, token_hash
from discue.domain.aliases import check_customer
from discue.domain.errors import Fault, Locked, invalid
from discue.domain.model import EventType, Organization, Queue
from discue.domain.representation import shows
from discue.domain.scopes import Access, Principal
from discue.store import event_types, events, organizations
from discue.store.engine import Transaction
from discue.store.event_types import TypeName
from discue.store.events import Occurrence
from discue.store.pagination import FIRST_PAGE, Listing, Selection
from discue.store.tallies import EventKind

T = TypeVar("T")


class PortalSessionFields(msgspec.Struct, frozen=True):
    """The fields of a new session."""

    customer: str
    queues: Sequence[str] = ()
    """Ids or aliases, like `topics`."""
    topics: Sequence[str] = ()
    """Without queues and topics, the session has all queues of its customer."""
    may: Sequence[str] | None = None
    """None: `USUAL_ACTIONS` if all queues belong to the customer, else `SHARED_ACTIONS`."""
    expires_in: int = DEFAULT_LIFETIME_SECONDS
    """In seconds, from the time at which it is opened."""
    return_url: str = ""
    theme: PortalTheme = PortalTheme()


@shows("session")
class NewPortalSession(msgspec.Struct, frozen=True):
    """A new session, and the code that opens it, which is not stored."""

    session: PortalSession
    code: str
    warnings: tuple[str, ...] = ()
    """Sentences about queues that the session does not show, or that restrict its actions."""


class PortalDetails(FoundPortalSession, frozen=True):
    """An open session, and what it grants."""

    principal: Principal
    queues: tuple[str, ...]
    """Public ids of the queues whose listeners its customer may see."""
    own_queues: tuple[str, ...]
    """Public ids of the queues that belong to its customer."""

    def may(self, action: PortalAction, queue: str = "") -> bool:
        """Return whether the customer may take an action in a queue; without one, in any."""
        is_possible = action not in OWN_QUEUE_ACTIONS or (queue in self.own_queues if queue else bool(self.own_queues))
        return is_possible and action in self.session.grant.may


async def create(
    control: ControlContext, principal: Principal, organization_public_id: str, fields: PortalSessionFields
) -> NewPortalSession:
    """Create a session, and a code that opens it within a minute.

    Raises Unprocessable for queues and topics that do not exist, for actions that the customer may not take in them,
    for invalid values and for one theme too many, and QuotaExceeded.
    """
    _check(fields)
    code, now = control.random_text.take(TOKEN_CHARACTERS), control.clock.now()
    occurrence = control.occurrence(principal)
    row_id, public_id = control.row_ids.next(), control.public_ids.next()

    async def work(tx: Transaction) -> NewPortalSession:
        owner = await _owner(tx, principal, "write", organization_public_id)
        known = await tables.resolve_queues(tx, owner.id, fields.queues)
        topics = await tables.resolve_topics(tx, owner.id, fields.topics)
        unknown = [*_unknown(fields.queues, known, "queue"), *_unknown(fields.topics, topics, "topic")]
        require_none(unknown, code="unknown_reference")
        routed = await tables.queues_of_topics(tx, owner.id, tuple(topics.values()))
        queues = [*known.values(), *routed]
        may = _granted(fields, queues)
        if not fields.queues and not fields.topics:
            queues = await tables.queues_of_customer(tx, owner.id, fields.customer, 1)
        theme = await tables.keep_theme(tx, owner.id, fields.theme)
        if theme is None:
            rule = f"must be one that another session has: at most {MOST_THEMES} are in use at the same time"
            raise invalid("/theme", rule)
        session = PortalSession(
            organization=owner.id,
            id=row_id,
            public_id=public_id,
            customer=fields.customer,
            grant=PortalGrant(
                queues=tuple(dict.fromkeys(known[name].public_id for name in fields.queues)),
                topics=tuple(dict.fromkeys(topics[name] for name in fields.topics)),
                may=may,
                lifetime_ms=fields.expires_in * 1_000,
                return_url=fields.return_url,
            ),
            created_at=now,
            opened_at=0,
            expires_at=now + CODE_MS,
            code_hash=token_hash(code),
            theme=theme,
        )
        await usage.require_room(tx, control, session, "portal_sessions")
        await control.count_creation(tx, principal, owner.id, occurrence.id)
        await tables.insert(tx, session)
        await tables.delete_oldest(tx, owner.id, session.customer)
        await _record(tx, occurrence, "portal_session_added", session)
        return NewPortalSession(session, code, _warnings(fields, queues))

    return await control.write(work)


async def page(
    control: ControlContext, principal: Principal, organization_public_id: str, selection: Selection = FIRST_PAGE
) -> Listing[PortalSession]:
    """Return the sessions that have not ended, newest first, with those that ended a moment ago."""
    return await _read(control, principal, organization_public_id, read=partial(tables.page, selection=selection))


async def get(
    control: ControlContext, principal: Principal, organization_public_id: str, public_id: str
) -> PortalSession:
    read = partial(tables.get, public_id=public_id)
    return require_found(await _read(control, principal, organization_public_id, public_id, read=read))


async def revoke(control: ControlContext, principal: Principal, organization_public_id: str, public_id: str) -> None:
    """End a session. Raises NotFound."""
    occurrence = control.occurrence(principal)

    async def work(tx: Transaction) -> None:
        owner = await _owner(tx, principal, "write", organization_public_id, public_id)
        session = control.require_match(require_found(await tables.get(tx, owner.id, public_id)))
        await tables.delete(tx, owner.id, session.id)
        await _record(tx, occurrence, "portal_session_deleted", session)

    await control.write(work)


async def sign_out(control: ControlContext, tokens: Collection[str]) -> None:
    """End the sessions with these tokens, as far as there are any: those of the browser of a customer who is done."""
    event_ids = {token: control.row_ids.next() for token in tokens}

    async def work(tx: Transaction) -> None:
        for token, event_id in event_ids.items():
            await _end(tx, token, event_id)

    await control.write(work)


async def frame_ancestors(
    control: ControlContext, principal: Principal, organization_public_id: str
) -> tuple[str, ...]:
    return await _read(control, principal, organization_public_id, read=tables.frame_ancestors)


async def set_frame_ancestors(
    control: ControlContext, principal: Principal, organization_public_id: str, origins: Sequence[str]
) -> tuple[str, ...]:
    """Change the origins whose pages may embed the portal. Raises Unprocessable for texts that are none."""
    if len(origins) > MOST_ORIGINS:
        raise invalid("/frame_ancestors", f"must have at most {MOST_ORIGINS} origins")
    chosen = [origin_of(each, f"/frame_ancestors/{index}") for index, each in enumerate(origins)]
    distinct, now = tuple(dict.fromkeys(chosen)), control.clock.now()
    occurrence = control.occurrence(principal)

    async def work(tx: Transaction) -> tuple[str, ...]:
        owner = await _owner(tx, principal, "write", organization_public_id)
        await tables.set_frame_ancestors(tx, owner.id, distinct, now)
        await events.record(
            tx,
            occurrence,
            "organization_updated",
            owner.id,
            ref=owner.public_id,
            name=owner.alias,
            changes=("frame_ancestors",),
        )
        return distinct

    return await control.write(work)


async def open_session(control: ControlContext, code: str, replaced: str) -> str | None:
    """Exchange a code for the token of a session. Returns None if the code is unknown, expired or used.

    `replaced` is the token that the browser has had in the same place: its session ends, because no *Sign out* could
    end it later. Wrong codes lead to no lockout: a client cannot guess 256 bits, and the page of any site can make the
    browsers of an office send wrong ones. Raises Locked if the organization is suspended.
    """
    token, now = control.random_text.take(TOKEN_CHARACTERS), control.clock.now()
    hashed, event_id = token_hash(code), control.row_ids.next()

    async def exchange(tx: Transaction) -> str | None:
        session = await tables.by_code(tx, hashed)
        if session is None or session.expires_at <= now:
            return None
        owner = await organizations.get(tx, session.organization)
        if owner is None:
            return None
        if owner.state != "active":
            raise Locked
        if not await tables.open_session(tx, session, token_hash(token), now):
            return None
        await _end(tx, replaced, event_id)
        return token

    # Before the write, which others wait for: wrong codes must not cost that much.
    if await control.store.read(partial(tables.by_code, code_hash=hashed)) is None:
        return None
    return await control.store.write_exclusively(exchange)


async def details_of(control: ControlContext, token: str) -> PortalDetails | None:
    """Return the session with a token; None if there is none, or it has ended.

    Raises Locked if the organization is suspended.
    """
    if len(token) != TOKEN_CHARACTERS:
        # Anyone can send such a token: it must not cost a read.
        return None
    now = control.clock.now()

    async def work(tx: Transaction) -> PortalDetails | None:
        found = await tables.find(tx, token_hash(token))
        if found is None or found.session.expires_at <= now:
            return None
        if found.organization.state != "active":
            raise Locked
        session = found.session
        customer, named = session.customer, await _queues_of(tx, session)
        # A queue of another customer has no listener of this customer, and its schema is not for them.
        owners = {each.public_id: each.customer for each in named if each.customer in {"", customer}}
        own_queues = tuple(queue for queue, owner in owners.items() if owner == customer)
        principal = principal_of(session, found.organization.public_id, tuple(owners))
        of_session = (session, found.theme, found.organization, found.frame_ancestors)
        return PortalDetails(*of_session, principal, tuple(owners), own_queues)

    return await control.store.read(work)


async def types_offered(control: ControlContext, details: PortalDetails) -> Sequence[TypeName]:
    """Return the names of the organization's event types, in their order."""
    return await control.store.read(lambda tx: event_types.names(tx, details.session.organization))


async def types_among(control: ControlContext, details: PortalDetails, types: Sequence[str]) -> Sequence[EventType]:
    """Return some of the organization's event types, with their schemas and examples."""
    return await control.store.read(lambda tx: event_types.of_types(tx, details.session.organization, types))


async def queue_names(
    control: ControlContext, details: PortalDetails, queues: Sequence[str] | None = None
) -> Mapping[str, str]:
    """Return the names of a session's queues by their public ids, sorted by name.

    `queues` restricts them to some of its queues.
    """
    organization, among = details.session.organization, details.queues if queues is None else queues
    return await control.store.read(partial(tables.names_among, organization=organization, public_ids=among))


async def schemas_of(control: ControlContext, details: PortalDetails, queues: Sequence[str]) -> Sequence[Queue]:
    """Return some of the queues that a session is about, by their public ids, with their schemas."""
    own = tuple(each for each in queues if each in details.queues)
    organization = details.session.organization
    return await control.store.read(lambda tx: tables.queues_among(tx, organization, own)) if own else ()


async def _queues_of(tx: Transaction, session: PortalSession) -> Sequence[QueueOwner]:
    """Return the queues that a session names, or those of its customer."""
    organization, grant = session.organization, session.grant
    if not grant.queues and not grant.topics:
        return await tables.queues_of_customer(tx, organization, session.customer)
    named = await tables.queues_of_ids(tx, organization, grant.queues)
    return [*named, *await tables.queues_of_topics(tx, organization, grant.topics)]


def _granted(fields: PortalSessionFields, queues: Sequence[QueueOwner]) -> tuple[PortalAction, ...]:
    """Return the actions that a session for these queues has. Raises Unprocessable."""
    other = next((each.alias for each in queues if each.customer != fields.customer), None)
    if fields.may is None:
        return USUAL_ACTIONS if other is None else SHARED_ACTIONS
    if other is not None:
        rule = (
            f'requires that all queues belong to the customer, but "{other}" does not: leave the action out, or name '
            f'queues that were created with the customer "{fields.customer}"'
        )
        refused = [index for index, each in enumerate(fields.may) if each in OWN_QUEUE_ACTIONS]
        require_none([Fault(f"/may/{index}", rule) for index in refused], code="conflicting_fields")
    return tuple(each for each in ACTIONS if each in fields.may)


def _warnings(fields: PortalSessionFields, queues: Sequence[QueueOwner]) -> tuple[str, ...]:
    """Return sentences about queues of which the session shows less than its fields suggest."""
    customer = fields.customer
    if not queues and fields.topics:
        return ("The topics lead into no queue. The session shows nothing until they do.",)
    if not queues:
        return (f'No queue has the customer "{customer}". The session shows nothing until one is created with it.',)
    warnings = []
    foreign = [each for each in queues if each.customer not in {"", customer}]
    if foreign:
        one = foreign[0]
        warnings.append(
            f'The queue "{one.alias}" has the customer "{one.customer}", not "{customer}". The session shows nothing '
            f"of it{_others(foreign)}."
        )
    shared = [each for each in queues if not each.customer]
    if shared and fields.may is None:
        warnings.append(
            f'The queue "{shared[0].alias}"{_others(shared)} has no customer. The session shows only listeners with '
            f'the customer "{customer}" there, and may not create, edit or replay.'
        )
    return tuple(warnings)


def _others(queues: Sequence[QueueOwner]) -> str:
    count = len(queues) - 1
    return f", like {count} other queue{'s' * (count > 1)}," if count else ""


def _check(fields: PortalSessionFields) -> None:
    """Raise Unprocessable for fields that are invalid whatever the queues are."""
    if not fields.customer:
        raise invalid("/customer", "must name the customer")
    check_customer(fields.customer)
    for name in ("queues", "topics"):
        if len(getattr(fields, name)) > MOST_TARGETS:
            raise invalid(f"/{name}", f"must have at most {MOST_TARGETS} ids or aliases")
    if fields.expires_in not in LIFETIME_SECONDS:
        rule = f"must be from {LIFETIME_SECONDS.start} to {LIFETIME_SECONDS.stop - 1} seconds"
        raise invalid("/expires_in", rule)
    check_return_url(fields.return_url)
    check_theme(fields.theme)
    may = fields.may or ()
    if len(may) > len(ACTIONS):
        raise invalid("/may", f"must have at most {len(ACTIONS)} actions")
    unknown = [index for index, each in enumerate(may) if each not in ACTIONS]
    require_none([Fault(f"/may/{index}", f"must be one of {', '.join(ACTIONS)}") for index in unknown])


def _unknown(names: Sequence[str], known: Collection[str], word: str) -> list[Fault]:
    return [
        Fault(f"/{word}s/{index}", f"is not the id or alias of a {word} of this organization")
        for index, name in enumerate(names)
        if name not in known
    ]


async def _owner(tx: Transaction, principal: Principal, access: Access, public_id: str, *below: str) -> Organization:
    """Return the organization: the caller's own, or any for the operator. Raises NotFound, Forbidden.

    A key with targets needs the organization or one of the ids `below` it.
    """
    principal.require("portal", access, public_id, *below)
    found = await organizations.by_public_id(tx, public_id)
    is_seen = found is not None and (principal.is_operator or found.id == principal.organization)
    return require_found(found if is_seen else None)


async def _read(
    control: ControlContext, principal: Principal, *ids: str, read: Callable[[Transaction, int], Awaitable[T]]
) -> T:
    """Read data of an organization, which the first of the ids names. Raises what `_owner` raises."""

    async def work(tx: Transaction) -> T:
        return await read(tx, (await _owner(tx, principal, "read", *ids)).id)

    return await control.store.read(work)


async def _end(tx: Transaction, token: str, event_id: int) -> None:
    """End the session with a token, if there is one. Its customer does so."""
    found = await tables.find(tx, token_hash(token)) if len(token) == TOKEN_CHARACTERS else None
    if found is not None:
        session = found.session
        await tables.delete(tx, session.organization, session.id)
        await _record(tx, Occurrence(event_id, "", session.public_id), "portal_session_deleted", session)


async def _record(tx: Transaction, occurrence: Occurrence, kind: EventKind, session: PortalSession) -> None:
    await events.record(tx, occurrence, kind, session.organization, ref=session.public_id, name=session.customer)
