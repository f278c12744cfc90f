import msgspec
import pytest

from discue.domain.api_key import hash_secret
from discue.domain.model import User
from discue.store import users
from discue.store.engine import UniqueViolation
from discue.store.pagination import Selection
from discue.store.store import Store
from tests.store.rows import public_id, row_id
from tests.support.clocks import NOON

OURS, THEIRS = row_id(1), row_id(2)


def a_user(number: int, organization: int = OURS, **fields: object) -> User:
    plain = User(
        organization=organization,
        id=row_id(number),
        public_id=public_id(number),
        email=f"Ada{number}@Example.com",
        display_name="Ada",
        role="viewer",
        created_at=NOON,
        updated_at=NOON,
    )
    return msgspec.structs.replace(plain, **fields)


async def _stored(store: Store, *made: User) -> None:
    for user in made:
        await store.write(lambda tx, user=user: users.insert(tx, user))  # type: ignore[misc]


async def test_a_user_is_read_as_it_was_written(store: Store) -> None:
    user = a_user(10, password_hash="$argon2id$", invitation_hash=hash_secret("t"), invitation_expires_at=NOON + 1)
    await _stored(store, user)
    assert await store.read(lambda tx: users.get(tx, OURS, user.public_id)) == user
    assert await store.read(lambda tx: users.get(tx, THEIRS, user.public_id)) is None
    changed = msgspec.structs.replace(user, role="owner", email="b@c", invitation_hash=None, updated_at=NOON + 5)
    assert await store.write(lambda tx: users.update(tx, changed))
    assert await store.read(lambda tx: users.get(tx, OURS, user.public_id)) == changed
    assert await store.write(lambda tx: users.delete(tx, OURS, user.id))
    assert not await store.write(lambda tx: users.update(tx, changed))


async def test_an_email_is_found_and_unique_however_it_is_spelt(store: Store) -> None:
    user = a_user(10)
    await _stored(store, user, a_user(11, THEIRS, email="ADA10@EXAMPLE.COM"))
    assert await store.read(lambda tx: users.by_email(tx, OURS, "aDA10@example.COM")) == user
    with pytest.raises(UniqueViolation):
        await _stored(store, a_user(12, email="ada10@example.com"))
    page = await store.read(lambda tx: users.page(tx, OURS, Selection(alias="ADA10@example.com")))
    assert page.items == (user,)


async def test_an_invitation_is_found_by_its_hash_alone(store: Store) -> None:
    user = a_user(10, invitation_hash=hash_secret("token"))
    await _stored(store, user, a_user(11))
    assert await store.read(lambda tx: users.invited(tx, hash_secret("token"))) == user
    assert await store.read(lambda tx: users.invited(tx, hash_secret("other"))) is None


async def test_users_of_a_role_are_listed_apart(store: Store) -> None:
    owners = [a_user(number, role="owner") for number in (10, 12)]
    await _stored(store, *owners, a_user(11), a_user(13, THEIRS, role="owner"))
    assert await store.read(lambda tx: users.of_role(tx, OURS, "owner", 0, limit=10)) == owners
    assert await store.read(lambda tx: users.of_role(tx, OURS, "owner", owners[0].id, limit=10)) == owners[1:]
