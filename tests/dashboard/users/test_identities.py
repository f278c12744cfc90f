"""Users of identity providers: the account, and never its email, decides who somebody is."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from discue.control import organizations, usage
from discue.control.usage import EventSelection
from discue.dashboard.users import identities, identity_table, sessions, sign_in, users
from discue.dashboard.users.identities import ProviderResponse
from discue.dashboard.users.provider import KEPT_BYTES, Provider, ProviderSettings, SignInRefused
from discue.dashboard.users.session_table import FoundSession
from discue.dashboard.users.sign_in import Browser, NewSession
from discue.dashboard.users.users import UserFields
from discue.domain.egress import EgressPolicy
from discue.domain.errors import Locked, LockedOut
from discue.sending.fetch import Fetcher
from tests.dashboard.users.signing_in import ADA, PASSWORD, Door, a_user
from tests.support.cast import Cast
from tests.support.identity_provider import CLIENT_ID, CLIENT_SECRET, IdentityProvider

BACK = "https://discue.example.com/dashboard/sign-in/company/callback"


class Company:
    """An identity provider of alice's organization, and the worker at which its users sign in."""

    def __init__(self, cast: Cast, theirs: IdentityProvider, **changes: Any) -> None:
        fields = {"organization": "com.example.alice", "roles": {"staff": "developer", "admins": "admin"}, **changes}
        settings = ProviderSettings("company", theirs.issuer, CLIENT_ID, CLIENT_SECRET, **fields)
        fetcher = Fetcher(policy=EgressPolicy(allow_private=True), kept_bytes=KEPT_BYTES)
        self._provider = Provider(settings, fetcher, cast.clock, cast.control.random_text)
        self._theirs = theirs
        self.door = Door(cast.control)

    async def response(self, subject: str = "ada", *, permit: str = "") -> ProviderResponse:
        """Return the response with which a browser comes back after a sign-in at the provider."""
        begun = await self._provider.begin(BACK, permit=permit)
        return ProviderResponse(self._provider, begun.pending, self._theirs.authorize(begun.url, subject), BACK)

    async def sign_in(self, subject: str = "ada") -> NewSession:
        return await self.enter(await self.response(subject))

    async def enter(self, response: ProviderResponse, token: str = "") -> NewSession:
        browser = Browser("192.0.2.1", "a browser", token)
        return await identities.sign_in(self.door.control, self.door.authenticator, response, browser)

    async def see(self, opened: NewSession) -> FoundSession:
        details = await self.door.see(opened)
        assert details is not None
        return details


@pytest.fixture
def theirs(cast: Cast, runner: asyncio.Runner) -> Iterator[IdentityProvider]:
    provider = IdentityProvider(cast.clock)
    runner.run(provider.__aenter__())
    yield provider
    runner.run(provider.__aexit__(None, None, None))


@pytest.fixture
def company(cast: Cast, theirs: IdentityProvider) -> Company:
    return Company(cast, theirs)


async def test_sign_in_is_as_old_as_that_at_the_provider(
    cast: Cast, company: Company, theirs: IdentityProvider
) -> None:
    now = cast.clock.now()
    for signed_in_at, is_old in (None, False), (now // 1_000 - 900, True), (now // 1_000 + 900, False):
        theirs.claims = {"auth_time": signed_in_at}
        session = (await company.see(await company.sign_in())).session
        assert session.needs_confirmation(now) is is_old
        assert (session.created_at <= now, session.last_seen_at) == (True, now)


async def test_first_sign_in_adds_a_user_with_the_role_of_the_groups(cast: Cast, company: Company) -> None:
    details = await company.see(await company.sign_in())
    user = details.user
    assert user is not None
    assert (user.email, user.display_name, user.role, user.state) == (ADA, "Ada Lovelace", "developer", "active")
    assert details.organization.alias == "com.example.alice"
    assert (details.session.method, details.session.provider) == ("oidc", "company")
    again = await company.see(await company.sign_in())
    assert again.user == user
    assert (await company.see(await company.sign_in("bea"))).user != user


async def test_user_stays_the_same_when_the_email_changes(company: Company, theirs: IdentityProvider) -> None:
    first = await company.see(await company.sign_in())
    theirs.claims = {"email": "lovelace@example.com"}
    assert (await company.see(await company.sign_in())).user == first.user


async def test_email_of_another_user_does_not_make_an_account_theirs(
    cast: Cast, company: Company, theirs: IdentityProvider
) -> None:
    owner = await a_user(cast, "owner@example.com", "owner")
    theirs.claims = {"email": "OWNER@example.com"}
    with pytest.raises(SignInRefused, match="has this email already"):
        await company.sign_in("mallory")
    assert (await users.get(cast.control, cast.alice.principal, owner.public_id)) == owner


async def test_new_user_needs_a_verified_email(company: Company, theirs: IdentityProvider) -> None:
    theirs.claims = {"email_verified": False}
    with pytest.raises(SignInRefused, match="verified"):
        await company.sign_in()


async def test_role_follows_the_groups_at_each_sign_in(cast: Cast, company: Company, theirs: IdentityProvider) -> None:
    first = await company.sign_in()
    theirs.claims = {"groups": ["staff", "admins"]}
    await company.sign_in()
    assert (await company.see(first)).role == "admin"
    theirs.claims = {"groups": []}
    with pytest.raises(SignInRefused, match="None of your groups"):
        await company.sign_in()


async def test_user_is_the_author_of_the_role_that_comes_with_the_groups(
    cast: Cast, company: Company, theirs: IdentityProvider
) -> None:
    user = (await company.see(await company.sign_in())).user
    assert user is not None
    theirs.claims = {"groups": ["staff", "admins"]}
    await company.sign_in()
    recorded = (await usage.page_of_events(cast.control, cast.alice.principal, EventSelection())).events
    kinds = ("user_updated", "user_added")
    assert [(event.type, event.ref, event.user) for event in recorded if event.type in kinds] == [
        (kind, user.public_id, user.public_id) for kind in kinds
    ]


async def test_last_owner_stays_one_whatever_the_groups_say(cast: Cast, theirs: IdentityProvider) -> None:
    company = Company(cast, theirs, roles={"staff": "viewer", "admins": "owner"})
    theirs.claims = {"groups": ["admins"]}
    assert (await company.see(await company.sign_in())).role == "owner"
    theirs.claims = {}
    assert (await company.see(await company.sign_in())).role == "owner"
    await a_user(cast, "owner@example.com", "owner")
    assert (await company.see(await company.sign_in())).role == "viewer"


async def test_disabled_user_and_suspended_organization_get_no_session(cast: Cast, company: Company) -> None:
    user = (await company.see(await company.sign_in())).user
    assert user is not None
    await users.change(cast.control, cast.alice.principal, user.public_id, UserFields(status="disabled"))
    with pytest.raises(SignInRefused, match="disabled"):
        await company.sign_in()
    await users.change(cast.control, cast.alice.principal, user.public_id, UserFields(status="enabled"))
    await organizations.set_state(cast.control, "com.example.alice", "suspended")
    with pytest.raises(Locked):
        await company.sign_in()


async def test_provider_of_an_organization_that_does_not_exist_refuses(cast: Cast, theirs: IdentityProvider) -> None:
    with pytest.raises(SignInRefused, match="does not exist"):
        await Company(cast, theirs, organization="com.example.nobody").sign_in()


async def test_provider_without_an_organization_is_the_operators(cast: Cast, theirs: IdentityProvider) -> None:
    company = Company(cast, theirs, organization="")
    assert sessions.principal_of(await company.see(await company.sign_in())).is_operator


async def test_sign_in_ends_the_session_that_the_browser_brings(cast: Cast, company: Company) -> None:
    planted = await company.sign_in()
    await company.enter(await company.response(), planted.token)
    assert await company.door.see(planted) is None


async def test_signed_in_user_connects_an_account(cast: Cast, company: Company) -> None:
    user = await a_user(cast)
    principal = await company.door.principal(await company.door.sign_in())
    with pytest.raises(SignInRefused, match="has this email already"):
        await company.sign_in()
    permit = await identities.permit_connection(cast.control, user)
    await identities.connect(cast.control, principal, await company.response(permit=permit))
    details = await company.see(await company.sign_in())
    assert details.user is not None
    assert details.user.public_id == user.public_id
    again = await identities.permit_connection(cast.control, user)
    with pytest.raises(SignInRefused, match="connected already"):
        await identities.connect(cast.control, principal, await company.response(permit=again))
    rows = await cast.control.store.read(lambda tx: identity_table.of_user(tx, user.organization, user.id))
    assert [row.subject for row in rows] == ["ada"]


async def test_user_of_another_organization_connects_no_account(cast: Cast, company: Company) -> None:
    user = await a_user(cast, owner=cast.charlie.principal)
    principal = await company.door.principal(await company.door.sign_in(organization="com.example.charlie"))
    permit = await identities.permit_connection(cast.control, user)
    with pytest.raises(SignInRefused, match="another organization"):
        await identities.connect(cast.control, principal, await company.response(permit=permit))


async def test_account_is_connected_with_a_permit_of_the_same_user_once_and_soon(cast: Cast, company: Company) -> None:
    ada, bea = await a_user(cast), await a_user(cast, "bea@example.com")
    principal = await company.door.principal(await company.door.sign_in())
    replaced, used, theirs = [await identities.permit_connection(cast.control, user) for user in (ada, ada, bea)]
    await identities.connect(cast.control, principal, await company.response(permit=used))
    late = await identities.permit_connection(cast.control, ada)
    cast.clock.advance(600_000)
    for permit in (replaced, used, theirs, late, "", "guessed"):
        with pytest.raises(SignInRefused, match="Start again"):
            await identities.connect(cast.control, principal, await company.response("other", permit=permit))


async def test_permit_opens_no_session(cast: Cast, company: Company) -> None:
    permit = await identities.permit_connection(cast.control, await a_user(cast))
    browser = Browser("192.0.2.1")
    assert await sign_in.redeem(cast.control, permit, browser) is None


async def test_provider_that_hangs_keeps_nobody_at_the_address_from_signing_in(
    cast: Cast, company: Company, theirs: IdentityProvider
) -> None:
    await a_user(cast, "grace@example.com")
    responses = [await company.response() for _ in range(4)]
    before = len(theirs.requests)
    theirs.may_respond.clear()
    hanging = [asyncio.ensure_future(company.enter(each)) for each in responses]
    await theirs.requested(before + len(hanging))
    assert await company.door.try_in("grace@example.com", PASSWORD) is not None
    assert not any(each.done() for each in hanging)
    theirs.may_respond.set()
    assert len(await asyncio.gather(*hanging)) == 4


async def test_refused_responses_lock_out_the_address(cast: Cast, company: Company, theirs: IdentityProvider) -> None:
    await a_user(cast)
    good = await company.response()
    for _ in range(25):
        with pytest.raises(SignInRefused):
            await company.enter(ProviderResponse(good.provider, good.pending, {"state": "guessed"}, BACK))
    before = len(theirs.requests)
    with pytest.raises(LockedOut):
        await company.enter(good)
    assert len(theirs.requests) == before
    with pytest.raises(LockedOut):
        await company.door.try_in(ADA, PASSWORD)


async def test_deleted_user_leaves_no_account_and_comes_back_as_a_new_one(cast: Cast, company: Company) -> None:
    opened = await company.sign_in()
    first = (await company.see(opened)).user
    assert first is not None
    await users.delete(cast.control, cast.alice.principal, first.public_id)
    assert await sessions.session_of(cast.control, opened.token) is None
    second = (await company.see(await company.sign_in())).user
    assert second is not None
    assert second.public_id != first.public_id
