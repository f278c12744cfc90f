import msgspec

from discue.domain.model import User
from discue.store import users
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


async def test_a_user_is_found_in_its_own_organization_alone(store: Store) -> None:
    user = a_user(10)
    await _stored(store, user)
    assert await store.read(lambda tx: users.get(tx, OURS, user.public_id)) == user
    assert await store.read(lambda tx: users.get(tx, THEIRS, user.public_id)) is None


async def test_users_of_a_role_are_listed_apart(store: Store) -> None:
    owners = [a_user(number, role="owner") for number in (10, 12)]
    await _stored(store, *owners, a_user(11), a_user(13, THEIRS, role="owner"))
    assert await store.read(lambda tx: users.of_role(tx, OURS, "owner", 0, limit=10)) == owners
    assert await store.read(lambda tx: users.of_role(tx, OURS, "owner", owners[0].id, limit=10)) == owners[1:]
