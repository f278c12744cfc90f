"""What of a listener's credentials goes into requests, and by which way."""

from urllib.parse import quote_plus, urlencode

import msgspec

from discue.crypto.endpoint_credentials import Credentials, basic_authorization
from discue.domain.egress import Target, parse_target
from discue.domain.headers import Headers


class Identity(msgspec.Struct, frozen=True):
    """A client's certificate in TLS, with its key: both in PEM. A connection belongs to its `name`."""

    name: str
    certificate: str
    private_key: str

    def __repr__(self) -> str:
        return f"Identity({self.name!r})"


class Grant(msgspec.Struct, frozen=True):
    """What an access token is asked for with: credentials of a client (RFC 6749, 4.4)."""

    name: str
    target: Target
    authorization: str
    form: bytes

    def __repr__(self) -> str:
        return f"Grant({self.name!r})"


class Presented(msgspec.Struct, frozen=True):
    """Headers to be sent, what gets a token for another one, or what a connection is made with."""

    headers: Headers = ()
    grant: Grant | None = None
    identity: Identity | None = None

    def __repr__(self) -> str:
        return f"Presented(grant={self.grant!r}, identity={self.identity!r})"


NOTHING = Presented()


def presented(credentials: Credentials | None, listener_public_id: str) -> Presented:
    """A listener's: nobody else's token and connections are ever used for it. Raises Unprocessable."""
    if credentials is None:
        return NOTHING
    public, name = credentials.public, f"{listener_public_id}-{credentials.name}"
    if public.type == "basic":
        return Presented(headers=(("authorization", basic_authorization(public.username, credentials.secret)),))
    if public.type == "certificate":
        return Presented(identity=Identity(name, public.certificate, credentials.secret))
    form = {"grant_type": "client_credentials", "scope": public.scope, "audience": public.audience}
    return Presented(
        grant=Grant(
            name=name,
            target=parse_target(public.token_url, "/authentication/token_url"),
            # Both are encoded as in a form before (RFC 6749, 2.3.1).
            authorization=basic_authorization(quote_plus(public.client_id), quote_plus(credentials.secret)),
            form=urlencode({key: value for key, value in form.items() if value}).encode(),
        )
    )
