"""Signing secrets of a listener. Several can be valid at once, so that receivers can rotate them without downtime."""

import hashlib
from typing import Final

import msgspec

from discue.control import encryption
from discue.control.context import ControlContext, Record, require_found
from discue.control.listeners import ListenerPath, own_listener
from discue.crypto import signing
from discue.domain.errors import Conflict, Unprocessable, invalid
from discue.domain.model import Listener
from discue.domain.representation import shows
from discue.domain.scopes import Access, Principal
from discue.store import listeners
from discue.store.engine import Transaction
from discue.store.pagination import FIRST_PAGE, Listing, Selection

LONGEST_OVERLAP_SECONDS: Final = 7 * 86_400

_OVERLAP_SECONDS: Final = 86_400
_FINGERPRINT_CHARACTERS: Final = 16


@shows("type")
class SecretFields(msgspec.Struct, frozen=True):
    """The fields of a new secret in a request."""

    type: signing.SecretType = "hmac"
    text: str | None = None
    """The secret to use. None: a random one."""
    expire_previous_in: int = _OVERLAP_SECONDS
    """Seconds until the other secrets of the type expire."""


class ShownSecret(msgspec.Struct, frozen=True):
    """The fields of a secret in responses, without the secret itself."""

    id: str
    type: signing.SecretType
    fingerprint: str
    public_key: str
    """Empty for an HMAC secret."""
    created_at: int
    updated_at: int
    expires_at: int
    """Milliseconds since the epoch. 0: never."""


@shows("shown")
class FreshSecret(msgspec.Struct, frozen=True):
    """A new secret, and its text, which is shown only once."""

    shown: ShownSecret
    text: str
    """Empty for a private key, which never leaves the server."""


async def create(
    control: ControlContext, principal: Principal, path: ListenerPath, fields: SecretFields
) -> FreshSecret:
    """Create a secret. Requests are signed with it at once, in addition to the other valid secrets.

    Raises Unprocessable for an invalid or known text and for a listener in pull mode, Conflict if there are too many.
    """
    now = control.clock.now()
    fresh = signing.SigningSecret(_text(control, fields), control.public_ids.next(), fields.type, now)

    async def work(tx: Transaction, record: Record) -> FreshSecret:
        listener, secrets = await _secrets(tx, control, principal, "write", path=path)
        if listener.mode == "pull":
            raise Unprocessable("Listeners in pull mode have no signing secrets.", code="conflicting_fields")
        if any(each.text == fresh.text for each in secrets):
            raise invalid("/secret", "is already a secret of this listener", code="already_exists")
        try:
            changed = signing.with_new(secrets, fresh, now + fields.expire_previous_in * 1_000, now)
        except signing.TooManySecrets as error:
            detail = f"A listener has at most {signing.MAX_VALID} valid secrets. Delete one first."
            raise Conflict(detail, code="limit_reached") from error
        await _store(tx, control, listener, changed, record=record)
        return FreshSecret(_shown(fresh), fresh.text if fields.type == "hmac" else "")

    return await control.write_as(principal, work)


async def get(control: ControlContext, principal: Principal, path: ListenerPath, public_id: str) -> ShownSecret:
    return _found(await _valid(control, principal, path), public_id)


async def page(
    control: ControlContext, principal: Principal, path: ListenerPath, selection: Selection = FIRST_PAGE
) -> Listing[ShownSecret]:
    """Return the valid secrets, newest first. The alias of a secret is its id."""
    # All of the few secrets of a listener are in memory.
    valid = sorted(await _valid(control, principal, path), key=lambda each: each.id, reverse=True)
    found = [each for each in valid if selection.admits(each.created_at) and selection.alias in (None, each.id)]
    size, start = selection.per_page, (selection.page - 1) * selection.per_page
    if selection.after is not None:
        start = sum(each.id >= selection.after for each in found)
    elif selection.before is not None:
        end = sum(each.id > selection.before for each in found)
        start = max(end - size, 0)
        size = end - start
    return Listing(tuple(found[start : start + size]), len(found) > start + size, start > 0 and bool(found))


async def delete(control: ControlContext, principal: Principal, path: ListenerPath, public_id: str) -> None:
    """Delete a secret. Raises Conflict if no other secret without an expiry would remain."""
    now = control.clock.now()

    async def work(tx: Transaction, record: Record) -> None:
        listener, secrets = await _secrets(tx, control, principal, "write", path=path)
        control.require_match(_found([_shown(each) for each in secrets if each.is_valid(now)], public_id))
        try:
            changed = signing.without(secrets, public_id, now)
        except signing.LastSecret as error:
            raise Conflict(
                "This is the only secret without an expiry. Create a new secret before you delete it.",
                code="last_secret",
            ) from error
        await _store(tx, control, listener, changed, record=record)

    await control.write_as(principal, work)


async def _store(
    tx: Transaction,
    control: ControlContext,
    listener: Listener,
    secrets: tuple[signing.SigningSecret, ...],
    *,
    record: Record,
) -> None:
    row = (listener.organization, listener.id)
    # Not `credentials_of`, which raises if they are lost: secrets can still be changed then.
    held = encryption.secrets_of(control, listener).credentials
    await listeners.set_secrets(tx, *row, await encryption.sealed(tx, control, row, secrets, credentials=held))
    await record("listener_updated", listener, changes=("signing_secrets",))


async def _valid(control: ControlContext, principal: Principal, path: ListenerPath) -> list[ShownSecret]:
    now = control.clock.now()
    _, secrets = await control.store.read(lambda tx: _secrets(tx, control, principal, "read", path=path))
    return [_shown(each) for each in secrets if each.is_valid(now)]


async def _secrets(
    tx: Transaction, control: ControlContext, principal: Principal, access: Access, *, path: ListenerPath
) -> tuple[Listener, tuple[signing.SigningSecret, ...]]:
    listener = await own_listener(tx, principal, access, path)
    return listener, encryption.secrets_of(control, listener).signing


def _text(control: ControlContext, fields: SecretFields) -> str:
    if fields.text is None:
        make = signing.new_secret if fields.type == "hmac" else signing.new_private_key
        return make(control.random_bytes)
    try:
        if fields.type == "ed25519":
            signing.decode_private_key(fields.text)
        elif not fields.text.startswith("whsec_"):
            raise ValueError("a signing secret is whsec_ and base64")
        else:
            signing.decode_secret(fields.text)
    except ValueError as error:
        raise invalid("/secret", f"cannot be used: {error}") from None
    return fields.text


def _shown(secret: signing.SigningSecret) -> ShownSecret:
    """Return the fields to show. The fingerprint is of what the receiver has: the HMAC secret or the public key."""
    public_key = ""
    if secret.type == "ed25519":
        public_key = signing.encode_public_key(signing.decode_private_key(secret.text))
    digest = hashlib.sha256((public_key or secret.text).encode()).hexdigest()
    return ShownSecret(
        id=secret.id,
        type=secret.type,
        fingerprint=digest[:_FINGERPRINT_CHARACTERS],
        public_key=public_key,
        created_at=secret.created_at,
        updated_at=secret.updated_at or secret.created_at,
        expires_at=secret.expires_at,
    )


def _found(secrets: list[ShownSecret], public_id: str) -> ShownSecret:
    return require_found(next((each for each in secrets if each.id == public_id), None))
