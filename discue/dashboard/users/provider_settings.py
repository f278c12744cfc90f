"""The file with the identity providers whose users may sign in."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from discue.dashboard.users.id_token import ALGORITHMS
from discue.dashboard.users.roles import ROLES
from discue.domain.egress import Target, parse_target
from discue.domain.errors import SettingsInvalid, Unprocessable
from discue.domain.model import Role

_NAME: Final = re.compile("[a-z0-9-]{1,32}")
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})


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

    def __repr__(self) -> str:
        return f"ProviderSettings(name={self.name!r}, issuer={self.issuer!r})"

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
    """Return the first rule that a provider breaks."""
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
