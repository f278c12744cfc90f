"""Users, and what invites them."""

from typing import Self

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from discue.api.wire.answer import Answer, Shown


class UserShown(Shown, kw_only=True, frozen=True):
    """`alias` and `name` are the email."""

    email: str
    display_name: str
    role: str
    state: str


class InvitationShown(msgspec.Struct, kw_only=True, frozen=True):
    """`url` and `token` are there once: in the first answer to the request that made it."""

    expires_at: int
    url: str | UnsetType = UNSET
    token: str | UnsetType = UNSET


class User(Answer, kw_only=True, frozen=True):
    """`invitation` is there in the answer to the request that made it alone."""

    user: UserShown
    invitation: InvitationShown | UnsetType = UNSET

    def without_secrets(self) -> Self:
        if isinstance(self.invitation, UnsetType):
            return self
        return replace(self, invitation=InvitationShown(expires_at=self.invitation.expires_at))


class Users(Answer, kw_only=True, frozen=True):
    users: list[UserShown]
