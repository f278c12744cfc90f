"""Sessions of browsers in the dashboard, and the times that end them.

Times are in milliseconds since the epoch.
"""

from typing import Final, Literal

import msgspec

from discue.domain.model import Role

IDLE_MS: Final = 12 * 3_600_000
"""A session ends after this time without a request of its user."""
LIFETIME_MS: Final = 30 * 86_400_000
"""A session ends after this time, however often it is used."""
UNFINISHED_MS: Final = 5 * 60_000
"""Time for entering the code of the second factor."""
SEEN_EVERY_MS: Final = 60_000
"""The time of the last request is stored at most this often."""
CONFIRMED_MS: Final = 15 * 60_000
"""How long after a sign-in a session may grant lasting access, for example with an API key or to another user."""
CODE_MS: Final = 60_000
"""How long a one-time code is valid."""
SESSIONS_OF_A_USER: Final = 50
"""The oldest sessions of a user beyond this number end."""
MOST_USER_AGENT_CHARACTERS: Final = 256

SignInMethod = Literal["password", "one_time_code", "oidc"]


class BrowserSession(msgspec.Struct, frozen=True):
    """A browser that has signed in. Its token is not stored, only a hash of it."""

    organization: int
    id: int
    public_id: str
    user_id: int
    """Row id of the user. 0: none; the operator has opened the session on the command line."""
    role: Role | Literal[""]
    """Role of a session without a user; empty for one with a user, who has a role."""
    state: Literal["active", "unfinished"]
    """`unfinished`: the code of the second factor is still missing. Such a session grants nothing."""
    method: SignInMethod
    provider: str
    """Name of the identity provider of the method `oidc`; empty for others."""
    address: str
    """Address of the browser when it signed in."""
    user_agent: str
    created_at: int
    """When the user proved their identity. An identity provider that remembered the browser had it proved earlier.

    A user who confirms it gets a new session.
    """
    last_seen_at: int
    idle_at: int
    """When the session ends unless it is used before."""
    expires_at: int
    """When it ends in any case."""
    token_hash: bytes = b""

    def __repr__(self) -> str:
        return f"BrowserSession(organization={self.organization}, public_id={self.public_id!r}, state={self.state!r})"

    def ended(self, now: int) -> bool:
        return now >= min(self.idle_at, self.expires_at)

    def needs_confirmation(self, now: int) -> bool:
        """Return whether the user must confirm their identity before the session may grant lasting access.

        False for a session without a user, which cannot: a development server opened it on its own machine.
        """
        return self.user_id != 0 and now - self.created_at >= CONFIRMED_MS

    def is_due(self, now: int) -> bool:
        """Return whether a request at `now` is to be stored as the last one."""
        return now - self.last_seen_at >= SEEN_EVERY_MS


def ends_at(now: int, expires_at: int) -> int:
    """Return when a session ends that is used now and not again."""
    return min(now + IDLE_MS, expires_at)
