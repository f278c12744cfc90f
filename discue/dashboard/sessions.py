"""Sessions of users, as the dashboard needs them: who a browser belongs to, and how it signs in."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from discue.dashboard.users import sessions, sign_in
from discue.dashboard.users.sign_in import Browser, NewSession, PasswordSignIn
from discue.dashboard.visit import PageUser
from discue.domain.errors import Unauthorized
from discue.http.services import Services

_WRONG: Final = "The email address or the password is wrong."
_WRONG_CODE: Final = (
    "The code is wrong or has already been used. Each code works once: wait until the app shows the next one."
)


class SignedIn(NamedTuple):
    """The result of a step of signing in."""

    token: str
    needs_code: bool
    """Whether the code of the second factor is missing: until then, the session grants nothing."""
    device: str
    """The cookie of the browser, once the sign-in is finished."""


class Sessions:
    """Finds, starts and ends the sessions of users."""

    def __init__(self, services: Services) -> None:
        self._control = services.control
        self._authenticator = services.authenticator

    async def user_of(self, token: str, *, is_use: bool = True) -> PageUser | None:
        """Return the user of a session; None if the session has ended or never was.

        `is_use` is false for requests that a page makes by itself, which do not keep the session from ending.
        """
        found = await sessions.session_of(self._control, token, is_use=is_use)
        if found is None:
            return None
        user, organization = found.user, found.organization
        name = "Opened on the command line" if user is None else user.display_name or user.email
        return PageUser(found.principal, name, found.role, organization.alias, found)

    async def needs_code(self, token: str) -> bool:
        """Return whether a session lacks the code of the second factor."""
        return bool(token) and await sign_in.unfinished_of(self._control, token) is not None

    async def sign_in(self, fields: Mapping[str, str], browser: Browser) -> SignedIn:
        """Take a step of signing in, as the form says: the password, or the code of the second factor.

        Raises Unauthorized, NotFound if it took too long, and LockedOut.
        """
        if "code" in fields:
            entered = await sign_in.enter_code(self._control, self._authenticator, fields["code"].strip(), browser)
            return _signed_in(entered, _WRONG_CODE)
        password = PasswordSignIn(
            fields.get("email", "").strip(), fields.get("password", ""), fields.get("organization", "").strip()
        )
        return _signed_in(await sign_in.sign_in(self._control, self._authenticator, password, browser), _WRONG)

    async def redeem(self, code: str, browser: Browser) -> str | None:
        """Exchange a one-time code for the token of a new session; None if it has expired or was used."""
        made = await sign_in.redeem(self._control, code, browser)
        return None if made is None else made.token

    async def sign_out(self, token: str) -> None:
        """End a session, if it exists."""
        await sessions.sign_out(self._control, token)


def _signed_in(made: NewSession | None, otherwise: str) -> SignedIn:
    if made is None:
        raise Unauthorized(otherwise)
    return SignedIn(made.token, made.session.state == "unfinished", made.device)
