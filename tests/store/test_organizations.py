import msgspec

from discue.store import organizations
from discue.store.pagination import FIRST_PAGE, Selection
from discue.store.store import Store
from tests.store.rows import an_organization, public_id, stored_organization
from tests.support.clocks import NOON


async def test_inserted_organization_is_read_back_by_id_public_id_and_alias(store: Store) -> None:
    inserted = msgspec.structs.replace(an_organization(1), settings={"rate_limit": 10})
    await store.write(lambda tx: organizations.insert(tx, inserted))
    assert await store.read(lambda tx: organizations.get(tx, inserted.id)) == inserted
    assert await store.read(lambda tx: organizations.by_public_id(tx, inserted.public_id)) == inserted
    assert await store.read(lambda tx: organizations.by_alias(tx, inserted.alias)) == inserted


async def test_a_deleted_organization_is_found_by_nothing(store: Store) -> None:
    gone = await stored_organization(store, 1)
    assert await store.write(lambda tx: organizations.mark_deleted(tx, gone.id, NOON))
    assert await store.read(lambda tx: organizations.get(tx, gone.id)) is None
    assert await store.read(lambda tx: organizations.by_public_id(tx, gone.public_id)) is None
    assert (await store.read(lambda tx: organizations.page(tx, FIRST_PAGE))).items == ()
    assert not await store.write(lambda tx: organizations.update(tx, gone))
    assert not await store.write(lambda tx: organizations.mark_deleted(tx, gone.id, NOON))


async def test_the_operator_is_the_organization_that_says_so(store: Store) -> None:
    assert await store.read(organizations.operator) is None
    await stored_organization(store, 1)
    operator = an_organization(2, is_operator=True)
    await store.write(lambda tx: organizations.insert(tx, operator))
    assert await store.read(organizations.operator) == operator


async def test_a_list_may_be_confined_to_some(store: Store) -> None:
    for number in range(5):
        await stored_organization(store, number)
    only = {public_id(1), public_id(3), public_id(99)}
    page = await store.read(lambda tx: organizations.page(tx, Selection(per_page=1), only))
    assert [item.public_id for item in page.items] == [public_id(3)]
    assert page.has_next
    nothing = await store.read(lambda tx: organizations.page(tx, FIRST_PAGE, frozenset()))
    assert nothing.items == ()
