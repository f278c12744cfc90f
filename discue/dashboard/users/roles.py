"""Roles of users: each is a set of scopes, and includes the roles below it."""

from collections.abc import Mapping
from typing import Final, get_args

from discue.domain.model import Role
from discue.domain.scopes import PROTECTED, RESOURCES, Access, Scope, Scopes, all_scopes

ROLES: Final[tuple[Role, ...]] = get_args(Role)
"""All roles, the most powerful first."""

_OBSERVED: Final = ("channels", "domains", "events", "listeners", "messages", "queues", "schemas", "stats", "topics")
_DEVELOPED: Final = ("channels", "domains", "listeners", "messages", "queues", "schemas", "topics")
_UNPROTECTED: Final = tuple(resource for resource in RESOURCES if resource not in PROTECTED)


def _scopes(*granted: tuple[Access, tuple[str, ...]]) -> Scopes:
    """Return scopes on all targets. Later access to a resource replaces earlier access."""
    return {resource: Scope(access) for access, resources in granted for resource in resources}


_SCOPES: Final[Mapping[Role, Scopes]] = {
    "owner": all_scopes(),
    # Organizations are read only: an owner sets the limits, and deletes the organization.
    "admin": _scopes(("write", (*_UNPROTECTED, "api_keys", "portal", "users")), ("read", ("api_clients",))),
    "developer": _scopes(("read", (*_OBSERVED, "api_keys", "users")), ("write", _DEVELOPED)),
    "viewer": _scopes(("read", _OBSERVED)),
}


def scopes_of_role(role: Role) -> Scopes:
    """Return the scopes of a role."""
    return _SCOPES[role]


def may_manage(own: Role, other: Role) -> bool:
    """Return whether a user with the role `own` may grant the role `other`, and change users who have it.

    Otherwise an admin could become an owner, or take over the account of one.
    """
    return ROLES.index(own) <= ROLES.index(other)
