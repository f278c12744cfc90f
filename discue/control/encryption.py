"""Encrypting signing secrets, and moving all of them to another key while servers run.

Which key encrypts is written in the database, and read in the transaction that writes a secret: once it says another
one, nobody writes under the former.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import msgspec

from discue.control.context import ControlContext
from discue.crypto import signatures
from discue.crypto.endpoint_credentials import Credentials, credentials_in, held_with
from discue.crypto.keyring import NONCE_BYTES, DecryptionFailed, UnknownKey, key_id_in
from discue.crypto.signing_secrets import SigningSecret, decoded, encoded, place_of
from discue.domain.errors import Unavailable
from discue.domain.model import Listener
from discue.store import encryption, feed
from discue.store.encryption import Encryption, RowKey, SecretsRow
from discue.store.engine import Notification, Transaction

T = TypeVar("T")

ROWS_A_STEP: Final = 200


class RotationStep(msgspec.Struct, frozen=True):
    """Some rows were looked at, up to `after`; None when none came. `unreadable` could not be opened."""

    after: RowKey | None
    rows: int
    moved: int
    unreadable: tuple[RowKey, ...] = ()


async def sealed(
    tx: Transaction,
    control: ControlContext,
    row: RowKey,
    secrets: Sequence[SigningSecret],
    credentials: Credentials | None = None,
) -> bytes:
    """A listener's, as they are to be stored by this transaction, which is exclusive. Raises Unavailable."""
    stands = await encryption.read(tx)
    try:
        return _seal(control, stands.current, row, held_with(secrets, credentials))
    except UnknownKey as error:
        raise Unavailable("This server does not know the key that signing secrets are encrypted under.") from error


def opened(control: ControlContext, listener: Listener) -> tuple[SigningSecret, ...]:
    """A stored listener's secrets. Raises Unavailable when this process cannot read them."""
    return _read(control, listener, decoded)


def credentials_of(control: ControlContext, listener: Listener) -> Credentials | None:
    """What a stored listener is shown. Raises Unavailable when this process cannot read it, and when it is lost."""
    found = held_by(control, listener)
    if listener.options.authentication != (None if found is None else found.public):
        raise Unavailable("The secret of the listener's authentication is lost. Give the authentication again.")
    return found


def held_by(control: ControlContext, listener: Listener) -> Credentials | None:
    """The same, also where its secret is lost: None then. Raises Unavailable when this process cannot read it."""
    return _read(control, listener, credentials_in)


def _read(control: ControlContext, listener: Listener, read: Callable[[bytes], T]) -> T:
    try:
        return read(control.keyring.open(listener.secrets, place_of(listener.organization, listener.id)))
    except ValueError as error:
        raise Unavailable("The listener's secrets cannot be read by this server.") from error


async def begin(control: ControlContext, key_id: str) -> Encryption:
    """From now on everything is encrypted under this key. What was before is moved by `step`."""

    async def work(tx: Transaction) -> Encryption:
        stands = (await encryption.read(tx)).under(key_id)
        await encryption.write(tx, stands)
        return stands

    return await control.store.write_exclusively(work)


async def step(
    control: ControlContext, key_id: str, after: RowKey | None, *, replace_lost: bool = False
) -> RotationStep:
    """Move some rows to the key. With `replace_lost` listeners whose secrets cannot be opened get new ones.

    Of these, what such a listener was shown is lost: nothing is sent to it before that was given again.
    """

    async def work(tx: Transaction) -> RotationStep:
        rows = await encryption.rows_after(tx, after, ROWS_A_STEP)
        moved, unreadable = 0, []
        for row in rows:
            try:
                moved += await _move(tx, control, key_id, row)
            except (UnknownKey, DecryptionFailed):
                unreadable.append(row.key)
                if replace_lost:
                    await _replace(tx, control, key_id, row)
        return RotationStep(rows[-1].key if rows else None, len(rows), moved, tuple(unreadable))

    done = await control.store.write(work)
    if replace_lost and done.unreadable:
        control.store.engine.notify(Notification(feed=True))
    return done


async def left(control: ControlContext, key_id: str, after: RowKey | None) -> RotationStep:
    """Look at some rows, and move none: `unreadable` are those under another key."""
    rows = await control.store.read(lambda tx: encryption.rows_after(tx, after, ROWS_A_STEP))
    others = tuple(row.key for row in rows if key_id_in(row.stored) != key_id)
    return RotationStep(rows[-1].key if rows else None, len(rows), 0, others)


async def finish(control: ControlContext, key_id: str) -> bool:
    """Nothing needs another key any more. False when somebody has begun to move everything to another one."""

    async def work(tx: Transaction) -> bool:
        stands = await encryption.read(tx)
        if stands.current != key_id:
            return False
        await encryption.write(tx, Encryption(key_id))
        return True

    return await control.store.write_exclusively(work)


async def _move(tx: Transaction, control: ControlContext, key_id: str, row: SecretsRow) -> bool:
    if key_id_in(row.stored) == key_id:
        return False
    content = control.keyring.open(row.stored, place_of(*row.key))
    return await encryption.replace(tx, row, _seal(control, key_id, row.key, content))


async def _replace(tx: Transaction, control: ControlContext, key_id: str, row: SecretsRow) -> None:
    secret = SigningSecret(
        signatures.new_secret(control.random_bytes), control.public_ids.next(), "hmac", control.clock.now()
    )
    if await encryption.replace(tx, row, _seal(control, key_id, row.key, encoded((secret,)))):
        await feed.record(tx, "listener", *row.key)


def _seal(control: ControlContext, key_id: str, row: RowKey, content: bytes) -> bytes:
    # Not made before the transaction, as ids are: one that is tried again may write something else, and no two
    # things are ever sealed with one nonce.
    return control.keyring.seal(key_id, content, place_of(*row), control.random_bytes(NONCE_BYTES))
