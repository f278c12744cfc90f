"""The identity providers of a page's visitors: how a sign-in begins, and their errors as errors that pages show."""

from collections.abc import Iterator
from contextlib import contextmanager

from discue.dashboard.users.provider import Provider, ProviderFailed, Redirection, SignInRefused
from discue.dashboard.visit import Visit
from discue.domain.errors import NotFound, Unauthorized, Unavailable


def providers_offered(visit: Visit) -> list[tuple[str, str]]:
    return [(name, provider.settings.title) for name, provider in visit.providers.items()]


async def begin(visit: Visit, name: str, next_path: str = "", *, permit: str = "") -> Redirection:
    """Start a sign-in or, with a permit, the connection of an account.

    Without a permit, a user who is already signed in must sign in again at the provider. Raises NotFound and
    ProviderFailed.
    """
    again = visit.signed_in is not None and not permit
    return await provider_of(visit, name).begin(redirect_uri(visit, name), next_path, permit=permit, again=again)


@contextmanager
def shown_errors(visit: Visit, name: str) -> Iterator[None]:
    """Raise Unauthorized and Unavailable in place of the errors of a provider, and log that it failed."""
    try:
        yield
    except SignInRefused as error:
        raise Unauthorized(str(error)) from error
    except ProviderFailed as error:
        visit.services.log.warning("identity_provider_failed", provider=name, reason=str(error))
        raise Unavailable(str(error)) from error


def provider_of(visit: Visit, name: str) -> Provider:
    """Return the provider with a name. Raises NotFound."""
    provider = visit.providers.get(name)
    if provider is None:
        raise NotFound("There is no such identity provider.")
    return provider


def redirect_uri(visit: Visit, name: str) -> str:
    return f"{visit.sent_url}/dashboard/sign-in/{name}/callback"
