"""Authentication at a listener's endpoint: credentials, OAuth access tokens, and attempts that need a token."""

import asyncio
import logging
import re
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Final
from urllib.parse import urlencode

import msgspec
from msgspec.structs import replace

from discue.crypto.endpoint_credentials import Credentials, basic_authorization, client_authorization
from discue.domain.attempts import FailureKind, Outcome
from discue.domain.clock import Clock
from discue.domain.egress import parse_target
from discue.domain.headers import Headers
from discue.domain.representation import shows
from discue.sending.dialer import SharedTasks
from discue.sending.fetch import Fetcher, FetchResult
from discue.sending.request import AttemptRequest, ClientIdentity, TokenGrant
from discue.sending.sender import Sender


@shows("grant", "identity")
class RequestCredentials(msgspec.Struct, frozen=True):
    """The credentials of a request: headers, a grant for an access token, or a client certificate."""

    headers: Headers = ()
    grant: TokenGrant | None = None
    identity: ClientIdentity | None = None


def credentials_of(credentials: Credentials | None, listener_public_id: str) -> RequestCredentials:
    """Return the credentials for requests to a listener. Raises Unprocessable.

    Their names contain the listener's id, so tokens and connections are never shared with another listener.
    """
    if credentials is None:
        return RequestCredentials()
    public, name = credentials.public, f"{listener_public_id}-{credentials.name}"
    if public.type == "basic":
        return RequestCredentials(
            headers=(("authorization", basic_authorization(public.username, credentials.secret)),)
        )
    if public.type == "certificate":
        return RequestCredentials(identity=ClientIdentity(name, public.certificate, credentials.secret))
    form = {"grant_type": "client_credentials", "scope": public.scope, "audience": public.audience}
    return RequestCredentials(
        grant=TokenGrant(
            name=name,
            target=parse_target(public.token_url, "/authentication/token_url"),
            authorization=client_authorization(public.client_id, credentials.secret),
            form=urlencode({key: value for key, value in form.items() if value}).encode(),
        )
    )


TOKEN_TIMEOUT_SECONDS: Final = 10.0
"""Timeout of a token request. The attempt waits no longer than its own timeout."""

TOKEN_BYTES: Final = 16_384
"""Maximum size of a token response."""

_TOKENS_KEPT: Final = 10_000
_UNKNOWN_LIFE_SECONDS: Final = 60
_LONGEST_LIFE_SECONDS: Final = 86_400
_MARGIN: Final = 0.1
_LARGEST_MARGIN_SECONDS: Final = 60.0
_YOUNGEST_RENEWED_SECONDS: Final = 5.0
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]{1,8192}=*")


@shows("got_at", "ends_at")
class Token(msgspec.Struct, frozen=True):
    """An access token. Times are readings of the monotonic clock; it is not used from `ends_at` on."""

    text: str
    got_at: float
    ends_at: float


class TokenRefused(Exception):
    """No token could be got. The message is for people; of the response it contains the class of the status at most."""

    error: FailureKind = "authentication"


class _TokenResponse(msgspec.Struct, frozen=True):
    access_token: str
    token_type: str = "Bearer"  # noqa: S105 - the word itself
    expires_in: float | str | None = None


_decode = msgspec.json.Decoder(_TokenResponse).decode


class AccessTokens:
    """Access tokens by grant: an LRU cache, with one request in flight for each grant.

    Belongs to the event loop on which it is first used.
    """

    def __init__(self, fetcher: Fetcher, clock: Clock) -> None:
        """Take a fetcher that keeps at least `TOKEN_BYTES` of a response."""
        self._fetcher = fetcher
        self._clock = clock
        self._tokens: OrderedDict[str, Token] = OrderedDict()
        self._in_flight = SharedTasks[str, Token]()
        self.close = self._in_flight.cancel

    async def get(self, grant: TokenGrant) -> Token:
        """Return a valid token. Raises TokenRefused."""
        token = self._tokens.get(grant.name)
        if token is not None and self._clock.monotonic() < token.ends_at:
            self._tokens.move_to_end(grant.name)
            return token
        return await self._in_flight.result(grant.name, partial(self._fetch, grant))

    def refuse(self, grant: TokenGrant, token: Token) -> bool:
        """Remove a token that the listener rejected. Returns whether the next attempt gets a new one.

        A token that is just new is kept: a listener that rejects every token must not cause a token request for every
        attempt.
        """
        if self._clock.monotonic() - token.got_at < _YOUNGEST_RENEWED_SECONDS:
            return False
        if self._tokens.get(grant.name) is token:
            del self._tokens[grant.name]
        return True

    async def _fetch(self, grant: TokenGrant) -> Token:
        fetched = await self._fetcher.post_form(grant.target, grant.authorization, grant.form, TOKEN_TIMEOUT_SECONDS)
        token = self._tokens[grant.name] = _token_in(fetched, self._clock.monotonic())
        self._tokens.move_to_end(grant.name)
        if len(self._tokens) > _TOKENS_KEPT:
            self._tokens.popitem(last=False)
        return token


def _token_in(fetched: FetchResult, now: float) -> Token:
    """Raises TokenRefused."""
    if fetched.error:
        refused = TokenRefused(f"No access token: the request to the token URL failed ({fetched.error}).")
        if fetched.error == "egress_proxy":
            refused.error = fetched.error
        raise refused
    if fetched.status != 200:
        raise TokenRefused(f"No access token: the token URL responded with {fetched.status // 100}xx.")
    try:
        response = _decode(fetched.body)
        life_seconds = _UNKNOWN_LIFE_SECONDS if response.expires_in is None else float(response.expires_in)
    except (ValueError, OverflowError, RecursionError):
        raise TokenRefused("No access token: the response of the token URL cannot be read.") from None
    if response.token_type.lower() != "bearer" or _TOKEN.fullmatch(response.access_token) is None:
        raise TokenRefused("No access token: the response of the token URL has no usable bearer token.")
    if not life_seconds > 0:
        raise TokenRefused("No access token: the token has already expired.")
    # Not used to its end: it must still be valid when the request arrives, by the listener's clock.
    life_seconds = min(life_seconds, _LONGEST_LIFE_SECONDS)
    return Token(response.access_token, now, now + life_seconds - min(life_seconds * _MARGIN, _LARGEST_MARGIN_SECONDS))


_HEADER: Final = "authorization"
_CLOSED: Final = Outcome(0, "internal", "The service stopped before a response came.", 0)
_UNEXPECTED: Final = Outcome(0, "internal", "The request could not be sent.", 0)
_REJECTED: Final = "The listener rejected the access token. The next attempt gets a new one."

_logger = logging.getLogger(__name__)


class AuthorizingSender:
    """A sender that gets an access token first, for requests that need one.

    Belongs to the event loop on which it is first used.
    """

    def __init__(self, sender: Sender, tokens: AccessTokens, clock: Clock) -> None:
        self._sender = sender
        self._tokens = tokens
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, request: AttemptRequest, done: Callable[[Outcome], None]) -> None:
        """Make one attempt, like `Sender.send`.

        If the listener rejects a cached token, the attempt fails, and the next one gets a new token. Repeating the
        request here would exceed the listener's rate limit.
        """
        if request.grant is None:
            self._sender.send(request, done)
            return
        task = asyncio.get_running_loop().create_task(self._run(request, request.grant, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop. Requests in flight and attempts that still wait for a token fail."""
        await self._sender.close(0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, request: AttemptRequest, grant: TokenGrant, done: Callable[[Outcome], None]) -> None:
        outcome, started_at = _CLOSED, self._clock.monotonic()
        try:
            async with asyncio.timeout(self._left_ms(request, started_at) / 1_000):
                token = await self._tokens.get(grant)
            others = [each for each in request.headers if each[0].lower() != _HEADER]
            authorized = replace(
                request,
                headers=(*others, (_HEADER, f"Bearer {token.text}")),
                grant=None,
                timeout_ms=self._left_ms(request, started_at),
            )
            outcome = await self._sender.attempt(authorized)
            # A token that was got for this attempt is not the reason: another one would be refused, too.
            is_cached = token.got_at < started_at
            if outcome.status == 401 and is_cached and self._tokens.refuse(grant, token):
                # Not the listener's decision about the message: no final status may make it missed.
                outcome = replace(outcome, error="authentication", detail=_REJECTED)
        except TokenRefused as error:
            outcome = Outcome(0, error.error, str(error), 0)
        except TimeoutError:
            outcome = Outcome(0, "authentication", "No access token came in time.", 0)
        except Exception:
            _logger.exception("an attempt with an access token could not be made")
            outcome = _UNEXPECTED
        finally:
            # Every attempt has an outcome, also one that was cancelled.
            done(replace(outcome, duration_ms=int((self._clock.monotonic() - started_at) * 1_000)))

    def _left_ms(self, request: AttemptRequest, started_at: float) -> int:
        return max(1, request.timeout_ms - int((self._clock.monotonic() - started_at) * 1_000))
