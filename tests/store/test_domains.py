from functools import partial

import msgspec

from discue.domain.domain_challenge import Challenge, Domain, Verification
from discue.domain.model import Listener
from discue.store import domains, listeners, organizations
from discue.store.cursors import LaneRecord, lanes_after, lanes_of
from discue.store.domains import REQUIRE_VERIFIED_DOMAINS
from discue.store.engine import Transaction
from discue.store.store import Store
from tests.store.rows import a_domain, row_id, stored_listener, stored_organization, stored_queue, take_all
from tests.support.clocks import NOON

OURS, THEIRS = row_id(1), row_id(2)
OWNER = 4_711


async def stored(store: Store, domain: Domain) -> Domain:
    await store.write(partial(domains.insert, made=domain))
    return domain


async def test_a_domain_is_read_as_it_was_stored(store: Store) -> None:
    known = Verification(True, NOON + 1, 2, NOON + 3, "answered 404", NOON + 4, NOON + 5, NOON + 6)
    for made in (a_domain(10), a_domain(11, verification=known), a_domain(12, verification=Verification())):
        await stored(store, made)
        assert await store.read(partial(domains.get, organization=OURS, public_id=made.public_id)) == made
        assert await store.read(partial(domains.by_id, organization=OURS, domain=made.id)) == made


async def test_change_of_a_domain_keeps_its_host(store: Store) -> None:
    made = await stored(store, a_domain(10))
    changed = msgspec.structs.replace(
        made,
        alias="renamed",
        challenge=Challenge("elsewhere", "other", "text", NOON + 1, NOON + 2),
        verification=Verification(True, NOON + 1, due_at=NOON + 9),
        config_version=2,
        updated_at=NOON + 7,
    )
    moved = msgspec.structs.replace(changed, hostname="other.example", host_key="other.example", port=80)
    assert await store.write(lambda tx: domains.update(tx, moved))
    assert await store.read(lambda tx: domains.by_id(tx, OURS, made.id)) == changed


async def test_host_is_verified_if_any_of_its_domains_is(store: Store) -> None:
    async def standing(host_key: str, port: int) -> tuple[bool, bool]:
        async def work(tx: Transaction) -> tuple[bool, bool]:
            return (
                await domains.is_registered(tx, OURS, host_key, port),
                await domains.is_verified(tx, OURS, host_key, port),
            )

        return await store.read(work)

    assert await standing("example.com", 443) == (False, False)
    await stored(store, a_domain(10))
    await stored(store, a_domain(20, organization=THEIRS, verification=Verification(True, NOON)))
    assert await standing("example.com", 443) == (True, False)
    await stored(store, a_domain(11, verification=Verification(True, NOON)))
    await stored(store, a_domain(12))
    assert await standing("example.com", 443) == (True, True)
    assert await standing("example.com", 8_443) == await standing("www.example.com", 443) == (False, False)


async def test_due_domains_of_all_organizations_come_in_order(store: Store) -> None:
    waits = (NOON + 5, NOON, None, NOON + 9, NOON - 5)
    made = [
        await stored(
            store,
            a_domain(10 + index, organization=OURS if index % 2 else THEIRS, verification=Verification(due_at=due_at)),
        )
        for index, due_at in enumerate(waits)
    ]
    assert await store.read(lambda tx: domains.due(tx, NOON + 5, 10)) == [made[4], made[1], made[0]]
    assert await store.read(lambda tx: domains.due(tx, NOON + 5, 2)) == [made[4], made[1]]


async def _require(store: Store, organization: int, *, required: bool) -> None:
    found = await store.read(lambda tx: organizations.get(tx, organization))
    assert found is not None
    changed = msgspec.structs.replace(found, settings={"rate_limit": 5, REQUIRE_VERIFIED_DOMAINS: required})
    await store.write(lambda tx: organizations.update(tx, changed))


async def _listener(store: Store, number: int) -> Listener:
    organization = await stored_organization(store, number)
    return await stored_listener(store, await stored_queue(store, organization.id, number + 1), number + 2)


async def _lanes(store: Store, listener: Listener) -> list[LaneRecord]:
    one = await store.read(lambda tx: lanes_of(tx, OWNER, listener.organization, listener.id))
    every = await store.read(lambda tx: lanes_after(tx, OWNER, (0, 0, 0), 10))
    assert one == [each for each in every if each.listener == listener.id]
    return one


async def test_lane_sends_only_to_verified_domains_if_its_organization_requires_it(store: Store) -> None:
    mine, other = await _listener(store, 1), await _listener(store, 5)
    queue = await stored_queue(store, OURS, 8)
    elsewhere = await stored_listener(store, queue, 9)
    moved = msgspec.structs.replace(elsewhere, notify_url="https://EXAMPLE.com:8443/hook")
    broken = msgspec.structs.replace(await stored_listener(store, queue, 10), notify_url="nonsense")
    for each in (moved, broken):
        await store.write(partial(listeners.update, listener=each))
    await store.write(lambda tx: take_all(tx, OWNER))

    async def may_send() -> list[bool]:
        lanes = [await _lanes(store, each) for each in (other, mine, moved, broken)]
        return [lane.may_send for [lane] in lanes]

    assert await may_send() == [True, True, True, True]
    await _require(store, OURS, required=True)
    domain = await stored(store, a_domain(20))
    assert await may_send() == [True, False, False, False]
    verified = msgspec.structs.replace(domain, verification=Verification(True, NOON))
    await store.write(lambda tx: domains.update(tx, verified))
    assert await may_send() == [True, True, False, False]
    await stored(store, a_domain(21, port=8_443, verification=Verification(True, NOON)))
    assert await may_send() == [True, True, True, False]
    await _require(store, OURS, required=False)
    assert await may_send() == [True, True, True, True]
