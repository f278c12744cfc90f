"""Identity providers: their settings, and OpenID Connect with one of them, by the authorization code flow with PKCE."""

import asyncio
import hashlib
import hmac
import re
import tomllib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, Generic, TypeVar
from urllib.parse import urlencode

import msgspec

from discue.crypto.endpoint_credentials import client_authorization
from discue.dashboard.users.id_token import (
    ALGORITHMS,
    Expected,
    Key,
    TokenInvalid,
    decode_keys,
    is_time,
    key_id_of,
    verify,
)
from discue.dashboard.users.users import ROLES
from discue.domain.clock import Clock
from discue.domain.egress import EgressPolicy, Target, parse_target
from discue.domain.errors import SettingsInvalid, Unprocessable
from discue.domain.ids import RandomText
from discue.domain.model import Role
from discue.domain.representation import shows
from discue.sending.fetch import Fetcher, FetchResult

_NAME: Final = re.compile("[a-z0-9-]{1,32}")
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@shows("name", "issuer")
class ProviderSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An identity provider, as the operator describes it."""

    name: str
    """Part of the redirect URL: `…/dashboard/sign-in/NAME/callback`."""
    issuer: str
    client_id: str
    client_secret: str = ""
    """Empty for a public client, which only PKCE protects."""
    label: str = ""
    """Text of the button; empty for the name."""
    organization: str = ""
    """Alias of the organization of the users; empty for the operator's."""
    scopes: str = "openid email profile"
    groups_claim: str = "groups"
    roles: Mapping[str, Role] = {}
    """Role of each group. A user gets the most powerful one, at each sign-in."""
    default_role: Role | None = None
    """Role of users of no such group. None: they cannot sign in."""
    algorithms: tuple[str, ...] = ("RS256", "PS256", "ES256", "EdDSA")
    allow_private: bool = False
    """Whether the provider may be at a private address."""

    @property
    def title(self) -> str:
        return self.label or self.name

    def role_of(self, groups: object) -> Role | None:
        """Return the role for the value of the claim with the groups. None: the user may not sign in."""
        listed = groups if isinstance(groups, list) else [groups]
        granted = {self.roles[group] for group in listed if isinstance(group, str) and group in self.roles}
        return next((role for role in ROLES if role in granted), self.default_role)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    provider: tuple[ProviderSettings, ...] = ()


def read_providers(path: Path) -> tuple[ProviderSettings, ...]:
    """Return the providers in a TOML file. Raises SettingsInvalid with what is wrong, and without its secrets."""
    try:
        found = msgspec.convert(tomllib.loads(path.read_text("utf-8")), _File).provider
    except OSError as error:
        raise SettingsInvalid(f"identity_providers: cannot read {path}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsInvalid(f"identity_providers: {path} is not TOML: {error}") from None
    except UnicodeDecodeError:
        raise SettingsInvalid(f"identity_providers: {path} is not UTF-8") from None
    except msgspec.ValidationError as error:
        raise SettingsInvalid(f"identity_providers: {path}: {error}") from None
    for provider in found:
        if (rule := _broken_rule(provider)) is not None:
            raise SettingsInvalid(f'identity_providers: {path}: provider "{provider.name}": {rule}')
    names = [provider.name for provider in found]
    if len(set(names)) < len(names):
        raise SettingsInvalid(f"identity_providers: {path}: several providers have the same name")
    return found


def url_target(url: str, *, like: str) -> Target | None:
    """Return the target of a URL of a provider; None unless it is as secure as the URL of the issuer."""
    try:
        target = parse_target(url, "")
    except Unprocessable:
        return None
    is_secure = url.lower().startswith("https://")
    return target if is_secure or not like.lower().startswith("https://") else None


def _broken_rule(provider: ProviderSettings) -> str | None:
    target = url_target(provider.issuer, like=provider.issuer)
    # Over cleartext, anybody on the way could name other keys.
    is_secure = target is not None and (provider.issuer.startswith("https://") or target.host in _LOCAL)
    unknown = [algorithm for algorithm in provider.algorithms if algorithm not in ALGORITHMS]
    rules = (
        (_NAME.fullmatch(provider.name), "name must have 1 to 32 lower-case letters, digits and hyphens"),
        (target is not None and "?" not in provider.issuer, "issuer must be an absolute URL without a query"),
        (is_secure, "issuer must be an https URL"),
        (provider.client_id, "client_id must not be empty"),
        ("openid" in provider.scopes.split(), "scopes must contain openid"),
        (provider.algorithms and not unknown, f"algorithms must be some of {', '.join(ALGORITHMS)}"),
        (provider.roles or provider.default_role, "set roles or default_role: otherwise no user can sign in"),
    )
    return next((rule for holds, rule in rules if not holds), None)


T = TypeVar("T")

KEPT_BYTES: Final = 65_536
"""Maximum size of a provider's response."""

_TIMEOUT_SECONDS: Final = 10.0
_FRESH_SECONDS: Final = 3_600.0
_RETRY_SECONDS: Final = 10.0
"""Minimum time between requests to a provider that fails, or lacks a key, however many users try to sign in."""
_SECRET_CHARACTERS: Final = 43
_SHOWN_CHARACTERS: Final = 100
_AUTH_TIME: Final = '{"id_token":{"auth_time":{"essential":true}}}'
_LEEWAY_SECONDS: Final = 60
"""How long before a repeated sign-in began the provider may say that the user signed in: its clock may differ."""
_OK: Final = 200


class ProviderFailed(Exception):
    """The provider cannot be reached, or its response is invalid. The message is for the user and the log."""


class SignInRefused(Exception):
    """The provider refused, or the response does not belong to this browser. The message is for the user."""


@shows("provider")
class PendingSignIn(msgspec.Struct, frozen=True):
    """A sign-in that has begun. The browser keeps it in a cookie until it comes back."""

    provider: str
    state: str
    nonce: str
    verifier: str
    again_at: int = 0
    """When a user who was signed in began to sign in again, in seconds since the epoch; 0: no user was signed in."""
    next_path: str = ""
    """The path of the page to show afterwards."""
    permit: str = ""
    """The code that permits to connect the account to the user who is signed in; empty: to sign in."""

    @property
    def cookie(self) -> str:
        return urlsafe_b64encode(msgspec.json.encode(self)).decode()

    @classmethod
    def of_cookie(cls, value: str) -> "PendingSignIn | None":
        """Return the sign-in in a cookie; None if there is none, or it cannot be read."""
        try:
            return msgspec.json.decode(urlsafe_b64decode(value), type=cls)
        except (ValueError, RecursionError):
            return None


class Redirection(msgspec.Struct, frozen=True):
    """The URL at the provider that the browser goes to, and the sign-in that it keeps."""

    url: str
    pending: PendingSignIn


class ExternalIdentity(msgspec.Struct, frozen=True):
    issuer: str
    subject: str
    """Identifies the user for good, unlike the email."""
    email: str
    """Empty unless the provider has verified it."""
    name: str
    groups: object
    signed_in_at: int | None = None
    """When the user signed in at the provider, in milliseconds since the epoch; None: it does not say."""


class _Metadata(msgspec.Struct, frozen=True):
    """The part of a provider's discovery document that is used."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    end_session_endpoint: str = ""
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    id_token_signing_alg_values_supported: tuple[str, ...] = ("RS256",)


class _TokenResponse(msgspec.Struct, frozen=True):
    id_token: str


class Provider:
    """An identity provider. Belongs to the event loop on which it is first used."""

    def __init__(self, settings: ProviderSettings, fetcher: Fetcher, clock: Clock, random_text: RandomText) -> None:
        """Take a fetcher that keeps `KEPT_BYTES` of a response."""
        self.settings = settings
        self._fetcher = fetcher
        self._clock = clock
        self._random = random_text
        self._metadata = _Cached[_Metadata](clock)
        self._keys = _Cached[tuple[Key, ...]](clock)

    async def begin(
        self, redirect_uri: str, next_path: str = "", *, permit: str = "", again: bool = False
    ) -> Redirection:
        """Start a sign-in, or the connection of an account with the `permit` for it. Raises ProviderFailed.

        With `again`, the user must sign in at the provider even if it knows the browser. `finish` checks that.
        """
        metadata = await self._discovered()
        state, nonce, verifier = (self._random.take(_SECRET_CHARACTERS) for _ in range(3))
        challenge = urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        query = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": redirect_uri,
            "scope": self.settings.scopes,
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        if again:
            # A provider that gets `max_age` must say when the user signed in (OpenID Connect Core, 3.1.2.1).
            # Some do only if the claim is asked for (5.5).
            query |= {"prompt": "login", "max_age": "0", "claims": _AUTH_TIME}
        again_at = self._clock.now() // 1_000 if again else 0
        url = _with_query(metadata.authorization_endpoint, query)
        pending = PendingSignIn(self.settings.name, state, nonce, verifier, again_at, next_path, permit)
        return Redirection(url, pending)

    async def finish(self, pending: PendingSignIn, query: Mapping[str, str], redirect_uri: str) -> ExternalIdentity:
        """Return who has signed in, from the query with which the browser came back.

        Raises SignInRefused, and ProviderFailed.
        """
        _check_response(pending, query, self.settings)
        metadata = await self._discovered()
        token = await self._redeem(metadata, query["code"], pending.verifier, redirect_uri)
        supported = metadata.id_token_signing_alg_values_supported
        algorithms = tuple(algorithm for algorithm in self.settings.algorithms if algorithm in supported)
        expected = Expected(metadata.issuer, self.settings.client_id, pending.nonce, algorithms)
        try:
            keys = await self._keys_for(metadata, token)
            # On a thread: a token without a key id is tried with each key, which may be large.
            claims = await asyncio.to_thread(verify, token, keys, expected, self._clock.now())
        except TokenInvalid as error:
            raise SignInRefused(f"The token of {self.settings.title} was refused: {error}.") from error
        identity = _identity(claims, self.settings.groups_claim)
        if pending.again_at and (identity.signed_in_at or 0) < (pending.again_at - _LEEWAY_SECONDS) * 1_000:
            raise SignInRefused(
                f"{self.settings.title} does not say that you have just signed in there. Sign out there first; or "
                "confirm with a password, or with a code once you have a second factor."
            )
        return identity

    async def sign_out_url(self, return_to: str) -> str | None:
        """Return where the browser ends its session at the provider; None if the provider has no such page."""
        metadata = await self._discovered()
        if not metadata.end_session_endpoint:
            return None
        query = {"client_id": self.settings.client_id, "post_logout_redirect_uri": return_to}
        return _with_query(metadata.end_session_endpoint, query)

    async def _redeem(self, metadata: _Metadata, code: str, verifier: str, redirect_uri: str) -> str:
        own, form = self.settings, {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        form |= {"code_verifier": verifier, "client_id": own.client_id}
        authorization = ""
        if own.client_secret and "client_secret_basic" in metadata.token_endpoint_auth_methods_supported:
            authorization = client_authorization(own.client_id, own.client_secret)
        elif own.client_secret:
            form["client_secret"] = own.client_secret
        target = self._target(metadata.token_endpoint)
        response = await self._fetcher.post_form(target, authorization, urlencode(form).encode(), _TIMEOUT_SECONDS)
        if response.status in range(400, 500):
            raise SignInRefused(f"{own.title} refused the code. Sign in again.")
        return _decoded(response, _TokenResponse, own.title).id_token

    async def _discovered(self) -> _Metadata:
        return await self._metadata.get(self._discover)

    async def _discover(self) -> _Metadata:
        issuer = self.settings.issuer
        target = self._target(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        metadata = _decoded(await self._fetcher.get(target, _TIMEOUT_SECONDS), _Metadata, self.settings.title)
        # Otherwise the document could be another provider's, whose tokens would be accepted for this one.
        if metadata.issuer != issuer:
            raise ProviderFailed(f"{self.settings.title} calls itself {metadata.issuer!r}, not {issuer!r}.")
        for url in (metadata.authorization_endpoint, metadata.token_endpoint, metadata.jwks_uri):
            self._target(url)
        if metadata.end_session_endpoint:
            self._target(metadata.end_session_endpoint)
        return metadata

    async def _keys_for(self, metadata: _Metadata, token: str) -> tuple[Key, ...]:
        """Return the keys of the provider. A token with an unknown key id makes them be read again, but not often."""

        async def read() -> tuple[Key, ...]:
            response = await self._fetcher.get(self._target(metadata.jwks_uri), _TIMEOUT_SECONDS)
            _require_ok(response, self.settings.title)
            # On a thread: a hundred keys take 30 ms.
            return await asyncio.to_thread(decode_keys, response.body)

        key_id, keys = key_id_of(token), await self._keys.get(read)
        if key_id and key_id not in {key.id for key in keys}:
            keys = await self._keys.get(read, fresh_seconds=_RETRY_SECONDS)
        return keys

    def _target(self, url: str) -> Target:
        target = url_target(url, like=self.settings.issuer)
        if target is None:
            raise ProviderFailed(f"{self.settings.title} has an invalid or insecure URL.")
        return target


def providers_in(
    path: Path, clock: Clock, random_text: RandomText, *, policy: EgressPolicy, connect_seconds: float
) -> dict[str, Provider]:
    """Return the providers of a file by name. Raises SettingsInvalid."""

    def fetcher(settings: ProviderSettings) -> Fetcher:
        allowed = msgspec.structs.replace(policy, allow_private=policy.allow_private or settings.allow_private)
        return Fetcher(policy=allowed, connect_seconds=connect_seconds, kept_bytes=KEPT_BYTES)

    found = read_providers(path)
    return {settings.name: Provider(settings, fetcher(settings), clock, random_text) for settings in found}


class _Cached(Generic[T]):
    """A document of the provider, cached for an hour. At most one read at a time; failed reads are retried seldom.

    While reads fail, the previous value is used, if there is one.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._turn = asyncio.Lock()
        self._value: T | None = None
        self._failure = ""
        self._tried_at = 0.0
        """When the last read ended, well or not."""

    async def get(self, read: Callable[[], Awaitable[T]], *, fresh_seconds: float = _FRESH_SECONDS) -> T:
        """Return the value, read again if it is older than `fresh_seconds`. Raises ProviderFailed."""
        # A provider that hangs must not make each sign-in wait for a read that is likely to fail.
        if self._failure and self._turn.locked():
            return self._old()
        async with self._turn:
            age = self._clock.monotonic() - self._tried_at
            if self._failure and age < _RETRY_SECONDS:
                return self._old()
            if not self._failure and self._value is not None and age < fresh_seconds:
                return self._value
            try:
                self._value = await read()
                self._failure = ""
            except (ProviderFailed, TokenInvalid) as error:
                self._failure = str(error)
            # Afterwards: those who have waited for a read that took long must not repeat it.
            self._tried_at = self._clock.monotonic()
            return self._old()

    def _old(self) -> T:
        """Return the value that was read last. Raises ProviderFailed if there is none."""
        if self._value is None:
            raise ProviderFailed(self._failure)
        return self._value


def _check_response(pending: PendingSignIn, query: Mapping[str, str], provider: ProviderSettings) -> None:
    """Raise SignInRefused unless the query is the provider's response to the sign-in that this browser has begun."""
    state = query.get("state", "")
    # Before anything else is believed: another site may have sent the browser here (RFC 6749, 10.12).
    if not hmac.compare_digest(state.encode(errors="replace"), pending.state.encode()):
        raise SignInRefused("This sign-in was not started in this browser, or took too long. Sign in again.")
    # A provider that names itself must be the one that was asked (RFC 9207).
    if query.get("iss", provider.issuer) != provider.issuer:
        raise SignInRefused("The response is from another identity provider. Sign in again.")
    if "error" in query:
        raise SignInRefused(f"{provider.title} refused the sign-in ({query['error'][:_SHOWN_CHARACTERS]}).")
    if not query.get("code"):
        raise SignInRefused(f"{provider.title} sent no code. Sign in again.")


def _identity(claims: Mapping[str, Any], groups_claim: str) -> ExternalIdentity:
    email, name, signed_in_at = claims.get("email"), claims.get("name"), claims.get("auth_time")
    # Only `true` counts: a provider may let its users enter any address.
    is_verified = claims.get("email_verified") is True
    return ExternalIdentity(
        issuer=claims["iss"],
        subject=claims["sub"],
        email=email if isinstance(email, str) and is_verified else "",
        name=name if isinstance(name, str) else "",
        groups=claims.get(groups_claim),
        signed_in_at=int(signed_in_at * 1_000) if is_time(signed_in_at) else None,
    )


def _decoded(response: FetchResult, kind: type[T], title: str) -> T:
    _require_ok(response, title)
    try:
        return msgspec.json.decode(response.body, type=kind)
    # Not DecodeError alone: text that is not UTF-8 raises another ValueError.
    except (ValueError, RecursionError):
        raise ProviderFailed(f"The response of {title} cannot be read.") from None


def _require_ok(response: FetchResult, title: str) -> None:
    if response.error:
        raise ProviderFailed(f"{title} cannot be reached ({response.error}).")
    if response.status != _OK:
        raise ProviderFailed(f"{title} responded with {response.status}.")


def _with_query(url: str, query: Mapping[str, str]) -> str:
    return f"{url}{'&' if '?' in url else '?'}{urlencode(query)}"
