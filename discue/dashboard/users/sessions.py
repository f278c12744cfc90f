"""Sessions of the dashboard: what a session grants, and everything that ends it.

A session is read from the database for each request. A user who is disabled or deleted, or whose role changes, is
therefore treated accordingly from the next request on, on every worker.
"""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from discue.control.context import ControlContext, require_found
from discue.dashboard.users import session_table
from discue.dashboard.users.session_table import (
    SESSIONS_OF_A_USER,
    BrowserSession,
    FoundSession,
    ends_at,
    role_of,
)
from discue.dashboard.users.users import require_rank, scopes_of_role
from discue.domain.api_key import hash_secret
from discue.domain.errors import Forbidden, Locked, Unavailable
from discue.domain.model import User
from discue.domain.scopes import Access, Principal
from discue.store import events, users
from discue.store.engine import Transaction
from discue.store.events import Occurrence
from discue.store.tallies import EventKind

TOKEN_CHARACTERS: Final = 43
"""256 bits, so a plain hash of a token is enough."""
_LONGEST_TOKEN: Final = 128
_NO_USER: Final = 0


async def session_of(control: ControlContext, token: str, *, is_use: bool = True) -> FoundSession | None:
    """Return the session with a token; None if there is none, it has ended, or it still lacks the second factor.

    `is_use` is false for requests that a page makes by itself: they do not keep a session from ending. Raises Locked if
    the organization is suspended.
    """
    found = await find(control, token)
    if found is None or found.session.state != "active":
        return None
    if found.organization.state != "active":
        raise Locked
    now = control.clock.now()
    if is_use and found.session.is_due(now):
        idle_at = ends_at(now, found.session.expires_at)
        # A full disk must not lock operators out of the pages that show it: the session just ends a little earlier.
        with suppress(Unavailable):
            await control.store.write(partial(session_table.saw, session=found.session, at=now, idle_at=idle_at))
    return found


async def sign_out(control: ControlContext, token: str) -> None:
    """End the session with a token, if there is one."""
    if len(token) != TOKEN_CHARACTERS:
        return
    event_id = control.row_ids.next()

    async def work(tx: Transaction) -> None:
        found = await session_table.find(tx, token_hash(token))
        if found is None:
            return
        await session_table.delete(tx, found.session.organization, found.session.id)
        if found.session.state == "active":
            await record_by_user(tx, event_id, "session_deleted", session=found.session, user=found.user)

    await control.write(work)


async def sessions_of(control: ControlContext, principal: Principal, user: str = "") -> Sequence[BrowserSession]:
    """Return the sessions of a user that have not ended, by the public id of the user; by default the caller's own.

    Raises Forbidden without the scope for other users, and NotFound.
    """
    now = control.clock.now()

    async def work(tx: Transaction) -> list[BrowserSession]:
        of = await _owner(tx, principal, user, "read")
        return await session_table.of_user(tx, principal.organization, of, limit=SESSIONS_OF_A_USER)

    return [session for session in await control.store.read(work) if not session.ended(now)]


async def revoke(control: ControlContext, principal: Principal, public_id: str) -> None:
    """End a session: the caller's own, or one of a user whom the caller may manage. Raises Forbidden and NotFound."""
    occurrence = control.occurrence(principal)

    async def work(tx: Transaction) -> None:
        session = require_found(await session_table.get(tx, principal.organization, public_id))
        user = await users.by_id(tx, session.organization, session.user_id) if session.user_id else None
        is_own = principal.role is not None and principal.key == (session.user_id or session.id)
        if not is_own:
            principal.require("users", "write", *([user.public_id] if user else []))
            require_rank(principal, role_of(session, user))
        await session_table.delete(tx, session.organization, session.id)
        if session.state == "active":
            ref, name = session.public_id, session.public_id if user is None else user.email
            await events.record(tx, occurrence, "session_deleted", session.organization, ref=ref, name=name)

    await control.write(work)


async def revoke_all(control: ControlContext, principal: Principal, user: str = "", *, but: int = 0) -> int:
    """End all sessions of a user, by default the caller's own, except one by its row id. Returns how many were active.

    Raises Forbidden without the scope for other users, and NotFound.
    """
    occurrence = control.occurrence(principal)

    async def work(tx: Transaction) -> int:
        of = await _owner(tx, principal, user, "write")
        # Events are about active sessions: that an unfinished one was added is not recorded either.
        await session_table.delete_unfinished(tx, principal.organization, of)
        ended = await session_table.delete_of_user(tx, principal.organization, of, but=but)
        if ended:
            who = await users.by_id(tx, principal.organization, of)
            ref, name = ("", "") if who is None else (who.public_id, who.email)
            await events.record(tx, occurrence, "session_deleted", principal.organization, ref=ref, name=name)
        return ended

    return await control.write(work)


def token_hash(token: str) -> bytes:
    """Return the hash by which a token or code is stored. Text that is too long for one has the hash of no token."""
    return hash_secret(token[:_LONGEST_TOKEN])


async def record_by_user(
    tx: Transaction, event_id: int, kind: EventKind, *, session: BrowserSession, user: User | None
) -> None:
    """Record an event of a session whose author is its user."""
    author, name = ("", session.public_id) if user is None else (user.public_id, user.email)
    occurrence = Occurrence(event_id, "", author)
    await events.record(tx, occurrence, kind, session.organization, ref=session.public_id, name=name)


async def find(control: ControlContext, token: str) -> FoundSession | None:
    """Find a session that has not ended, and whose user, if it has one, may still use it."""
    if len(token) != TOKEN_CHARACTERS:
        # Anyone can send such a token: it must not cost a read.
        return None
    found = await control.store.read(partial(session_table.find, token_hash=token_hash(token)))
    if found is None or found.session.ended(control.clock.now()):
        return None
    if found.session.user_id and (found.user is None or found.user.status != "enabled"):
        return None
    return found


def principal_of(found: FoundSession) -> Principal:
    session, organization, user = found.session, found.organization, found.user
    return Principal(
        organization=organization.id,
        organization_public_id=organization.public_id,
        key=session.id if user is None else user.id,
        key_public_id="" if user is None else user.public_id,
        scopes=scopes_of_role(found.role),
        is_operator=organization.is_operator,
        role=found.role,
    )


async def _owner(tx: Transaction, principal: Principal, user: str, access: Access) -> int:
    """Return the row id of the user with a public id, or of the caller."""
    if not user or user == principal.key_public_id:
        if principal.role is None:
            raise Forbidden("An API key has no sessions.")
        return principal.key if principal.key_public_id else _NO_USER
    principal.require("users", access, user)
    found = require_found(await users.get(tx, principal.organization, user))
    if access == "write":
        require_rank(principal, found.role)
    return found.id
