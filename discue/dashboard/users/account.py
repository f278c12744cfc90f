"""Users' own accounts: what they change only after they have entered their password again.

A browser that is left open, or a stolen session, must not be enough to take over an account for good.
"""

from functools import partial

from msgspec.structs import replace

from discue.auth.authenticator import Authenticator
from discue.control.context import ControlContext, Record, changed_settings
from discue.crypto import passwords
from discue.dashboard.users import second_factor, session_table
from discue.dashboard.users.second_factor import Enrolment
from discue.dashboard.users.session_table import FoundSession
from discue.dashboard.users.sessions import principal_of
from discue.dashboard.users.sign_in import Browser, NewSession, SessionRequest, new_device_cookie, open_session
from discue.domain.errors import Forbidden, NotFound, invalid
from discue.domain.lockout import LockoutSubject
from discue.domain.model import User
from discue.store import users
from discue.store.engine import Transaction


class Account:
    """The account of a signed-in user.

    Wrong passwords and codes count against the session alone: strangers cannot lock it out, and five failures lock only
    the session.
    """

    def __init__(self, control: ControlContext, authenticator: Authenticator, details: FoundSession) -> None:
        """Raises Forbidden for a session without a user."""
        if details.user is None:
            raise Forbidden("This session was opened on the command line. Only users have an account.")
        self.user = details.user
        self._control = control
        self._authenticator = authenticator
        self._session = details.session
        self._principal = principal_of(details)
        self._subjects = [LockoutSubject.device(details.session.public_id, self.user.email)]

    async def confirm(self, password: str, browser: Browser) -> NewSession:
        """Replace the session by a new one after the password, so that `needs_confirmation` is false for a while.

        The token changes, so a copy of the earlier one is not confirmed but invalid. Raises Unprocessable if
        the password is wrong, LockedOut, and NotFound if the session has ended, or the password was changed, meanwhile.
        """
        await self.require_password(password)
        return await self._confirmed(browser)

    async def is_confirmed_by_code(self) -> bool:
        """Return whether `confirm_by_code` can confirm the session: the user has a second factor and no password.

        With a password, a code is not enough: it may be on a device that lies next to the browser.
        """
        return self.user.password_hash is None and await self.has_second_factor()

    async def confirm_by_code(self, code: str, browser: Browser) -> NewSession:
        """Replace the session as `confirm` does, after a code of the app or a recovery code.

        Raises Unprocessable if the code is wrong or the user has a password, LockedOut, and NotFound if the session has
        ended meanwhile.
        """

        async def work() -> User | None:
            is_right = await second_factor.check(self._control, self.user, code, without=False)
            return self.user if is_right else None

        if self.user.password_hash is not None or await self._authenticator.attempt(self._subjects, work) is None:
            raise invalid("/code", "is wrong, or was used already")
        return await self._confirmed(browser)

    async def _confirmed(self, browser: Browser) -> NewSession:
        session = self._session
        request = SessionRequest(
            browser,
            session.method,
            session.organization,
            session.user_id,
            password_hash=self.user.password_hash,
            provider=session.provider,
            replaces=True,
        )
        opened = await open_session(self._control, request)
        if opened is None:
            raise NotFound("The session has ended. Sign in again.")
        return opened

    async def change_password(self, password: str, new: str) -> str:
        """Replace the password, and end all other sessions of the user. Returns the cookie of the browser for it.

        Raises Unprocessable if the password is wrong or the new one invalid, and LockedOut.
        """
        control, now = self._control, self._control.clock.now()
        passwords.check_password(new, "/new_password")
        await self.require_password(password)
        new_hash = await control.passwords.hash_of(new, control.random_bytes, line=self.user.organization)

        async def work(tx: Transaction, record: Record) -> None:
            stored = await users.by_id(tx, self.user.organization, self.user.id)
            # Changed meanwhile: by an administrator who does not know what the user is doing, or by a reset.
            if stored is None or stored.password_hash != self.user.password_hash:
                raise NotFound("The password was changed meanwhile. Sign in again.")
            changed = replace(stored, password_hash=new_hash, updated_at=now)
            await users.update(tx, changed)
            await session_table.delete_of_user(tx, stored.organization, stored.id, but=self._session.id)
            await record("user_updated", changed, changes=changed_settings(stored, changed))

        await control.write_as(self._principal, work)
        return new_device_cookie(new_hash, control.random_text)

    async def begin_second_factor(self, password: str) -> Enrolment:
        """Make a secret for the user's authenticator app.

        Raises what `require_proof` raises, and Unprocessable if there is a second factor.
        """
        await self.require_proof(password)
        return await second_factor.begin(self._control, self.user)

    async def remove_second_factor(self, password: str) -> None:
        """Remove the second factor. Raises what `require_proof` raises."""
        await self.require_proof(password)
        await second_factor.remove(self._control, self._principal, self.user.public_id)

    async def has_second_factor(self) -> bool:
        return await self._control.store.read(partial(second_factor.is_required, user=self.user))

    @property
    def needs_confirmation(self) -> bool:
        """Whether `require_proof` refuses the session until it is confirmed: the user has no password to ask for."""
        return self.user.password_hash is None and self._session.needs_confirmation(self._control.clock.now())

    async def require_proof(self, password: str) -> None:
        """Raise Unprocessable unless the password is right, or the user has none and the sign-in is recent.

        Raises LockedOut after too many wrong passwords.
        """
        if self.needs_confirmation:
            raise invalid("/password", "does not exist, and the sign-in is too old. Sign in again")
        if self.user.password_hash is not None:
            await self.require_password(password)

    async def require_password(self, password: str) -> None:
        """Raise Unprocessable unless the password is right."""
        user = self.user
        if user.password_hash is None:
            raise invalid("/password", "does not exist: you sign in with an identity provider")

        async def work() -> User | None:
            is_right = await self._control.passwords.matches(password, user.password_hash, line=user.organization)
            return user if is_right else None

        if await self._authenticator.attempt(self._subjects, work) is None:
            raise invalid("/password", "is wrong")
