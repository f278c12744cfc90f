"""Signing in at an identity provider: the way there, and the way back."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import msgspec

from discue.dashboard.users import identities
from discue.dashboard.users.identities import ProviderResponse
from discue.dashboard.users.provider import PendingSignIn, Provider, ProviderFailed, SignInRefused
from discue.dashboard.users.sign_in import Browser
from discue.domain.errors import NotFound, Unauthorized, Unavailable
from discue.domain.scopes import Principal
from discue.http.services import Services


class KeptSignIn(msgspec.Struct, frozen=True):
    """A sign-in at an identity provider that has begun, as the browser keeps it in a cookie."""

    pending: PendingSignIn
    next_path: str = ""
    """The path of the page to show afterwards."""
    permit: str = ""
    """The code that permits to connect the account to the user who is signed in; empty: to sign in."""

    @property
    def cookie(self) -> str:
        """The value of the cookie."""
        return urlsafe_b64encode(msgspec.json.encode(self)).decode()

    @classmethod
    def of_cookie(cls, value: str) -> "KeptSignIn | None":
        """Return the sign-in in a cookie; None if there is none, or it cannot be read."""
        try:
            return msgspec.json.decode(urlsafe_b64decode(value), type=cls)
        except (ValueError, RecursionError):
            return None


class ProviderRedirect(NamedTuple):
    """The URL at the provider that the browser goes to, and what it keeps meanwhile."""

    url: str
    kept: KeptSignIn


class Callback(NamedTuple):
    """A request with which a browser comes back from a provider."""

    provider: str
    """The name of the provider, from the path."""
    url: str
    """The URL of the service."""
    query: Mapping[str, str]
    kept: KeptSignIn | None
    """The sign-in that the browser has kept. None: it has none."""


class FinishedSignIn(NamedTuple):
    """The token of a new session, and the path of the page to show."""

    token: str
    next_path: str


class ProviderSignIn:
    """Lets users in who have an account at an identity provider."""

    def __init__(self, services: Services, providers: Mapping[str, Provider]) -> None:
        self._control = services.control
        self._authenticator = services.authenticator
        self._providers = providers
        self._log = services.log

    @property
    def providers(self) -> list[tuple[str, str]]:
        """The names and the titles of the providers."""
        return [(name, provider.settings.title) for name, provider in self._providers.items()]

    async def begin(
        self, name: str, url: str, next_path: str = "", *, permit: str = "", again: bool = False
    ) -> ProviderRedirect:
        """Start a sign-in. `url` is that of the service. `again` is true for a user who is signed in already.

        Raises NotFound, and Unavailable if the provider fails.
        """
        provider = self._provider(name)
        with self._errors(name):
            redirection = await provider.begin(_redirect_uri(url, name), again=again)
        return ProviderRedirect(redirection.url, KeptSignIn(redirection.pending, next_path, permit))

    async def sign_out_url(self, name: str, url: str) -> str | None:
        """Return where the browser ends its session at a provider; None if the provider has no such page.

        Raises NotFound, and Unavailable if the provider fails.
        """
        provider = self._provider(name)
        with self._errors(name):
            return await provider.sign_out_url(f"{url}/dashboard/sign-in")

    async def finish(self, callback: Callback, browser: Browser) -> FinishedSignIn:
        """Open a session for a user who comes back from a provider.

        Raises NotFound, Unauthorized, LockedOut, Locked, and Unavailable if the provider fails.
        """
        kept, response = self._response(callback)
        with self._errors(callback.provider):
            opened = await identities.sign_in(self._control, self._authenticator, response, browser)
        return FinishedSignIn(opened.token, kept.next_path)

    async def connect(self, callback: Callback, principal: Principal) -> None:
        """Connect an account to the user who is signed in. Raises what `finish` raises."""
        kept, response = self._response(callback)
        with self._errors(callback.provider):
            await identities.connect(self._control, principal, response, kept.permit)

    def _response(self, callback: Callback) -> tuple[KeptSignIn, ProviderResponse]:
        provider, kept = self._provider(callback.provider), callback.kept
        # The provider's name, too: a response of one must not be taken for a response of another.
        if kept is None or kept.pending.provider != callback.provider:
            raise Unauthorized("This sign-in was not started in this browser, or took too long. Sign in again.")
        uri = _redirect_uri(callback.url, callback.provider)
        return kept, ProviderResponse(provider, kept.pending, callback.query, uri)

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        """Raise errors of a provider as errors that pages show."""
        try:
            yield
        except SignInRefused as error:
            raise Unauthorized(str(error)) from error
        except ProviderFailed as error:
            self._log.warning("identity_provider_failed", provider=name, reason=str(error))
            raise Unavailable(str(error)) from error

    def _provider(self, name: str) -> Provider:
        provider = self._providers.get(name)
        if provider is None:
            raise NotFound("There is no such identity provider.")
        return provider


def _redirect_uri(url: str, name: str) -> str:
    return f"{url}/dashboard/sign-in/{name}/callback"
