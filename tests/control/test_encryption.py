"""Signing secrets at rest: encrypted as they are made, moved to another key while others write."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

import msgspec
import pytest

from discue.control import encryption, listeners, queues
from discue.control.context import ControlContext
from discue.control.encryption import RotationStep
from discue.control.listener_fields import ListenerFields
from discue.control.listeners import ListenerDetails
from discue.control.queues import QueueFields
from discue.crypto.keyring import Keyring, key_id_in, key_id_of
from discue.crypto.signing import SigningSecret
from discue.domain.errors import Unavailable
from discue.domain.model import Listener
from discue.observability.logs import Log
from discue.store import encryption as encryption_rows
from discue.store import feed
from discue.store import listeners as listener_rows
from discue.store.encryption import CLEAR, Encryption
from tests.support.cast import Cast

OLD, NEW = b"o" * 32, b"n" * 32
OLD_ID, NEW_ID = key_id_of(OLD), key_id_of(NEW)
URLS = ListenerFields(notify_url="https://example.com/notify", liveness_url="https://example.com/live")


class Warnings(Log):
    """A log that keeps the events of warnings."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []

    def warning(self, event: str, /, **_fields: object) -> None:
        self.events.append(event)


@pytest.fixture(autouse=True)
def _short_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encryption, "ROWS_A_STEP", 2)


def with_keys(control: ControlContext, *keys: bytes) -> ControlContext:
    return replace(control, keyring=Keyring(keys))


async def make(cast: Cast, control: ControlContext, number: int = 1) -> list[ListenerDetails]:
    queue = (await queues.create(control, cast.alice.principal, QueueFields())).queue.public_id
    return [await listeners.create(control, cast.alice.principal, queue, URLS) for _ in range(number)]


async def stored(control: ControlContext, made: ListenerDetails) -> Listener:
    found = await control.store.read(lambda tx: listener_rows.by_id(tx, made.listener.organization, made.listener.id))
    assert found is not None
    return found


async def texts(control: ControlContext, made: Sequence[ListenerDetails]) -> list[list[str]]:
    return [
        [secret.text for secret in encryption.secrets_of(control, await stored(control, each)).signing] for each in made
    ]


async def move_all(control: ControlContext, key_id: str, *, replace_lost: bool = False) -> list[RotationStep]:
    steps: list[RotationStep] = []
    after = None
    for _ in count():
        done = await encryption.step(control, key_id, after, replace_lost=replace_lost)
        if done.after is None:
            return steps
        steps.append(done)
        after = done.after
    raise AssertionError


async def test_secrets_are_stored_unencrypted_without_a_key(cast: Cast, control: ControlContext) -> None:
    (made,) = await make(cast, control)
    kept = await stored(control, made)
    assert made.secret.encode() in kept.secrets
    assert encryption.secrets_of(control, kept).signing[0].text == made.secret


async def test_encrypted_row_contains_no_part_of_the_secret(cast: Cast, control: ControlContext) -> None:
    control = with_keys(control, OLD)
    await encryption.begin(control, OLD_ID)
    (made,) = await make(cast, control)
    kept = await stored(control, made)
    assert (key_id_in(kept.secrets), made.secret.encode() in kept.secrets) == (OLD_ID, False)
    (secret,) = encryption.secrets_of(control, kept).signing
    assert (secret.text, secret.type, secret.expires_at) == (made.secret, "hmac", 0)
    assert (len(secret.id), secret.created_at) == (21, made.listener.created_at)


async def test_ciphertext_copied_to_another_row_cannot_be_decrypted(cast: Cast, control: ControlContext) -> None:
    control = with_keys(control, OLD)
    await encryption.begin(control, OLD_ID)
    one, other = await make(cast, control, 2)
    swapped = msgspec.structs.replace(await stored(control, one), secrets=(await stored(control, other)).secrets)
    with pytest.raises(Unavailable) as raised:
        encryption.secrets_of(control, swapped)
    assert other.secret not in str(raised.value)


async def test_listener_cannot_be_created_without_the_current_key(cast: Cast, control: ControlContext) -> None:
    await encryption.begin(with_keys(control, OLD), OLD_ID)
    with pytest.raises(Unavailable, match="has no encryption key"):
        await make(cast, with_keys(control, NEW))
    assert await control.store.read(encryption_rows.count) == 0


async def test_rotation_moves_all_secrets_in_steps_unchanged(cast: Cast, control: ControlContext) -> None:
    plain = await make(cast, control, 2)
    old = with_keys(control, OLD)
    await encryption.begin(old, OLD_ID)
    under_old = await make(cast, old, 3)
    both = with_keys(control, NEW, OLD)
    assert await encryption.begin(both, NEW_ID) == Encryption(NEW_ID, (OLD_ID, CLEAR))
    made = plain + under_old

    first = await encryption.step(both, NEW_ID, None)
    assert (first.rows, first.moved) == (2, 2)
    meanwhile = await make(cast, both)
    steps = await move_all(both, NEW_ID)
    assert sum(step.moved for step in steps) == 3
    assert sum(step.rows for step in steps) == 6
    assert (await encryption.find_left(both, NEW_ID, None)).unreadable == ()
    assert await encryption.finish(both, NEW_ID)

    assert await control.store.read(encryption_rows.read) == Encryption(NEW_ID)
    assert await texts(with_keys(control, NEW), made + meanwhile) == [[each.secret] for each in made + meanwhile]


async def test_workers_with_both_keys_write_under_the_new_one_during_a_rotation(
    cast: Cast, control: ControlContext
) -> None:
    server = with_keys(control, OLD, NEW)
    await encryption.begin(server, OLD_ID)
    await encryption.begin(with_keys(control, NEW, OLD), NEW_ID)
    (made,) = await make(cast, server)
    assert key_id_in((await stored(control, made)).secrets) == NEW_ID


async def test_rows_under_another_key_are_found(cast: Cast, control: ControlContext) -> None:
    old = with_keys(control, OLD)
    await encryption.begin(old, OLD_ID)
    made = await make(cast, old, 3)
    found = await encryption.find_left(old, NEW_ID, None)
    assert found.unreadable == tuple((each.listener.organization, each.listener.id) for each in made[:2])
    assert (await encryption.find_left(old, NEW_ID, found.after)).rows == 1


async def test_overtaken_rotation_does_not_finish_the_newer_one(control: ControlContext) -> None:
    await encryption.begin(control, OLD_ID)
    await encryption.begin(control, NEW_ID)
    assert not await encryption.finish(control, OLD_ID)
    assert (await control.store.read(encryption_rows.read)).current == NEW_ID


@pytest.mark.parametrize("has_secrets", [False, True])
async def test_start_warns_of_a_rotation_that_goes_on_only_if_there_are_secrets(
    cast: Cast, control: ControlContext, *, has_secrets: bool
) -> None:
    if has_secrets:
        await make(cast, control)
    keyed = with_keys(control, NEW)
    await encryption.begin(keyed, NEW_ID)
    log = Warnings()
    on_postgres = replace(control.settings, database="postgresql://database/discue")
    await encryption.ensure_encryption(replace(keyed, settings=on_postgres), log)
    assert log.events == ["key_rotation_incomplete"] * has_secrets


async def test_lost_secrets_are_kept_unless_replacement_is_requested(cast: Cast, control: ControlContext) -> None:
    old = with_keys(control, OLD)
    await encryption.begin(old, OLD_ID)
    made = await make(cast, old, 3)
    before = [(await stored(control, each)).secrets for each in made]
    new = with_keys(control, NEW)
    await encryption.begin(new, NEW_ID)
    steps = await move_all(new, NEW_ID)
    assert sum(len(step.unreadable) for step in steps) == 3
    assert [(await stored(control, each)).secrets for each in made] == before

    version = await control.store.read(feed.head)
    await move_all(new, NEW_ID, replace_lost=True)
    fresh = await texts(new, made)
    assert all(len(each) == 1 and each[0].startswith("whsec_") for each in fresh)
    assert len({each[0] for each in fresh} | {each.secret for each in made}) == 6
    assert await control.store.read(feed.head) != version


async def test_rotation_does_not_overwrite_a_concurrent_change(cast: Cast, control: ControlContext) -> None:
    (made,) = await make(cast, control)
    place = (made.listener.organization, made.listener.id)
    (row,) = await control.store.read(lambda tx: encryption_rows.rows_after(tx, None, 2))
    later = await control.store.write(
        lambda tx: encryption.sealed(tx, control, place, (SigningSecret("whsec_later"), SigningSecret(made.secret)))
    )
    assert await control.store.write(lambda tx: encryption_rows.replace(tx, row, later))
    assert not await control.store.write(lambda tx: encryption_rows.replace(tx, row, b"\x01"))
    assert await texts(control, [made]) == [["whsec_later", made.secret]]
