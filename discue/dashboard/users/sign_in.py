"""Signing in to the dashboard, with a password or a one-time code, and the cookie that remembers the browser."""

import hashlib
import hmac
import re
from functools import partial
from typing import Final, Literal

import msgspec
from msgspec.structs import replace

from discue.auth.authenticator import Authenticator, sign_in_subject
from discue.control.context import ControlContext
from discue.crypto.passwords import STRANGERS
from discue.dashboard.users import second_factor, session_table
from discue.dashboard.users.second_factor import is_required
from discue.dashboard.users.session_table import (
    CODE_MS,
    LIFETIME_MS,
    MOST_USER_AGENT_CHARACTERS,
    SESSIONS_OF_A_USER,
    UNFINISHED_MS,
    BrowserSession,
    FoundSession,
    SignInCode,
    SignInMethod,
    ends_at,
)
from discue.dashboard.users.sessions import TOKEN_CHARACTERS, find, record_by_user, token_hash
from discue.dashboard.users.users import is_email
from discue.domain.errors import Locked, NotFound
from discue.domain.ids import RandomText
from discue.domain.lockout import LockoutSubject
from discue.domain.model import Role, User
from discue.domain.representation import shows
from discue.store import organizations, users
from discue.store.engine import Transaction

_CODE_CHARACTERS: Final = 22
"""128 bits: a code is valid for a minute, and a terminal has few columns for a link."""
_LONGEST_CODE: Final = 128
_NO_USER: Final = 0
_UNKNOWN: Final = "?"
"""Neither an email nor an alias."""


@shows("address")
class Browser(msgspec.Struct, frozen=True):
    address: str
    user_agent: str = ""
    token: str = ""
    """The token of its present session, which ends: a planted session must not outlive a sign-in."""
    device: str = ""
    """The cookie that shows that a user has signed in with it before."""


@shows("email", "organization")
class PasswordSignIn(msgspec.Struct, frozen=True):
    email: str
    password: str
    organization: str = ""
    """Alias of the organization. Empty: the operator's, or else the only one that has a user with the email."""


@shows("session")
class NewSession(msgspec.Struct, frozen=True):
    """A session that was opened, and its token, which is not stored."""

    token: str
    session: BrowserSession
    device: str = ""
    """The cookie that proves at the next sign-in that the user has signed in with this browser before.

    Empty while the session is unfinished, and for users without a password.
    """


async def sign_in(
    control: ControlContext, authenticator: Authenticator, entered: PasswordSignIn, browser: Browser
) -> NewSession | None:
    """Open a session for a user with a password. Returns None if any of them is wrong, without telling which.

    For a user with a second factor, the session is unfinished: it grants nothing until `enter_code`. Failures count
    against the email and the address of the browser, whether the user exists or not. In a browser in which the user has
    signed in before, they count against that browser alone: strangers cannot lock it out or take its place in the line
    of hashes. Raises LockedOut after too many failures, Locked if the organization is suspended, and Overloaded.
    """

    # Other text cannot be looked up on every engine, and belongs to no user.
    email, alias = (text if text.isprintable() else _UNKNOWN for text in (entered.email, entered.organization))
    find_user = partial(_candidate, email=email, alias=alias)
    candidate = await control.store.read(find_user) if is_device_cookie(browser.device) else None
    device = None if candidate is None else _device_of(candidate, browser)
    line = STRANGERS if candidate is None or device is None else candidate.organization

    async def work() -> NewSession | None:
        # First: during a flood, a refused sign-in must not cost a read.
        control.passwords.require_place(line)
        user = await control.store.read(find_user)
        known = None if user is None or user.status != "enabled" else user.password_hash
        # Unknown users cost the same hash.
        is_right = await control.passwords.matches(entered.password, known, line=line)
        if user is None or not is_right:
            return None
        request = SessionRequest(browser, "password", user.organization, user.id, password_hash=user.password_hash)
        return await open_session(control, request)

    subjects = [sign_in_subject(browser.address)] if device is None else [device]
    if device is None and is_email(email):
        subjects.append(LockoutSubject.user(email))
    return await authenticator.attempt(subjects, work)


def _device_of(user: User, browser: Browser) -> LockoutSubject | None:
    """Return the subject for failures in a browser that the user has signed in with before; None for other browsers."""
    device = device_of(browser.device, user.password_hash)
    return None if device is None or user.status != "enabled" else LockoutSubject.device(device, user.email)


async def unfinished_of(control: ControlContext, token: str) -> FoundSession | None:
    """Return the session with a token that lacks the code of the second factor; None if there is none."""
    found = await find(control, token)
    return found if found is not None and found.session.state == "unfinished" else None


async def enter_code(
    control: ControlContext, authenticator: Authenticator, code: str, browser: Browser
) -> NewSession | None:
    """Finish a sign-in with a code of the app or a recovery code. Returns None if the code is wrong or was used.

    The session gets another token. Failures count as in `sign_in`, and for the user until a code is right. Raises
    NotFound if there is no unfinished sign-in, or it took too long, LockedOut, and Locked if the organization is
    suspended.
    """
    found = await unfinished_of(control, browser.token)
    if found is None or (user := found.user) is None:
        raise NotFound("The sign-in took too long. Enter the password again.")

    async def work() -> NewSession | None:
        if not await second_factor.check(control, user, code[:_LONGEST_CODE]):
            return None
        return await open_session(
            control, SessionRequest(browser, found.session.method, user.organization, user.id, replaces=True)
        )

    device = _device_of(user, browser)
    subjects = [sign_in_subject(browser.address), LockoutSubject.user(user.email)] if device is None else [device]
    return await authenticator.attempt(subjects, work)


async def one_time_code(
    control: ControlContext, organization: int, *, user: int = _NO_USER, role: Role = "owner"
) -> str:
    """Return a code that opens one session within a minute: of a user, or with a role and without a user."""
    code = control.random_text.take(_CODE_CHARACTERS)
    row = SignInCode(
        organization=organization,
        id=control.row_ids.next(),
        code_hash=token_hash(code),
        user_id=user,
        role="" if user else role,
        expires_at=control.clock.now() + CODE_MS,
    )
    await control.store.write(partial(session_table.insert_code, code=row))
    return code


async def redeem(control: ControlContext, code: str, browser: Browser) -> NewSession | None:
    """Exchange a one-time code for a session. Returns None if the code is unknown, expired or used.

    Wrong codes lead to no lockout: a client cannot guess 128 bits, and the page of any site can make the browsers of an
    office send wrong ones. Raises Locked if the organization is suspended.
    """
    hashed, now = token_hash(code), control.clock.now()
    # Before the write, which others wait for: wrong codes must not cost that much.
    if not await control.store.read(partial(session_table.has_code, code_hash=hashed)):
        return None
    found = await control.store.write(partial(session_table.redeem_code, code_hash=hashed))
    if found is None or found.expires_at <= now:
        return None
    return await open_session(
        control, SessionRequest(browser, "one_time_code", found.organization, found.user_id, role=found.role)
    )


class SessionRequest(msgspec.Struct, frozen=True):
    """A session to open, for a user who has proved who they are."""

    browser: Browser
    method: SignInMethod
    organization: int
    user: int
    """Row id; 0 for a session without a user."""
    role: Role | Literal[""] = ""
    password_hash: str | None = None
    """The hash that the password matched, which must be the user's still; None without a password."""
    provider: str = ""
    proved_at: int | None = None
    """When the user proved who they are; None: now."""
    replaces: bool = False
    """Whether it replaces the session of the browser, which must still exist: an unfinished one after the code of the
    second factor, or an active one after the user has proved again who they are."""


async def open_session(control: ControlContext, request: SessionRequest) -> NewSession | None:
    """Open a session. Returns None if the user was deleted, disabled, or has got another password meanwhile."""
    now, browser, token = control.clock.now(), request.browser, control.random_text.take(TOKEN_CHARACTERS)
    expires_at = now + LIFETIME_MS
    session = BrowserSession(
        organization=request.organization,
        id=control.row_ids.next(),
        public_id=control.public_ids.next(),
        user_id=request.user,
        role=request.role,
        state="active",
        method=request.method,
        provider=request.provider,
        address=browser.address,
        user_agent="".join(filter(str.isprintable, browser.user_agent[:MOST_USER_AGENT_CHARACTERS])),
        created_at=now if request.proved_at is None else min(now, request.proved_at),
        last_seen_at=now,
        idle_at=ends_at(now, expires_at),
        expires_at=expires_at,
        token_hash=token_hash(token),
    )
    event_id, device = control.row_ids.next(), control.random_text.take(DEVICE_CHARACTERS)

    async def work(tx: Transaction) -> NewSession | None:
        organization = await organizations.get(tx, request.organization)
        user = await users.by_id(tx, request.organization, request.user) if request.user else None
        if organization is None or (request.user and not _may_enter(user, request)):
            return None
        if organization.state != "active":
            raise Locked
        earlier = await session_table.delete_by_token(tx, token_hash(browser.token)) if browser.token else None
        if request.replaces and earlier is None:
            # The password was changed, or another request has replaced the session.
            return None
        if request.method == "password" and not request.replaces and user and await is_required(tx, user):
            expires_at = now + UNFINISHED_MS
            unfinished = replace(session, state="unfinished", idle_at=expires_at, expires_at=expires_at)
            await session_table.insert(tx, unfinished)
            return NewSession(token, unfinished)
        await session_table.insert(tx, session)
        await session_table.delete_oldest(tx, session.organization, session.user_id, kept=SESSIONS_OF_A_USER)
        await record_by_user(tx, event_id, "session_added", session=session, user=user)
        password_hash = None if user is None else user.password_hash
        return NewSession(token, session, "" if password_hash is None else device_cookie(device, password_hash))

    return await control.write(work)


def _may_enter(user: User | None, request: SessionRequest) -> bool:
    if user is None or user.status != "enabled":
        return False
    if request.password_hash is not None:
        return user.password_hash == request.password_hash
    # After a code, the unfinished session shows that the password has not changed: that ends such sessions.
    return request.method != "password" or request.replaces


async def _candidate(tx: Transaction, email: str, alias: str) -> User | None:
    """Find the user whose password is checked. Runs the same statements whether there is one or not."""
    named = await (organizations.by_alias(tx, alias) if alias else organizations.operator(tx))
    user = await users.by_email(tx, 0 if named is None else named.id, email)
    # Two are enough to know that it is ambiguous.
    anywhere = await users.with_email(tx, email, limit=2)
    if user is not None or alias or len(anywhere) != 1:
        return user
    return anywhere[0]


# The cookie of a browser in which a user has signed in with a password, so that strangers cannot deny them the next
# sign-in. It grants nothing but that: the password is asked for as before. Its code is an HMAC with the hash of the
# password as the key, so a new password voids it, and nothing is stored. The salt alone has 128 bits that no one
# outside knows, so the code is of no use for guessing the password. The idea is from OWASP, "Slow Down Online Guessing
# Attacks with Device Cookies".
DEVICE_CHARACTERS: Final = 22
"""The length of a device id. Its 128 random bits make it unique."""
_FORM: Final = re.compile(rf"([0-9A-Za-z]{{{DEVICE_CHARACTERS}}})[0-9a-f]{{64}}")
_PURPOSE: Final = b"discue device "


def device_cookie(device: str, password_hash: str) -> str:
    """Return the cookie of a device for the user with this password hash."""
    code = hmac.new(password_hash.encode(), _PURPOSE + device.encode(), hashlib.sha256).hexdigest()
    return device + code


def new_device_cookie(password_hash: str, random_text: RandomText) -> str:
    return device_cookie(random_text.take(DEVICE_CHARACTERS), password_hash)


def is_device_cookie(cookie: str) -> bool:
    return _FORM.fullmatch(cookie) is not None


def device_of(cookie: str, password_hash: str | None) -> str | None:
    """Return the id of the device if the cookie was made for this password hash."""
    found = _FORM.fullmatch(cookie)
    if found is None:
        return None
    # Also computed without a hash: the response time must not reveal whether there is one.
    is_right = hmac.compare_digest(cookie, device_cookie(found[1], password_hash or ""))
    return found[1] if is_right and password_hash is not None else None
