"""Encryption of signing secrets, credentials and second factors, and their rotation to another key while servers run.

The database names the current key. The transaction that writes a secret reads it: once another key is current, no
worker writes under the previous one.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from discue.config.settings import Settings
from discue.control.context import ControlContext
from discue.crypto import signing
from discue.crypto.endpoint_credentials import Credentials, ListenerSecrets, decode_secrets, encode_secrets
from discue.crypto.keyring import (
    NONCE_BYTES,
    DecryptionFailed,
    UnknownKey,
    create_key_file,
    current_keys,
    key_file_path,
    key_id_in,
    key_id_of,
)
from discue.crypto.signing import NO_SECRETS, SigningSecret, associated_data
from discue.domain.errors import SettingsInvalid, StoreUnusable, Unavailable
from discue.domain.model import Listener, WebhookSource
from discue.observability.logs import Log
from discue.store import encryption, feed
from discue.store.encryption import CLEAR, Encryption, RowKey, SecretsRow
from discue.store.engine import Notification, Transaction

T = TypeVar("T")

_read_texts: Final = msgspec.json.Decoder(tuple[str, ...]).decode

ROWS_A_STEP: Final = 200
NO_KEY: Final = (
    "Signing secrets would be stored in clear text. Set encryption_key or encryption_key_file, for example to the "
    "output of `openssl rand -base64 32`, or set encryption to none."
)


class RotationStep(msgspec.Struct, frozen=True):
    """The result of one step of a rotation."""

    after: RowKey | None
    """Last row that was read. None: no row was left."""
    rows: int
    moved: int
    unreadable: tuple[RowKey, ...] = ()
    """Rows that no known key decrypts."""
    unreadable_users: int = 0
    """The number of second factors among these."""


async def sealed(
    tx: Transaction,
    control: ControlContext,
    row: RowKey,
    secrets: Sequence[SigningSecret],
    *,
    credentials: Credentials | None = None,
) -> bytes:
    """Return a listener's secrets, encrypted for storage by this exclusive transaction. Raises Unavailable."""
    return await sealed_content(tx, control, row, encode_secrets(ListenerSecrets(tuple(secrets), credentials)))


async def sealed_content(tx: Transaction, control: ControlContext, row: RowKey, content: bytes) -> bytes:
    """Return content, encrypted for storage in a row by this exclusive transaction. Raises Unavailable."""
    state = await encryption.read(tx)
    try:
        return _seal(control, state.current, row, content)
    except UnknownKey as error:
        raise Unavailable(
            "This server has no encryption key for the signing secrets. "
            "Set `encryption_key` to the same value on all servers.",
            code="secrets_unreadable",
        ) from error


def secrets_of(control: ControlContext, listener: Listener) -> ListenerSecrets:
    """Return a listener's secrets, without credentials that are lost. Raises Unavailable if they are unreadable."""
    row = (listener.organization, listener.id)
    return _open(control, row, listener.secrets, read=decode_secrets, what="the secrets of the listener")


def opened_content(control: ControlContext, row: RowKey, stored: bytes) -> bytes:
    """Return the content that `sealed_content` encrypted. Raises Unavailable if this process cannot decrypt it."""
    return _open(control, row, stored, read=bytes, what="a second factor")


def source_secrets(control: ControlContext, source: WebhookSource) -> tuple[str, ...]:
    """Return the secrets of a source. Raises Unavailable if this process cannot decrypt them."""
    row = (source.organization, source.id)
    return _open(control, row, source.secrets, read=_read_texts, what="the secrets of the source")


def credentials_of(control: ControlContext, listener: Listener) -> Credentials | None:
    """Return a listener's credentials. Raises Unavailable if this process cannot decrypt them or they are lost."""
    found = secrets_of(control, listener).credentials
    if listener.options.authentication != (None if found is None else found.public):
        detail = "The secret of the listener's authentication is lost. Send the authentication again."
        raise Unavailable(detail, code="secrets_unreadable")
    return found


def _open(control: ControlContext, row: RowKey, stored: bytes, *, read: Callable[[bytes], T], what: str) -> T:
    try:
        return read(control.keyring.open(stored, associated_data(*row)))
    except ValueError as error:
        detail = f"This server cannot decrypt {what}. Set `encryption_key` to the keys of all servers."
        raise Unavailable(detail, code="secrets_unreadable") from error


async def begin(control: ControlContext, key_id: str) -> Encryption:
    """Make the key current: new secrets are encrypted under it. `step` moves the existing ones."""

    async def work(tx: Transaction) -> Encryption:
        state = (await encryption.read(tx)).under(key_id)
        await encryption.write(tx, state)
        return state

    return await control.store.write_exclusively(work)


async def step(
    control: ControlContext, key_id: str, after: RowKey | None, *, replace_lost: bool = False
) -> RotationStep:
    """Move the next rows to the key. With `replace_lost`, listeners with undecryptable secrets get new ones.

    The credentials of these listeners are lost, too: nothing is sent to them until the credentials are sent again.
    Users whose second factor cannot be decrypted lose it, and sign in with the password alone. Sources lose their
    secrets, and refuse all requests until the secrets are sent again.
    """

    async def work(tx: Transaction) -> RotationStep:
        rows = await encryption.rows_after(tx, after, ROWS_A_STEP)
        moved, unreadable, unreadable_users = 0, [], 0
        for row in rows:
            try:
                moved += await _move(tx, control, key_id, row)
            except (UnknownKey, DecryptionFailed):
                unreadable.append(row.key)
                unreadable_users += row.table == "second_factor"
                if replace_lost:
                    await _replace(tx, control, key_id, row)
        return RotationStep(
            rows[-1].key if rows else None, len(rows), moved, tuple(unreadable), unreadable_users=unreadable_users
        )

    # Not exclusive: each row is replaced only if it is unchanged since it was read, so a concurrent change wins.
    done = await control.store.write(work)
    if replace_lost and done.unreadable:
        control.store.engine.notify(Notification(feed=True))
    return done


async def find_left(control: ControlContext, key_id: str, after: RowKey | None) -> RotationStep:
    """Read the next rows without moving them. `unreadable` are the rows under another key."""
    rows = await control.store.read(lambda tx: encryption.rows_after(tx, after, ROWS_A_STEP))
    others = tuple(row.key for row in rows if key_id_in(row.stored) != key_id)
    return RotationStep(rows[-1].key if rows else None, len(rows), 0, others)


async def finish(control: ControlContext, key_id: str) -> bool:
    """Record that all rows are under the key. Returns False if another rotation has started."""

    async def work(tx: Transaction) -> bool:
        state = await encryption.read(tx)
        # The newer rotation still needs the key that this one moved the rows to.
        if state.current != key_id:
            return False
        await encryption.write(tx, Encryption(key_id))
        return True

    return await control.store.write_exclusively(work)


async def _move(tx: Transaction, control: ControlContext, key_id: str, row: SecretsRow) -> bool:
    if key_id_in(row.stored) == key_id:
        return False
    content = control.keyring.open(row.stored, associated_data(*row.key))
    return await encryption.replace(tx, row, _seal(control, key_id, row.key, content))


async def _replace(tx: Transaction, control: ControlContext, key_id: str, row: SecretsRow) -> None:
    if row.table == "second_factor":
        await encryption.delete(tx, row)
        return
    if row.table == "source":
        # Only the provider's secret is of use: the source refuses all requests until it is sent again.
        await encryption.replace(tx, row, _seal(control, key_id, row.key, NO_SECRETS))
        return
    secret = SigningSecret(
        signing.new_secret(control.random_bytes), control.public_ids.next(), "hmac", control.clock.now()
    )
    if await encryption.replace(tx, row, _seal(control, key_id, row.key, encode_secrets(ListenerSecrets((secret,))))):
        await feed.record(tx, "listener", *row.key)


def _seal(control: ControlContext, key_id: str, row: RowKey, content: bytes) -> bytes:
    # The nonce, unlike ids, is made within the transaction: a retried transaction may encrypt another content, and
    # two contents must never share a nonce.
    return control.keyring.seal(key_id, content, associated_data(*row), control.random_bytes(NONCE_BYTES))


async def ensure_encryption(control: ControlContext, log: Log, *, new_key_file: Path | None = None) -> None:
    """Check that the needed keys are available, and encrypt secrets that can be moved without an operator.

    Call this before any listener is read. On a SQLite database, which no other process serves, all secrets are moved
    to the current key. If no key is configured, one is created next to the SQLite file, or in `new_key_file`.
    Raises StoreUnusable if a key is missing that secrets are encrypted with, SettingsInvalid if there is no key and
    the settings do not allow clear text.
    """
    keyring, settings = control.keyring, control.settings
    state = await control.store.read(encryption.read)
    missing = [key for key in state.needed if not keyring.knows(key)]
    if missing:
        raise StoreUnusable(missing_keys(settings, missing))
    path = new_key_file or default_key_file(settings)
    if settings.encryption == "none":
        path = None
    if state.current == CLEAR and not keyring.first and path is not None:
        keyring.knows(key_id_of(create_key_file(path, os.urandom)[0]))
        log.info("encryption_key_created", file=str(path), hint="Keep a copy, apart from the copies of the database.")
    if not keyring.first:
        if settings.encryption != "none":
            raise SettingsInvalid(NO_KEY)
        log.warning("secrets_not_encrypted", hint="Set encryption_key or encryption_key_file.")
    elif await _can_move(control, state):
        await _move_all(control, log, state.current or keyring.first)
    # Without secrets, another worker that has started at the same moment is just making its key the current one.
    elif state.current != keyring.first or (bool(state.leaving) and await control.store.read(encryption.count) > 0):
        log.warning("key_rotation_incomplete", hint="Some secrets use an older key. Run `discue rotate-key`.")


def lacks_key(settings: Settings) -> bool:
    """Return whether a key is needed but not set: clear text is not allowed, and no key file is created."""
    needs_key = settings.encryption != "none" and default_key_file(settings) is None
    return needs_key and not current_keys(settings)


def default_key_file(settings: Settings) -> Path | None:
    """Return the key file next to a SQLite file, which is created if no key is configured. None if one is."""
    return key_file_path(settings) if settings.encryption_key_file is None else None


def missing_keys(settings: Settings, missing: list[str]) -> str:
    """Return the error text for missing keys, with the remedy."""
    place = key_file_path(settings)
    given = "encryption_key" if place is None else str(place)
    keys = f"key {missing[0]}" if len(missing) == 1 else f"keys {', '.join(missing)}"
    return (
        f"Signing secrets in {settings.database_shown} are encrypted with the {keys}, which {given} does not contain. "
        "Restore the file, or set encryption_key or encryption_key_file. If the key is lost, "
        "`discue rotate-key --replace-lost` gives the listeners new secrets."
    )


async def _can_move(control: ControlContext, state: Encryption) -> bool:
    """Return whether no other worker can lack the current key. On PostgreSQL, the operator runs the rotation."""
    if control.settings.database_path is not None:
        return state.current == CLEAR or bool(state.leaving)
    return state.current == CLEAR and not await control.store.read(encryption.count)


async def _move_all(control: ControlContext, log: Log, key_id: str) -> None:
    after, unreadable = None, 0
    # First: secrets that are written during the move are under the key already.
    await begin(control, key_id)
    while (done := await step(control, key_id, after)).after is not None:
        after = done.after
        unreadable += len(done.unreadable)
    if unreadable:
        log.error("secrets_not_decrypted", listeners=unreadable, hint="Run `discue rotate-key` for details.")
    else:
        await finish(control, key_id)
