"""Signing in at an identity provider: the way there, and the way back."""

from collections.abc import Iterator
from contextlib import contextmanager

from discue.dashboard.users import identities
from discue.dashboard.users.identities import ProviderResponse
from discue.dashboard.users.provider import PendingSignIn, Provider, ProviderFailed, Redirection, SignInRefused
from discue.dashboard.users.sign_in import NewSession
from discue.dashboard.visit import Visit
from discue.domain.errors import NotFound, Unauthorized, Unavailable


def providers_offered(visit: Visit) -> list[tuple[str, str]]:
    """Return the names and the titles of the providers."""
    return [(name, provider.settings.title) for name, provider in visit.providers.items()]


async def begin(visit: Visit, name: str, next_path: str = "", *, permit: str = "") -> Redirection:
    """Start a sign-in or, with a permit, the connection of an account.

    Without a permit, a user who is already signed in must sign in again at the provider. Raises NotFound, and
    Unavailable if the provider fails.
    """
    provider, again = _provider(visit, name), visit.signed_in is not None and not permit
    with _errors(visit, name):
        return await provider.begin(_redirect_uri(visit, name), next_path, permit=permit, again=again)


async def sign_out_url(visit: Visit, name: str) -> str | None:
    """Return where the browser ends its session at a provider; None if the provider has no such page.

    Raises NotFound, and Unavailable if the provider fails.
    """
    provider = _provider(visit, name)
    with _errors(visit, name):
        return await provider.sign_out_url(f"{visit.sent_url}/dashboard/sign-in")


def response_of(visit: Visit, name: str, cookie: str) -> ProviderResponse:
    """Return the response that a browser brings back. Raises NotFound, and Unauthorized without a started sign-in."""
    provider, pending = _provider(visit, name), PendingSignIn.of_cookie(cookie)
    # Also checks the provider's name: a response of one must not be taken for a response of another.
    if pending is None or pending.provider != name:
        raise Unauthorized("This sign-in was not started in this browser, or took too long. Sign in again.")
    return ProviderResponse(provider, pending, visit.query, _redirect_uri(visit, name))


async def finish(visit: Visit, response: ProviderResponse) -> NewSession:
    """Open a session for a user who returns from a provider.

    Raises Unauthorized, LockedOut, Locked, and Unavailable if the provider fails.
    """
    with _errors(visit, response.pending.provider):
        return await identities.sign_in(visit.control, visit.services.authenticator, response, visit.browser)


async def connect(visit: Visit, response: ProviderResponse) -> None:
    """Connect an account to the user who is signed in. Raises what `finish` raises."""
    with _errors(visit, response.pending.provider):
        await identities.connect(visit.control, visit.principal, response)


@contextmanager
def _errors(visit: Visit, name: str) -> Iterator[None]:
    """Raise errors of a provider as errors that pages show."""
    try:
        yield
    except SignInRefused as error:
        raise Unauthorized(str(error)) from error
    except ProviderFailed as error:
        visit.services.log.warning("identity_provider_failed", provider=name, reason=str(error))
        raise Unavailable(str(error)) from error


def _provider(visit: Visit, name: str) -> Provider:
    provider = visit.providers.get(name)
    if provider is None:
        raise NotFound("There is no such identity provider.")
    return provider


def _redirect_uri(visit: Visit, name: str) -> str:
    return f"{visit.sent_url}/dashboard/sign-in/{name}/callback"
