"""Users who sign in, for tests of sessions."""

from discue.auth.authenticator import Authenticator
from discue.control.context import ControlContext
from discue.dashboard.users import sessions, sign_in, users
from discue.dashboard.users.session_table import FoundSession
from discue.dashboard.users.sign_in import Browser, NewSession, PasswordSignIn
from discue.dashboard.users.users import UserFields
from discue.domain.model import User
from discue.domain.scopes import Principal
from discue.observability.logs import Log
from tests.support.cast import Cast

PASSWORD = "correct horse battery"
ADA = "ada@example.com"


class Door:
    """Signs users in at one worker."""

    def __init__(self, control: ControlContext) -> None:
        self.control = control
        self.authenticator = Authenticator(control.store, control.cache, control.clock, control.row_ids, log=Log())

    async def try_in(
        self, email: str = ADA, password: str = PASSWORD, *, address: str = "192.0.2.1", **more: str
    ) -> NewSession | None:
        """Sign in from an address, with an organization, and the token of a session or the cookie of a device."""
        entered = PasswordSignIn(email, password, more.get("organization", ""))
        browser = Browser(address, "a browser", more.get("token", ""), more.get("device", ""))
        return await sign_in.sign_in(self.control, self.authenticator, entered, browser)

    async def sign_in(self, email: str = ADA, password: str = PASSWORD, **more: str) -> NewSession:
        opened = await self.try_in(email, password, **more)
        assert opened is not None
        return opened

    async def see(self, opened: NewSession) -> FoundSession | None:
        return await sessions.session_of(self.control, opened.token)

    async def principal(self, opened: NewSession) -> Principal:
        details = await self.see(opened)
        assert details is not None
        return sessions.principal_of(details)


async def a_user(cast: Cast, email: str = ADA, role: str = "developer", owner: Principal | None = None) -> User:
    """Create a user of alice's organization, or of that of the given owner."""
    fields = UserFields(email, role=role, password=PASSWORD)
    return (await users.create(cast.control, owner or cast.alice.principal, fields)).user
