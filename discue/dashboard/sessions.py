"""Sessions of users: how the dashboard finds, starts and ends them."""

import hashlib
from collections.abc import Mapping

from discue.control.context import ControlContext
from discue.dashboard.visit import PageUser
from discue.domain.errors import Unauthorized

_TOKEN_BYTES = 32


class MemorySessions:
    """Sessions of one process, which one-time codes start."""

    def __init__(self, control: ControlContext) -> None:
        self._control = control
        self._users: dict[bytes, PageUser] = {}
        self._codes: dict[bytes, PageUser] = {}

    async def user_of(self, token: str) -> PageUser | None:
        return self._users.get(_hash(token))

    async def sign_in(self, fields: Mapping[str, str], address: str) -> str:
        del fields, address
        raise Unauthorized("The e-mail address or the password is wrong.")

    async def redeem(self, code: str) -> str | None:
        user = self._codes.pop(_hash(code), None)
        return None if user is None else self.begin(user)

    async def sign_out(self, token: str) -> None:
        self._users.pop(_hash(token), None)

    def begin(self, user: PageUser) -> str:
        """Return the token of a new session."""
        token = self._control.random_bytes(_TOKEN_BYTES).hex()
        self._users[_hash(token)] = user
        return token

    def code(self, user: PageUser) -> str:
        """Return a one-time code for a session."""
        code = self._control.random_bytes(_TOKEN_BYTES).hex()
        self._codes[_hash(code)] = user
        return code


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
