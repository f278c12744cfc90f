"""API keys."""

from typing import Self

from msgspec.structs import replace

from discue.api.wire.answer import Answer, Shown
from discue.domain.api_key import visible_prefix


class ApiKeyShown(Shown, kw_only=True, frozen=True):
    """`key` is whole in the answer to its creation, and its first characters afterwards."""

    status: str
    key: str
    scopes: dict[str, dict[str, object]]
    last_used_at: int
    expires_at: int

    def without_secrets(self) -> Self:
        return replace(self, key=visible_prefix(self.id))


class ApiKey(Answer, kw_only=True, frozen=True):
    api_key: ApiKeyShown

    def without_secrets(self) -> Self:
        return replace(self, api_key=self.api_key.without_secrets())


class ApiKeys(Answer, kw_only=True, frozen=True):
    api_keys: list[ApiKeyShown]
