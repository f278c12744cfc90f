"""Identity providers: only their own answer to this browser's sign-in tells who a user is."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from discue.dashboard.users.provider import (
    KEPT_BYTES,
    ExternalIdentity,
    Provider,
    ProviderFailed,
    ProviderSettings,
    SignInRefused,
    read_providers,
)
from discue.domain.egress import EgressPolicy
from discue.domain.errors import SettingsInvalid
from discue.domain.ids import RandomText
from discue.sending.fetch import Fetcher
from tests.support.clocks import StandingClock
from tests.support.id_tokens import jwk_of, key_set, rsa_key
from tests.support.identity_provider import CLIENT_ID, CLIENT_SECRET, IdentityProvider

BACK = "https://discue.example.com/dashboard/sign-in/company/callback"


def settings_for(issuer: str, **changes: Any) -> ProviderSettings:
    plain = ProviderSettings("company", issuer, CLIENT_ID, CLIENT_SECRET, roles={"staff": "developer"})
    return replace(plain, **changes)


class Client:
    """This service, at one provider."""

    def __init__(self, clock: StandingClock, theirs: IdentityProvider, **changes: Any) -> None:
        policy = EgressPolicy(allow_private=changes.pop("allows_loopback", True))
        fetcher = Fetcher(policy=policy, kept_bytes=KEPT_BYTES)
        settings = settings_for(theirs.issuer, **changes)
        self.provider = Provider(settings, fetcher, clock, RandomText(os.urandom))
        self.theirs = theirs

    async def sign_in(self) -> ExternalIdentity:
        begun = await self.provider.begin(BACK)
        return await self.provider.finish(begun.pending, self.theirs.authorize(begun.url), BACK)


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock()


@pytest.fixture
def theirs(runner: asyncio.Runner, clock: StandingClock) -> Iterator[IdentityProvider]:
    provider = IdentityProvider(clock)
    runner.run(provider.__aenter__())
    yield provider
    runner.run(provider.__aexit__(None, None, None))


@pytest.fixture
def client(clock: StandingClock, theirs: IdentityProvider) -> Client:
    return Client(clock, theirs)


async def test_user_is_known_by_the_claims_of_the_token(client: Client, theirs: IdentityProvider) -> None:
    found = await client.sign_in()
    assert found == ExternalIdentity(theirs.issuer, "ada", "ada@example.com", "Ada Lovelace", ["staff"])


async def test_discovery_and_keys_are_read_once_an_hour(
    client: Client, theirs: IdentityProvider, clock: StandingClock
) -> None:
    await asyncio.gather(client.sign_in(), client.sign_in())
    assert sorted(theirs.requests) == ["/.well-known/openid-configuration", "/keys", "/token", "/token"]
    clock.advance(3_600_000)
    await client.sign_in()
    assert theirs.requests.count("/.well-known/openid-configuration") == 2


async def test_secret_is_sent_in_the_form_if_the_provider_takes_it_only_there(
    client: Client, theirs: IdentityProvider
) -> None:
    theirs.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_post"]
    assert (await client.sign_in()).subject == "ada"


async def test_new_key_of_the_provider_is_found_but_not_at_once_again(
    client: Client, theirs: IdentityProvider, clock: StandingClock
) -> None:
    await client.sign_in()
    theirs.key, theirs.header = rsa_key(1), {"alg": "RS256", "kid": "two"}
    theirs.keys = key_set(jwk_of(rsa_key(1), "two"))
    with pytest.raises(SignInRefused, match="no key"):
        await client.sign_in()
    clock.advance(10_000)
    assert (await client.sign_in()).subject == "ada"


@pytest.mark.parametrize(
    "claims",
    [{"iss": "https://evil.example.com"}, {"aud": "other"}, {"nonce": "replayed"}, {"exp": 1}, {"sub": None}],
    ids=str,
)
async def test_token_that_is_not_for_this_sign_in_is_refused(
    client: Client, theirs: IdentityProvider, claims: dict[str, Any]
) -> None:
    theirs.claims = claims
    with pytest.raises(SignInRefused):
        await client.sign_in()


@pytest.mark.parametrize("signed_in_at", [None, True, "now", 0, "too long ago"])
async def test_repeated_sign_in_needs_a_user_who_has_just_signed_in_at_the_provider(
    client: Client, theirs: IdentityProvider, clock: StandingClock, signed_in_at: object
) -> None:
    begun = await client.provider.begin(BACK, again=True)
    assert "prompt=login&max_age=0" in begun.url
    now = clock.now() // 1_000
    theirs.claims = {"auth_time": now - 61 if signed_in_at == "too long ago" else signed_in_at}
    with pytest.raises(SignInRefused, match="does not say that you have just signed in there"):
        await client.provider.finish(begun.pending, theirs.authorize(begun.url), BACK)
    theirs.claims = {"auth_time": now - 60}
    assert (await client.provider.finish(begun.pending, theirs.authorize(begun.url), BACK)).subject == "ada"


async def test_provider_that_offers_weak_algorithms_cannot_use_them(client: Client, theirs: IdentityProvider) -> None:
    theirs.header = {"alg": "none"}
    with pytest.raises(SignInRefused, match="algorithm"):
        await client.sign_in()


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "of another browser"},
        {"state": ""},
        {"state": "\ud800"},
        {"code": ""},
        {"code": "guessed"},
        {"error": "access_denied"},
        {"iss": "https://evil.example.com"},
    ],
    ids=str,
)
async def test_response_that_does_not_belong_to_the_browser_is_refused(
    client: Client, theirs: IdentityProvider, changes: dict[str, str]
) -> None:
    begun = await client.provider.begin(BACK)
    query = theirs.authorize(begun.url) | changes
    with pytest.raises(SignInRefused):
        await client.provider.finish(begun.pending, query, BACK)


async def test_code_of_another_sign_in_or_a_used_one_is_refused(client: Client, theirs: IdentityProvider) -> None:
    victim, attacker = await client.provider.begin(BACK), await client.provider.begin(BACK)
    query = theirs.authorize(attacker.url)
    # The attacker's code in the victim's browser: PKCE refuses it at the provider.
    with pytest.raises(SignInRefused, match="refused the code"):
        await client.provider.finish(victim.pending, {**query, "state": victim.pending.state}, BACK)
    query = theirs.authorize(victim.url)
    assert (await client.provider.finish(victim.pending, query, BACK)).subject == "ada"
    with pytest.raises(SignInRefused, match="refused the code"):
        await client.provider.finish(victim.pending, query, BACK)


async def test_each_sign_in_has_its_own_secrets(client: Client) -> None:
    begun = [(await client.provider.begin(BACK)).pending for _ in range(3)]
    assert len({text for each in begun for text in (each.state, each.nonce, each.verifier)}) == 9
    assert "verifier" not in repr(begun[0])


@pytest.mark.parametrize(
    ("path", "status", "content"),
    [
        ("/.well-known/openid-configuration", 500, b""),
        ("/.well-known/openid-configuration", 200, b"<html>"),
        ("/.well-known/openid-configuration", 200, b"{}"),
        ("/.well-known/openid-configuration", 302, b""),
        ("/.well-known/openid-configuration", 200, b"[" * 60_000),
        ("/.well-known/openid-configuration", 200, b" " * 200_000),
        ("/keys", 404, b""),
        ("/keys", 200, b"[]"),
        ("/token", 503, b""),
        ("/token", 200, b"{}"),
        ("/token", 200, b'{"id_token": 5}'),
        ("/token", 200, b'{"id_token": "\xff"}'),
    ],
)
async def test_broken_provider_fails_with_a_reason(
    client: Client, theirs: IdentityProvider, path: str, status: int, content: bytes
) -> None:
    theirs.responses[path] = (status, content)
    with pytest.raises(ProviderFailed, match=r"company|key set"):
        await client.sign_in()


async def test_failing_provider_is_not_asked_for_each_visitor(
    client: Client, theirs: IdentityProvider, clock: StandingClock
) -> None:
    theirs.responses["/.well-known/openid-configuration"] = (500, b"")
    for _ in range(20):
        with pytest.raises(ProviderFailed):
            await client.provider.begin(BACK)
    assert len(theirs.requests) == 1
    theirs.responses.clear()
    clock.advance(10_000)
    await client.provider.begin(BACK)


DISCOVERY = "/.well-known/openid-configuration"


async def test_sign_ins_that_waited_for_a_failing_provider_do_not_ask_it_again(
    client: Client, theirs: IdentityProvider, clock: StandingClock
) -> None:
    theirs.responses[DISCOVERY] = (500, b"")
    theirs.may_respond.clear()
    waiting = [asyncio.ensure_future(client.provider.begin(BACK)) for _ in range(3)]
    await theirs.requested(1)
    clock.advance(10_000)
    theirs.may_respond.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in results] == [ProviderFailed] * 3
    assert len(theirs.requests) == 1


async def test_known_failure_is_raised_at_once_while_the_provider_is_asked_again(
    client: Client, theirs: IdentityProvider, clock: StandingClock
) -> None:
    theirs.responses[DISCOVERY] = (500, b"")
    with pytest.raises(ProviderFailed):
        await client.provider.begin(BACK)
    clock.advance(10_000)
    theirs.may_respond.clear()
    asking = asyncio.ensure_future(client.provider.begin(BACK))
    await theirs.requested(2)
    with pytest.raises(ProviderFailed, match="responded with 500"):
        await client.provider.begin(BACK)
    assert not asking.done()
    theirs.responses.clear()
    theirs.may_respond.set()
    await asking
    await client.provider.begin(BACK)


async def test_old_document_and_keys_are_used_while_the_provider_fails(
    client: Client, theirs: IdentityProvider, clock: StandingClock
) -> None:
    await client.sign_in()
    clock.advance(3_600_000)
    theirs.responses |= {DISCOVERY: (500, b""), "/keys": (500, b"")}
    for _ in range(3):
        assert (await client.sign_in()).subject == "ada"
    assert (theirs.requests.count(DISCOVERY), theirs.requests.count("/keys")) == (2, 2)
    clock.advance(10_000)
    theirs.may_respond.clear()
    asking = asyncio.ensure_future(client.provider.begin(BACK))
    await theirs.requested(len(theirs.requests) + 1)
    await client.provider.begin(BACK)
    assert not asking.done()
    theirs.may_respond.set()
    await asking


async def test_document_of_another_issuer_is_refused(client: Client, theirs: IdentityProvider) -> None:
    theirs.metadata["issuer"] = "https://evil.example.com"
    with pytest.raises(ProviderFailed, match="calls itself"):
        await client.provider.begin(BACK)


async def test_private_address_is_refused_unless_the_operator_allows_it(
    clock: StandingClock, theirs: IdentityProvider
) -> None:
    with pytest.raises(ProviderFailed, match="cannot be reached"):
        await Client(clock, theirs, allows_loopback=False).provider.begin(BACK)
    assert theirs.requests == []


@pytest.mark.parametrize("claims", [{"email_verified": False}, {"email_verified": "true"}, {"email": ["x"]}], ids=str)
async def test_email_that_is_not_verified_is_left_out(
    client: Client, theirs: IdentityProvider, claims: dict[str, Any]
) -> None:
    theirs.claims = claims
    assert (await client.sign_in()).email == ""


async def test_sign_out_leads_to_the_provider_and_back(client: Client, theirs: IdentityProvider) -> None:
    url = await client.provider.sign_out_url("https://discue.example.com/dashboard")
    assert url == (
        f"{theirs.issuer}/logout?client_id=discue&post_logout_redirect_uri=https%3A%2F%2Fdiscue.example.com%2Fdashboard"
    )


@pytest.mark.parametrize(
    ("groups", "role"),
    [(["staff"], "developer"), ("staff", "developer"), (["x", "admins", "staff"], "admin"), ([], None), (None, None)],
    ids=str,
)
def test_groups_give_the_most_powerful_role(groups: object, role: str | None) -> None:
    settings = settings_for("https://id.example.com", roles={"staff": "developer", "admins": "admin"})
    assert settings.role_of(groups) == role
    assert replace(settings, default_role="viewer").role_of(groups) == (role or "viewer")


GOOD = """
[[provider]]
name = "company"
issuer = "https://id.example.com/realms/main"
client_id = "discue"
client_secret = "s3cret"
label = "Example Ltd"
groups_claim = "roles"
default_role = "viewer"
[provider.roles]
"webhook admins" = "admin"
"""


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "providers.toml"
    path.write_text(text)
    return path


def test_file_lists_providers(tmp_path: Path) -> None:
    (found,) = read_providers(_file(tmp_path, GOOD))
    assert (found.title, found.groups_claim, found.role_of(["webhook admins"])) == ("Example Ltd", "roles", "admin")
    assert "s3cret" not in repr(found)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('name = "company"', 'name = "Company!"', "name must have"),
        ("https://id", "http://id", "https"),
        ("https://id", "id", "absolute URL"),
        ("/realms/main", "?x=1", "absolute URL"),
        ('client_id = "discue"', 'client_id = ""', "client_id"),
        ('client_id = "discue"\n', "", "client_id"),
        ('label = "Example Ltd"', 'scopes = "email"', "openid"),
        ('label = "Example Ltd"', 'algorithms = ["HS256"]', "algorithms"),
        ('label = "Example Ltd"', 'algorithms = ["none"]', "algorithms"),
        ('label = "Example Ltd"', "algorithms = []", "algorithms"),
        ('label = "Example Ltd"', 'lable = "Example Ltd"', "lable"),
        ('"admin"', '"king"', "king"),
        ('default_role = "viewer"\n[provider.roles]\n"webhook admins" = "admin"', "", "no user can sign in"),
        ("[[provider]]", "[[provider", "TOML"),
        ("\n[[provider]]", GOOD + "[[provider]]", "same name"),
    ],
)
def test_invalid_file_is_refused_with_the_reason_and_without_the_secret(
    tmp_path: Path, old: str, new: str, reason: str
) -> None:
    assert old in GOOD
    with pytest.raises(SettingsInvalid, match=reason) as refused:
        read_providers(_file(tmp_path, GOOD.replace(old, new)))
    assert "s3cret" not in str(refused.value)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="cannot read"):
        read_providers(tmp_path / "none.toml")


def test_file_of_the_page_about_users_is_valid(tmp_path: Path) -> None:
    page = Path("docs/users.md").read_text("utf-8")
    text = page.partition("```toml\n")[2].partition("```")[0]
    (found,) = read_providers(_file(tmp_path, text))
    assert found.role_of(["engineering"]) == "developer"
    assert all(f"`{name}`" in page for name in ProviderSettings.__struct_fields__)
