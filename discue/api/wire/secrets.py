"""Signing secrets."""

from typing import Self

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from discue.api.wire.answer import Answer


class SecretShown(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """`secret` is there in the answer to its creation alone, `public_key` for a key pair. `expires_at` 0: no end."""

    id: str
    type: str
    fingerprint: str
    created_at: int
    updated_at: int
    expires_at: int
    public_key: str | UnsetType = UNSET
    secret: str | UnsetType = UNSET


class Secret(Answer, kw_only=True, frozen=True):
    secret: SecretShown

    def without_secrets(self) -> Self:
        return replace(self, secret=replace(self.secret, secret=UNSET))


class Secrets(Answer, kw_only=True, frozen=True):
    secrets: list[SecretShown]
