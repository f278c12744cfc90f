"""Domains are verified over real connections, by one worker at a time; and lanes wait for that."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_address

import pytest

from discue.control import domains, organizations
from discue.control.domains import DomainFields
from discue.control.organizations import OrganizationFields
from discue.dispatch.jobs.domain_checks import DomainVerifier
from discue.dispatch.lease import Leadership
from discue.domain.domain_challenge import Domain
from discue.domain.egress import EgressPolicy, IPAddress
from discue.domain.errors import StoreUnavailable, TooManyRequests
from discue.domain.model import Listener, Organization, Queue
from discue.domain.scopes import Principal, all_scopes
from discue.sending.fetch import Fetcher
from discue.store import domains as rows
from tests.dispatch.stage import Stage, badly, well
from tests.support.authority import server_context, trusting_context
from tests.support.cast import control_of
from tests.support.databases import on_sqlite_only
from tests.support.scripted_server import CLOSE, HANG, READ_HEAD, ScriptedServer

pytestmark = on_sqlite_only

HOST = "shop.example.com"
MINUTE = 60_000
ANYWHERE = EgressPolicy(allow_private=True)


async def _loopback(_host: str, _port: int) -> Sequence[IPAddress]:
    return [ip_address("127.0.0.1")]


def _principal(organization: Organization) -> Principal:
    return Principal(organization.id, organization.public_id, 1, "k" * 21, all_scopes(), is_operator=False)


class Site:
    """A control plane on a stage, and verifiers that find every host on loopback."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.control = control_of(stage.store, stage.clock)
        self.control.cache.follow(self._changed)
        self._heard: list[tuple[str, int, int]] = []
        self.leadership = Leadership(is_held=True)

    def _changed(self, kind: str, organization: int, ref: int) -> None:
        self._heard.append((kind, organization, ref))

    def verifier(self) -> DomainVerifier:
        fetcher = Fetcher(policy=ANYWHERE, resolve=_loopback, ssl_context=trusting_context())
        return DomainVerifier(self.control, fetcher, self.leadership)

    async def follow(self) -> None:
        """Every worker hears what changed."""
        await self.control.cache.catch_up()
        heard, self._heard = self._heard, []
        for kind, organization, ref in heard:
            await self.stage.follow(kind, organization, ref)

    async def stored(self, domain: Domain) -> Domain:
        found = await self.stage.store.read(partial(rows.by_id, organization=domain.organization, domain=domain.id))
        assert found is not None
        return found


@pytest.fixture
def site(stage: Stage) -> Site:
    return Site(stage)


async def _domain(site: Site, organization: Organization, port: int = 443) -> Domain:
    return await domains.create(site.control, _principal(organization), DomainFields(hostname=HOST, port=port))


def _answer(body: bytes, status: bytes = b"200 OK") -> Sequence[bytes | str]:
    return READ_HEAD, b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body), CLOSE


def _server() -> ScriptedServer:
    return ScriptedServer([(HANG,)], server_context(HOST))


async def _domain_at(site: Site, organization: Organization, server: ScriptedServer) -> Domain:
    """A domain on a server that has the right file."""
    made = await _domain(site, organization, server.port)
    server.scripts = [_answer(made.challenge.file_content.encode())]
    return made


async def test_a_domain_that_is_due_is_verified(site: Site, stage: Stage) -> None:
    async with _server() as server:
        made = await _domain_at(site, await stage.organization(), server)
        await site.verifier().round()
        assert server.connections == 0
        stage.clock.advance(MINUTE)
        await site.verifier().round()
        found = await site.stored(made)
        assert found.verification.verified
        assert found.verification.due_at is not None
        await site.verifier().round()
        assert server.connections == 1


async def test_wrong_response_fails_the_check(site: Site, stage: Stage) -> None:
    async with _server() as server:
        made = await _domain_at(site, await stage.organization(), server)
        server.scripts = [_answer(made.challenge.file_content.encode(), b"302 Found")]
        stage.clock.advance(MINUTE)
        await site.verifier().round()
        found = (await site.stored(made)).verification
        assert (found.verified, found.last_error, found.failures) == (False, "answered 302", 1)


async def test_only_the_leader_does_rounds(site: Site, stage: Stage) -> None:
    site.leadership.is_held = False
    async with _server() as server:
        await _domain_at(site, await stage.organization(), server)
        stage.clock.advance(MINUTE)
        await site.verifier().round()
        assert server.connections == 0


class Counting(DomainVerifier):
    """A verifier that counts its checks, which find something wrong without a connection."""

    def __init__(self, site: Site) -> None:
        super().__init__(site.control, Fetcher(policy=ANYWHERE, resolve=_loopback), site.leadership)
        self.checks: Counter[int] = Counter()

    async def check(self, domain: Domain) -> str:
        self.checks[domain.id] += 1
        await asyncio.sleep(0)
        return "answered 404"


async def test_two_leaders_check_each_domain_once(site: Site, stage: Stage) -> None:
    organization = await stage.organization()
    made = [await _domain(site, organization, port) for port in range(2_000, 2_100)]
    stage.clock.advance(MINUTE)
    one, other = Counting(site), Counting(site)
    await asyncio.gather(one.round(), other.round())
    assert one.checks + other.checks == Counter(each.id for each in made)
    assert {(await site.stored(each)).verification.failures for each in made} == {1}


class FailingOnce(DomainVerifier):
    """A verifier whose first check fails: the store is not available."""

    fails = True

    async def check(self, domain: Domain) -> str:
        if self.fails:
            self.fails = False
            raise StoreUnavailable
        return await super().check(domain)


async def test_internal_error_of_a_check_does_not_affect_others(site: Site, stage: Stage) -> None:
    async with _server() as server:
        organization = await stage.organization()
        made = [await _domain(site, organization, server.port) for _ in range(3)]
        server.scripts = [_answer(b"something else")]
        stage.clock.advance(MINUTE)
        fetcher = Fetcher(policy=ANYWHERE, resolve=_loopback, ssl_context=trusting_context())
        verifier = FailingOnce(site.control, fetcher, site.leadership)
        with pytest.raises(StoreUnavailable):
            await verifier.round()
        assert sorted([(await site.stored(each)).verification.failures for each in made]) == [0, 1, 1]
        stage.clock.advance(MINUTE)
        await verifier.round()
        assert {(await site.stored(each)).verification.failures for each in made} == {1}


async def test_an_organization_has_five_domains_checked_on_demand_at_once(site: Site) -> None:
    verifier = site.verifier()
    async with verifier.slot(1), verifier.slot(1), verifier.slot(1), verifier.slot(1):
        async with verifier.slot(1), verifier.slot(2):
            with pytest.raises(TooManyRequests) as refused:
                async with verifier.slot(1):
                    pass
            assert refused.value.retry_after_seconds
        async with verifier.slot(1):
            pass


class Shop:
    """An organization that wants verified domains, with a listener on one that is not verified yet."""

    def __init__(
        self, site: Site, organization: Organization, queue: Queue, domain: Domain, server: ScriptedServer
    ) -> None:
        self.site = site
        self.organization = organization
        self.queue = queue
        self.domain = domain
        self.server = server

    async def listener(self) -> Listener:
        stage = self.site.stage
        made = await stage.listener(self.queue)
        return await stage.configure(made, notify_url=f"https://{HOST.upper()}:{self.domain.port}/hook")

    async def require(self, *, required: bool) -> None:
        fields = OrganizationFields(require_verified_domains=required)
        principal = _principal(self.organization)
        await organizations.change(self.site.control, principal, self.organization.public_id, fields)
        await self.site.follow()

    async def verify(self, verifier: DomainVerifier) -> Domain:
        found = await domains.verify(self.site.control, _principal(self.organization), self.domain.public_id, verifier)
        await self.site.follow()
        return found

    async def delete_domain(self) -> None:
        await domains.delete(self.site.control, _principal(self.organization), self.domain.public_id)
        await self.site.follow()


@asynccontextmanager
async def _shop(site: Site) -> AsyncIterator[Shop]:
    """Yield a shop whose domain is on a server that has the right file, with a worker that runs."""
    stage = site.stage
    async with _server() as server:
        await site.control.cache.open()
        organization = await stage.organization()
        domain = await _domain_at(site, organization, server)
        shop = Shop(site, organization, await stage.queue(organization), domain=domain, server=server)
        await shop.require(required=True)
        await stage.start()
        yield shop


async def test_messages_wait_until_the_domain_is_verified(site: Site, stage: Stage) -> None:
    async with _shop(site) as shop:
        listener = await shop.listener()
        ids = await stage.publish(shop.queue, 3)
        await stage.advance(3_600_000)
        assert stage.courier.sent == []
        await stage.assert_counts(listener, pending=3, missed=0)
        await shop.verify(site.verifier())
        assert stage.courier.ids() == ids
        assert {sent.number for sent in stage.courier.sent} == {1}


async def test_a_listener_is_not_probed_before_the_domain_of_its_liveness_url_is_verified(
    site: Site, stage: Stage
) -> None:
    async with _shop(site) as shop:
        listener = await shop.listener()
        url = f"https://{HOST}:{shop.domain.port}/live"
        await stage.configure(listener, liveness_url=url)
        await stage.advance(3_600_000)
        assert stage.scout.asked == []
        await shop.verify(site.verifier())
        await stage.probe()
        assert stage.scout.asked == [url]


async def test_a_worker_that_starts_with_an_unverified_domain_waits_too(site: Site, stage: Stage) -> None:
    async with _shop(site) as shop:
        await shop.listener()
        await stage.publish(shop.queue)
        await stage.start()
        assert len(stage.dispatcher.lanes) == 1
        assert stage.courier.sent == []
        await shop.verify(site.verifier())
        assert len(stage.courier.sent) == 1


async def test_deleted_domain_holds_back_new_messages_and_retries(site: Site, stage: Stage) -> None:
    async with _shop(site) as shop:
        listener = await shop.listener()
        await shop.verify(site.verifier())
        await stage.publish(shop.queue)
        await stage.end(stage.courier.in_flight[0], badly())
        await shop.delete_domain()
        await stage.publish(shop.queue)
        await stage.advance(MINUTE)
        assert len(stage.courier.sent) == 1
        assert await stage.delivery_rows(listener) == [(1, "retry", 1)]
        await shop.require(required=False)
        assert sorted(sent.number for sent in stage.courier.in_flight) == [1, 2]


async def test_requests_in_flight_end_normally_when_verification_becomes_required(site: Site, stage: Stage) -> None:
    async with _shop(site) as shop:
        await shop.require(required=False)
        listener = await shop.listener()
        await stage.publish(shop.queue)
        await shop.require(required=True)
        await stage.publish(shop.queue)
        await stage.end(stage.courier.in_flight[0], well())
        assert len(stage.courier.sent) == 1
        assert (await stage.counts(listener)).acknowledged == 1
