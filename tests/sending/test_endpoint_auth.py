"""Access tokens: fetched with client credentials, cached, and renewed when a listener rejects them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from discue.crypto.endpoint_credentials import Credentials
from discue.domain.attempts import Outcome
from discue.domain.clock import SystemClock
from discue.domain.egress import EgressPolicy
from discue.domain.model import Authentication
from discue.sending.endpoint_auth import TOKEN_BYTES, AccessTokens, AuthorizingSender, credentials_of
from discue.sending.fetch import Fetcher
from discue.sending.request import TokenGrant
from discue.sending.sender import Sender
from tests.support.attempts import LISTENER_ID, MovableClock, request_to
from tests.support.scripted_server import HANG, READ, RESET, Received, ScriptedServer, Step

OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
UNAUTHORIZED = b"HTTP/1.1 401 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
ANYWHERE = EgressPolicy(allow_private=True)
SECRET = "s3cr3t"


def answer(content: object, status: int = 200) -> bytes:
    body = content if isinstance(content, bytes) else msgspec.json.encode(content)
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def token(text: str, seconds: int = 3_600) -> bytes:
    return answer({"access_token": text, "token_type": "bearer", "expires_in": seconds})


def grant_to(server: ScriptedServer, listener: str = LISTENER_ID) -> TokenGrant:
    public = Authentication("oauth2", token_url=f"http://127.0.0.1:{server.port}/token", client_id="ada", scope="a b")
    grant = credentials_of(Credentials(public, SECRET), listener).grant
    assert grant is not None
    return grant


@asynccontextmanager
async def authorizing(
    clock: SystemClock | None = None, policy: EgressPolicy = ANYWHERE
) -> AsyncIterator[AuthorizingSender]:
    """An authorizing sender that is closed at the end."""
    clock = clock or SystemClock()
    tokens = AccessTokens(Fetcher(policy=policy, kept_bytes=TOKEN_BYTES), clock)
    authorizer = AuthorizingSender(Sender(clock=clock, policy=ANYWHERE), tokens, clock)
    try:
        yield authorizer
    finally:
        await authorizer.close()
        await tokens.close()


@asynccontextmanager
async def meeting(
    *tokens: Step,
    answers: tuple[bytes, ...] = (OK,),
    clock: SystemClock | None = None,
    policy: EgressPolicy = ANYWHERE,
) -> AsyncIterator[tuple[ScriptedServer, ScriptedServer, AuthorizingSender]]:
    """An issuer of these tokens, a listener with these answers, and a sender; the last of each is repeated."""
    async with (
        ScriptedServer(one_each(*tokens)) as issuer,
        ScriptedServer(one_each(*answers)) as listener,
        authorizing(clock, policy) as authorizer,
    ):
        yield issuer, listener, authorizer


def begin(authorizer: AuthorizingSender, url: str, **changes: Any) -> asyncio.Future[Outcome]:
    outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    authorizer.send(request_to(url, **changes), outcome.set_result)
    assert not outcome.done()
    return outcome


def one_each(*answers: Step) -> list[tuple[Step, ...]]:
    """Scripts of a server: one response per connection, and the last one repeatedly."""
    return [(READ, each, HANG) for each in answers]


def bearers(requests: list[Received]) -> list[str]:
    return [request.headers["authorization"] for request in requests]


async def test_token_is_fetched_once_and_used_until_shortly_before_it_expires() -> None:
    clock = MovableClock()
    async with meeting(token("one", 100), token("two", 100), clock=clock) as (issuer, listener, authorizer):
        for added in (0, 89, 2):
            clock.added_seconds += added
            mine = (("X-Own", "1"), ("Authorization", "Bearer of-a-message"))
            outcome = await begin(authorizer, listener.url, grant=grant_to(issuer), headers=mine)
            assert outcome.status == 200
        assert bearers(listener.requests) == ["Bearer one", "Bearer one", "Bearer two"]
        assert [request.headers["x-own"] for request in listener.requests] == ["1", "1", "1"]
    [first, _] = issuer.requests
    assert (first.line, first.body) == ("POST /token HTTP/1.1", b"grant_type=client_credentials&scope=a+b")
    assert first.headers["authorization"] == "Basic YWRhOnMzY3IzdA=="


async def test_concurrent_attempts_of_a_listener_share_one_token_request() -> None:
    async with meeting(token("one"), token("two")) as (issuer, listener, authorizer):
        grant = grant_to(issuer)
        outcomes = await asyncio.gather(*(begin(authorizer, listener.url, grant=grant) for _ in range(4)))
        assert {outcome.status for outcome in outcomes} == {200}
        assert len(issuer.requests) == 1
        await begin(authorizer, listener.url, grant=grant_to(issuer, "m" * 21))
        assert len(issuer.requests) == 2
        assert bearers(listener.requests) == ["Bearer one"] * 4 + ["Bearer two"]


async def test_refused_cached_token_fails_the_attempt_and_is_renewed_for_the_next_one() -> None:
    """A request that is repeated within an attempt would exceed the listener's rate limit."""
    clock = MovableClock()
    answers = (OK, UNAUTHORIZED, OK, UNAUTHORIZED, UNAUTHORIZED)
    async with meeting(token("one"), token("two"), token("three"), answers=answers, clock=clock) as (
        issuer,
        listener,
        authorizer,
    ):
        outcomes = []
        for _ in answers:
            clock.added_seconds += 60
            outcomes.append(await begin(authorizer, listener.url, grant=grant_to(issuer)))
        assert bearers(listener.requests) == [f"Bearer {text}" for text in ("one", "one", "two", "two", "three")]
        found = [(outcome.status, outcome.error) for outcome in outcomes]
        refused = (401, "authentication")
        assert found == [(200, ""), refused, (200, ""), refused, (401, "status")]
        assert outcomes[1].detail == "The listener rejected the access token. The next attempt gets a new one."


async def test_refused_fresh_token_is_not_renewed() -> None:
    async with meeting(token("one"), answers=(UNAUTHORIZED,)) as (issuer, listener, authorizer):
        for _ in range(2):
            outcome = await begin(authorizer, listener.url, grant=grant_to(issuer))
            assert (outcome.status, outcome.error) == (401, "status")
        assert len(issuer.requests) == 1


async def test_attempt_without_a_token_fails_and_sends_nothing() -> None:
    wrong: dict[str, Step] = {
        "401": answer({"error": "invalid_client", "error_description": SECRET}, 401),
        "redirect": b"HTTP/1.1 302 F\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
        "reset": RESET,
        "no JSON": answer(SECRET.encode()),
        "no token": answer({"token_type": "Bearer"}),
        "another type": answer({"access_token": "x", "token_type": "mac"}),
        "what ends a line": answer({"access_token": "x\r\nhost: elsewhere"}),
        "ended": answer({"access_token": "x", "expires_in": 0}),
        "never": answer(b'{"access_token":"x","expires_in":"nan"}'),
        "too long": answer({"access_token": "x" * 20_000}),
        "nested deeply": answer(b'{"access_token":"x","more":' + b"[" * 10_000),
        "no UTF-8": answer(b'{"access_token":"\xff"}'),
    }

    async with ScriptedServer([(READ, OK, HANG)]) as listener, authorizing() as authorizer:
        for what, step in wrong.items():
            async with ScriptedServer(one_each(step)) as issuer:
                outcome = await begin(authorizer, listener.url, grant=grant_to(issuer))
            assert (outcome.status, outcome.error) == (0, "authentication"), what
            assert outcome.detail.startswith("No access token"), what
            assert SECRET not in outcome.detail
        assert listener.requests == []


async def test_token_is_requested_again_after_a_failure() -> None:
    async with meeting(answer({}, 503), token("one")) as (issuer, listener, authorizer):
        errors = [(await begin(authorizer, listener.url, grant=grant_to(issuer))).error for _ in range(2)]
        assert errors == ["authentication", ""]


async def test_a_token_url_leads_to_public_addresses_only() -> None:
    async with meeting(token("one"), policy=EgressPolicy()) as (issuer, listener, authorizer):
        outcome = await begin(authorizer, listener.url, grant=grant_to(issuer))
        assert (outcome.error, "refused_address" in outcome.detail) == ("authentication", True)
        assert (issuer.requests, listener.requests) == ([], [])


async def test_timeout_of_the_attempt_includes_the_token_request() -> None:
    async with meeting(HANG) as (issuer, listener, authorizer):
        outcome = await begin(authorizer, listener.url, grant=grant_to(issuer), timeout_ms=100)
        assert (outcome.error, outcome.detail) == ("authentication", "No access token came in time.")
        assert outcome.duration_ms >= 99


async def test_every_attempt_has_an_outcome_when_the_service_stops() -> None:
    async with ScriptedServer([(READ, HANG)]) as issuer, authorizing() as authorizer:
        waiting = begin(authorizer, "http://127.0.0.1:9/", grant=grant_to(issuer))
        await issuer.until_open(1)
        await authorizer.close()
        assert waiting.result().error == "internal"


async def test_request_without_a_grant_is_sent_directly() -> None:
    async with ScriptedServer([(READ, OK, HANG)]) as listener, authorizing() as authorizer:
        assert (await begin(authorizer, listener.url)).status == 200
        assert "authorization" not in listener.requests[0].headers
