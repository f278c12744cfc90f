"""A listener's signing secrets: another one beside those that deliveries are signed with, and their ends."""

import hashlib
from typing import Final

import msgspec

from discue.control import encryption
from discue.control.context import ControlContext, require_found
from discue.crypto import signatures
from discue.crypto.signing_secrets import (
    MOST_VALID,
    LastSecret,
    SecretType,
    SigningSecret,
    TooManySecrets,
    with_fresh,
    without,
)
from discue.domain.errors import Conflict, Fault, NotFound, Unprocessable
from discue.domain.model import Listener
from discue.domain.scopes import Access, Principal
from discue.store import events, feed, listeners
from discue.store.engine import Transaction
from discue.store.pagination import FIRST_PAGE, Listing, Selection

LONGEST_OVERLAP_SECONDS: Final = 7 * 86_400

_OVERLAP_SECONDS: Final = 86_400
_FINGERPRINT_CHARACTERS: Final = 16

ListenerPath = tuple[str, str]
"""The public ids of a queue and of a listener of it."""


class SecretFields(msgspec.Struct, frozen=True):
    """What a request says of a new secret. Without `text` one is made. The others of its type end after a while."""

    type: SecretType = "hmac"
    text: str | None = None
    expire_previous_in: int = _OVERLAP_SECONDS

    def __repr__(self) -> str:
        return f"SecretFields(type={self.type!r})"


class ShownSecret(msgspec.Struct, frozen=True):
    """What is shown of a secret at any time. `public_key` is "" where there is none, `expires_at` 0 without an end."""

    id: str
    type: SecretType
    fingerprint: str
    public_key: str
    created_at: int
    updated_at: int
    expires_at: int


class FreshSecret(msgspec.Struct, frozen=True):
    """One that was made now, with its text: "" where that is nobody's business but the service's."""

    shown: ShownSecret
    text: str

    def __repr__(self) -> str:
        return f"FreshSecret(shown={self.shown!r})"


async def create(
    control: ControlContext, principal: Principal, path: ListenerPath, fields: SecretFields
) -> FreshSecret:
    """Deliveries are signed with it from now on, beside those that are still valid.

    Raises Unprocessable for a text that is no secret, or is one of the listener's, and Conflict when there are too
    many.
    """
    now = control.clock.now()
    fresh = SigningSecret(_text(control, fields), control.public_ids.next(), fields.type, now)
    shown = _shown(fresh)
    occurrence = control.occurrence(principal)

    async def work(tx: Transaction) -> FreshSecret:
        listener, secrets = await _secrets(tx, control, principal, "write", path)
        if listener.mode == "pull":
            raise Unprocessable("Nothing is sent to a listener whose messages are pulled: there is nothing to sign.")
        if any(each.text == fresh.text for each in secrets):
            raise _unfit("is the listener's already")
        try:
            changed = with_fresh(secrets, fresh, now + fields.expire_previous_in * 1_000, now)
        except TooManySecrets as error:
            raise Conflict(f"{MOST_VALID} secrets are valid, which is the most. End one of them first.") from error
        await _store(tx, control, listener, changed, occurrence)
        is_told = fields.type == "hmac"
        return FreshSecret(shown, fresh.text if is_told else "")

    return await control.write(work)


async def get(control: ControlContext, principal: Principal, path: ListenerPath, public_id: str) -> ShownSecret:
    return _found(await _valid(control, principal, path), public_id)


async def page(
    control: ControlContext, principal: Principal, path: ListenerPath, selection: Selection = FIRST_PAGE
) -> Listing[ShownSecret]:
    """Those that are valid, newest first."""
    return _selected(await _valid(control, principal, path), selection)


async def delete(control: ControlContext, principal: Principal, path: ListenerPath, public_id: str) -> None:
    """Sign with it no more. Raises Conflict when no other one stays that has no end."""
    now = control.clock.now()
    occurrence = control.occurrence(principal)

    async def work(tx: Transaction) -> None:
        listener, secrets = await _secrets(tx, control, principal, "write", path)
        control.require_match(_found([_shown(each) for each in secrets if each.is_valid(now)], public_id))
        try:
            changed = without(secrets, public_id, now)
        except LastSecret as error:
            raise Conflict("No other secret of the listener is without an end. Create another one first.") from error
        await _store(tx, control, listener, changed, occurrence)

    await control.write(work)


async def _store(
    tx: Transaction,
    control: ControlContext,
    listener: Listener,
    secrets: tuple[SigningSecret, ...],
    occurrence: events.Occurrence,
) -> None:
    place = (listener.organization, listener.id)
    held = encryption.held_by(control, listener)
    await listeners.set_secrets(tx, *place, await encryption.sealed(tx, control, place, secrets, held))
    await feed.record(tx, "listener", *place)
    await events.record(tx, occurrence, "listener_updated", listener.organization, listener.public_id, listener.alias)


async def _valid(control: ControlContext, principal: Principal, path: ListenerPath) -> list[ShownSecret]:
    now = control.clock.now()
    _, secrets = await control.store.read(lambda tx: _secrets(tx, control, principal, "read", path))
    return [_shown(each) for each in secrets if each.is_valid(now)]


async def _secrets(
    tx: Transaction, control: ControlContext, principal: Principal, access: Access, path: ListenerPath
) -> tuple[Listener, tuple[SigningSecret, ...]]:
    queue_public_id, public_id = path
    principal.require("listeners", access, public_id, queue_public_id)
    listener = require_found(await listeners.get(tx, principal.organization, public_id))
    if listener.queue_public_id != queue_public_id:
        raise NotFound
    return listener, tuple(_named(listener, each) for each in encryption.opened(control, listener))


def _named(listener: Listener, secret: SigningSecret) -> SigningSecret:
    """One of before secrets had ids is the only one of its listener, and as old."""
    if secret.id:
        return secret
    return msgspec.structs.replace(secret, id=listener.public_id, created_at=listener.created_at)


def _text(control: ControlContext, fields: SecretFields) -> str:
    if fields.text is None:
        make = signatures.new_secret if fields.type == "hmac" else signatures.new_private_key
        return make(control.random_bytes)
    try:
        if fields.type == "ed25519":
            signatures.private_key_of(fields.text)
        elif not fields.text.startswith("whsec_"):
            raise ValueError("a signing secret is whsec_ and base64")
        else:
            signatures.key_of(fields.text)
    except ValueError as error:
        raise _unfit(str(error)) from None
    return fields.text


def _unfit(reason: str) -> Unprocessable:
    return Unprocessable(f"The secret cannot be used: {reason}.", faults=(Fault("/secret", reason),))


def _shown(secret: SigningSecret) -> ShownSecret:
    """The fingerprint is of what its owner has: of the secret itself, or of the public key."""
    public_key = signatures.public_text_of(signatures.private_key_of(secret.text)) if secret.type == "ed25519" else ""
    digest = hashlib.sha256((public_key or secret.text).encode()).hexdigest()
    fingerprint = digest[:_FINGERPRINT_CHARACTERS]
    return ShownSecret(
        id=secret.id,
        type=secret.type,
        fingerprint=fingerprint,
        public_key=public_key,
        created_at=secret.created_at,
        updated_at=secret.updated_at or secret.created_at,
        expires_at=secret.expires_at,
    )


def _found(secrets: list[ShownSecret], public_id: str) -> ShownSecret:
    return require_found(next((each for each in secrets if each.id == public_id), None))


def _selected(secrets: list[ShownSecret], selection: Selection) -> Listing[ShownSecret]:
    """They are few, and all of them were read: pages are cut out of them. A secret's alias is its id."""
    found = [
        each
        for each in sorted(secrets, key=lambda each: each.id, reverse=True)
        if selection.admits(each.created_at) and selection.alias in (None, each.id)
    ]
    size, start = selection.per_page, (selection.page - 1) * selection.per_page
    if selection.after is not None:
        start = sum(each.id >= selection.after for each in found)
    elif selection.before is not None:
        end = sum(each.id > selection.before for each in found)
        start = max(end - size, 0)
        size = end - start
    return Listing(tuple(found[start : start + size]), len(found) > start + size, start > 0 and bool(found))
