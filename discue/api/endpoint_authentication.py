"""How requests authenticate to a listener: the field `authentication` of listeners."""

from typing import Annotated, Final

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import asdict

from discue.api.structs import doc
from discue.crypto.endpoint_credentials import (
    MAX_PEM_CHARACTERS,
    MAX_SECRET_CHARACTERS,
    MAX_USERNAME_CHARACTERS,
    TYPES,
    AuthenticationFields,
)
from discue.domain.model import Authentication

URL_LIMITS: Final = {"minLength": 4, "maxLength": 253, "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://[^#]+$"}
"""Limits of URLs that requests are sent to."""

_SECRET_TEXT: Final = {"minLength": 1, "maxLength": MAX_SECRET_CHARACTERS}
_PEM: Final = {"minLength": 1, "maxLength": MAX_PEM_CHARACTERS}
_AUTHENTICATION_TYPE: Final = doc("The authentication scheme.", "oauth2", enum=list(TYPES))
_USERNAME: Final = doc(
    "`basic`: the user name, without a colon.", "discue", minLength=1, maxLength=MAX_USERNAME_CHARACTERS
)
_TOKEN_URL: Final = doc("`oauth2`: the token endpoint.", "https://login.example.com/token", **URL_LIMITS)
_CLIENT_ID: Final = doc("`oauth2`: the client id.", "discue", **_SECRET_TEXT)
_SCOPE: Final = doc("`oauth2`: the requested scopes.", "orders:write", **_SECRET_TEXT)
_AUDIENCE: Final = doc(
    "`oauth2`: the audience of the token, if the token endpoint requires one.", "orders", **_SECRET_TEXT
)
_CERTIFICATE: Final = doc(
    "`certificate`: the client certificate in PEM, followed by its intermediate certificates.",
    "-----BEGIN CERTIFICATE-----\n…",
    **_PEM,
)


class AuthenticationBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """How requests authenticate to the listener. The type decides which of the other fields are needed."""

    type: Annotated[str, _AUTHENTICATION_TYPE]
    username: Annotated[str | None, _USERNAME] = None
    password: Annotated[
        str | None, doc("`basic`: the password. Never shown.", "correct horse battery", **_SECRET_TEXT)
    ] = None
    token_url: Annotated[str | None, _TOKEN_URL] = None
    client_id: Annotated[str | None, _CLIENT_ID] = None
    client_secret: Annotated[
        str | None, doc("`oauth2`: the client secret. Never shown.", "correct horse battery", **_SECRET_TEXT)
    ] = None
    scope: Annotated[str | None, _SCOPE] = None
    audience: Annotated[str | None, _AUDIENCE] = None
    certificate: Annotated[str | None, _CERTIFICATE] = None
    private_key: Annotated[
        str | None,
        doc(
            "`certificate`: the private key in PEM, not encrypted. Never shown.",
            "-----BEGIN PRIVATE KEY-----\n…",
            **_PEM,
        ),
    ] = None

    def __repr__(self) -> str:
        return f"AuthenticationBody(type={self.type!r})"


class AuthenticationView(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """How requests authenticate to the listener, without secrets."""

    type: Annotated[str, _AUTHENTICATION_TYPE]
    username: Annotated[str | UnsetType, _USERNAME] = UNSET
    token_url: Annotated[str | UnsetType, _TOKEN_URL] = UNSET
    client_id: Annotated[str | UnsetType, _CLIENT_ID] = UNSET
    scope: Annotated[str | UnsetType, _SCOPE] = UNSET
    audience: Annotated[str | UnsetType, _AUDIENCE] = UNSET
    certificate: Annotated[str | UnsetType, _CERTIFICATE] = UNSET


def authentication_given(sent: AuthenticationBody | None | UnsetType) -> AuthenticationFields | None | UnsetType:
    """Return the authentication that was sent, if it was."""
    return AuthenticationFields(**asdict(sent)) if isinstance(sent, AuthenticationBody) else sent


def authentication_view(stored: Authentication | None) -> AuthenticationView | UnsetType:
    """Return the authentication without its secrets, if one was set."""
    if stored is None:
        return UNSET
    return AuthenticationView(**{name: value for name, value in asdict(stored).items() if value})
