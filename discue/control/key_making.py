"""Making API keys: the only moment at which one is known whole."""

import msgspec

from discue.control.context import ControlContext
from discue.domain import api_key
from discue.domain.errors import SettingsInvalid
from discue.domain.model import ApiKey
from discue.domain.scopes import Scopes, all_scopes, render_scopes


class CreatedKey(msgspec.Struct, frozen=True):
    """A new key; `text` is what a client presents, and is never seen again."""

    key: ApiKey
    text: str

    def __repr__(self) -> str:
        return f"CreatedKey(key={self.key!r})"


def make(
    control: ControlContext, organization: int, alias: str | None, scopes: Scopes, expires_at: int = 0
) -> CreatedKey:
    """A key with a random secret, not stored yet. Without an alias it is called by its id."""
    parts = api_key.PresentedKey(control.public_ids.next(), api_key.new_secret(control.random_text))
    return _made(control, organization, parts, ApiKeyWish(alias, scopes, expires_at))


def first(control: ControlContext, organization: int, given: str | None = None) -> CreatedKey:
    """An organization's first key, with every scope; `given` is its text where the operator chose one."""
    if given is None:
        return make(control, organization, None, all_scopes())
    parts = api_key.parse(given)
    if parts is None:
        raise SettingsInvalid("The bootstrap key must be dsk_ and 43 to 128 letters and digits.")
    return _made(control, organization, parts, ApiKeyWish(None, all_scopes(), 0))


def written(scopes: Scopes) -> str:
    """Scopes as they are stored."""
    return msgspec.json.encode(render_scopes(scopes)).decode()


class ApiKeyWish(msgspec.Struct, frozen=True):
    """What a new key is to be."""

    alias: str | None
    scopes: Scopes
    expires_at: int


def _made(control: ControlContext, organization: int, parts: api_key.PresentedKey, wish: ApiKeyWish) -> CreatedKey:
    now = control.clock.now()
    key = ApiKey(
        organization=organization,
        id=control.row_ids.next(),
        public_id=parts.public_id,
        alias=wish.alias or parts.public_id,
        status="enabled",
        scopes=written(wish.scopes),
        expires_at=wish.expires_at,
        last_used_at=0,
        created_at=now,
        updated_at=now,
        secret_hash=api_key.hash_of(parts.secret),
    )
    return CreatedKey(key, api_key.compose(*parts))
