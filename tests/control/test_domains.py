"""Domains: their challenges, and how they are verified."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial

import pytest

from discue.control import domains
from discue.control.context import ControlContext
from discue.control.domains import DomainFields
from discue.domain.domain_challenge import CHALLENGE_MS, EXPIRED, MIN_PAUSE_MS, Domain
from discue.domain.errors import NotFound, TooManyRequests, Unprocessable
from discue.store import domains as rows
from discue.store.engine import Row, Transaction
from tests.support.cast import Cast
from tests.support.system_queue import system_events

MINUTE, DAY = 60_000, 86_400_000
PLACE = DomainFields(hostname="shop.example.com")


class Answers:
    """Finds what the test says; `meanwhile` happens while it looks."""

    def __init__(self, error: str = "", meanwhile: Callable[[], Awaitable[object]] | None = None) -> None:
        self.error = error
        self.checked: list[Domain] = []
        self.places: list[int] = []
        self._meanwhile = meanwhile

    async def check(self, domain: Domain) -> str:
        self.checked.append(domain)
        if self._meanwhile is not None:
            await self._meanwhile()
        return self.error

    def slot(self, organization: int) -> AbstractAsyncContextManager[None]:
        self.places.append(organization)
        return nullcontext()


class NoRoom(Answers):
    def slot(self, organization: int) -> AbstractAsyncContextManager[None]:
        raise TooManyRequests(f"Organization {organization} has none.")


async def _stored(control: ControlContext, domain: Domain) -> Domain:
    found = await control.store.read(partial(rows.by_id, organization=domain.organization, domain=domain.id))
    assert found is not None
    return found


async def _rows(control: ControlContext, sql: str) -> list[Row]:
    async def work(tx: Transaction) -> list[Row]:
        return await tx.rows(sql)

    return await control.store.read(work)


async def _events(control: ControlContext) -> list[tuple[str, str]]:
    found = await _rows(control, "SELECT kind, client FROM event WHERE kind LIKE 'domain%' ORDER BY id")
    return [(kind, client) for kind, client in found]


async def _told(control: ControlContext) -> int:
    """How often lanes heard that a domain is another."""
    return len(await _rows(control, "SELECT version FROM feed WHERE kind = 'domain' LIMIT 100"))


async def test_hostname_and_port_cannot_change_but_can_be_sent_again(cast: Cast, control: ControlContext) -> None:
    principal = cast.alice.principal
    made = await domains.create(control, principal, DomainFields(hostname="shop.example.com", port=8_443))
    same = DomainFields("shop", hostname="shop.example.com", port=8_443)
    assert (await domains.change(control, principal, made.public_id, same)).alias == "shop"
    for fields, pointers in (
        (DomainFields(hostname="SHOP.example.com"), ["/hostname"]),
        (DomainFields(port=443), ["/port"]),
        (DomainFields(port=None), ["/port"]),
        (DomainFields("other", hostname="other.example.com", port=80), ["/hostname", "/port"]),
    ):
        with pytest.raises(Unprocessable) as refused:
            await domains.change(control, principal, made.public_id, fields)
        assert [fault.pointer for fault in refused.value.faults] == pointers
    assert (await domains.get(control, principal, made.public_id)).alias == "shop"


async def test_verification_on_demand_returns_the_result(cast: Cast, control: ControlContext) -> None:
    principal = cast.alice.principal
    made = await domains.create(control, principal, PLACE)
    failed = await domains.verify(control, principal, made.public_id, Answers("answered 404"))
    assert (failed.verification.verified, failed.verification.last_error) == (False, "answered 404")
    cast.clock.advance(MIN_PAUSE_MS)
    answers = Answers()
    found = await domains.verify(control, principal, made.public_id, answers)
    assert [each.challenge for each in answers.checked] == [made.challenge]
    assert answers.places == [principal.organization]
    assert (found.verification.verified, found.verification.verified_at) == (True, cast.clock.now())
    assert found.updated_at == cast.clock.now()
    assert await domains.get(control, principal, made.public_id) == found


async def test_domain_is_not_checked_twice_within_a_moment(cast: Cast, control: ControlContext) -> None:
    principal, answers = cast.alice.principal, Answers("no connection")
    made = await domains.create(control, principal, PLACE)
    first = await domains.verify(control, principal, made.public_id, answers)
    assert await domains.verify(control, principal, made.public_id, answers) == first
    assert len(answers.checked) == 1


async def test_concurrent_verifications_make_one_check(cast: Cast, control: ControlContext) -> None:
    principal = cast.alice.principal
    made = await domains.create(control, principal, PLACE)
    idle = Answers()

    async def meanwhile() -> None:
        cast.clock.advance(5_000)
        shown = await domains.verify(control, principal, made.public_id, idle)
        assert not shown.verification.verified

    assert (
        await domains.verify(control, principal, made.public_id, Answers(meanwhile=meanwhile))
    ).verification.verified
    assert not idle.checked


async def test_verification_without_a_free_slot_makes_no_check(cast: Cast, control: ControlContext) -> None:
    made = await domains.create(control, cast.alice.principal, PLACE)
    with pytest.raises(TooManyRequests):
        await domains.verify(control, cast.alice.principal, made.public_id, NoRoom())
    assert await _stored(control, made) == made


async def test_result_of_a_check_is_dropped_if_the_domain_changed(cast: Cast, control: ControlContext) -> None:
    principal = cast.alice.principal
    made = await domains.create(control, principal, PLACE)
    meanwhile = partial(domains.change, control, principal, made.public_id, DomainFields("shop"))
    found = await domains.verify(control, principal, made.public_id, Answers(meanwhile=meanwhile))
    assert (found.alias, found.verification.verified) == ("shop", False)


async def test_domain_deleted_during_a_check_stays_deleted(cast: Cast, control: ControlContext) -> None:
    principal = cast.alice.principal
    made = await domains.create(control, principal, PLACE)
    meanwhile = partial(domains.delete, control, principal, made.public_id)
    with pytest.raises(NotFound):
        await domains.verify(control, principal, made.public_id, Answers(meanwhile=meanwhile))


async def test_expired_challenge_fails_and_is_renewed_by_a_change(cast: Cast, control: ControlContext) -> None:
    principal, answers = cast.alice.principal, Answers()
    made = await domains.create(control, principal, PLACE)
    cast.clock.advance(CHALLENGE_MS)
    expired = await domains.verify(control, principal, made.public_id, answers)
    assert (expired.verification.verified, expired.verification.last_error) == (False, EXPIRED)
    assert not answers.checked
    renewed = await domains.change(control, principal, made.public_id, DomainFields())
    assert renewed.challenge.file_name != made.challenge.file_name
    assert renewed.challenge.file_content != made.challenge.file_content
    assert renewed.challenge.expires_at == cast.clock.now() + CHALLENGE_MS
    assert (renewed.verification.last_error, renewed.verification.due_at) == ("", cast.clock.now() + MINUTE)
    assert (await domains.verify(control, principal, made.public_id, answers)).verification.verified


async def test_change_keeps_an_unexpired_challenge(cast: Cast, control: ControlContext) -> None:
    principal = cast.alice.principal
    made = await domains.create(control, principal, PLACE)
    cast.clock.advance(CHALLENGE_MS - 1)
    changed = await domains.change(control, principal, made.public_id, DomainFields("shop"))
    assert (changed.challenge, changed.verification) == (made.challenge, made.verification)


async def test_due_domain_is_taken_once_and_again_if_no_result_is_stored(cast: Cast, control: ControlContext) -> None:
    made = [await domains.create(control, person.principal, PLACE) for person in (cast.alice, cast.charlie)]
    assert await domains.take_due(control, 10) == []
    cast.clock.advance(MINUTE)
    taken = [each for _ in range(3) for each in await domains.take_due(control, 1)]
    assert sorted(each.public_id for each in taken) == sorted(each.public_id for each in made)
    cast.clock.advance(MINUTE - 1)
    assert await domains.take_due(control, 10) == []
    cast.clock.advance(1)
    assert len(await domains.take_due(control, 10)) == 2


async def test_feed_has_an_entry_only_when_the_verified_state_changes(cast: Cast, control: ControlContext) -> None:
    principal = cast.alice.principal
    made = await domains.create(control, principal, PLACE)
    await domains.verify(control, principal, made.public_id, Answers("no connection"))
    await domains.change(control, principal, made.public_id, DomainFields("shop"))
    assert await _told(control) == 0
    cast.clock.advance(MIN_PAUSE_MS)
    await domains.verify(control, principal, made.public_id, Answers())
    assert await _told(control) == 1
    taken = await _stored(control, made)
    for _ in range(80):
        cast.clock.advance(3_600_000)
        taken = await domains.check_taken(control, taken, Answers("no connection")) or taken
    assert (taken.verification.verified, await _told(control)) == (False, 2)
    await domains.delete(control, principal, made.public_id)
    assert await _told(control) == 2
    # As do the system events.
    verified, lost = await system_events(control.store, principal.organization)
    named = {"domain": {"id": made.public_id, "alias": "shop"}, "hostname": made.hostname, "port": made.port}
    assert verified == {"type": "domain.verified", "at": made.created_at + MIN_PAUSE_MS, **named}
    assert lost == {"type": "domain.lost", "at": lost["at"], "error": "no connection", **named}


async def test_deletion_of_a_verified_domain_is_in_the_feed(cast: Cast, control: ControlContext) -> None:
    made = await domains.create(control, cast.alice.principal, PLACE)
    await domains.verify(control, cast.alice.principal, made.public_id, Answers())
    await domains.delete(control, cast.alice.principal, made.public_id)
    assert await _told(control) == 2


async def test_every_change_of_a_domain_is_an_event(cast: Cast, control: ControlContext) -> None:
    principal = cast.alice.principal
    made = await domains.create(control, principal, PLACE)
    await domains.change(control, principal, made.public_id, DomainFields("shop"))
    await domains.check_taken(control, await _stored(control, made), Answers("no connection"))
    await domains.check_taken(control, await _stored(control, made), Answers())
    await domains.delete(control, principal, made.public_id)
    me = principal.key_public_id
    assert await _events(control) == [
        ("domain_added", me),
        ("domain_updated", me),
        ("domain_updated", ""),
        ("domain_deleted", me),
    ]
