"""Roles: each includes the roles below it, and none but the owner's reaches what a role must not."""

from itertools import pairwise, product

import pytest

from discue.dashboard.users.users import ROLES, may_manage, scopes_of_role
from discue.domain.model import Role
from discue.domain.scopes import PROTECTED, RESOURCES, all_scopes


def test_owner_has_every_scope() -> None:
    assert scopes_of_role("owner") == all_scopes()


@pytest.mark.parametrize(("higher", "lower"), list(pairwise(ROLES)))
def test_role_includes_the_next_lower_one_and_more(higher: Role, lower: Role) -> None:
    above, below = scopes_of_role(higher), scopes_of_role(lower)
    assert all(above[resource].covers(scope) for resource, scope in below.items())
    assert not all(name in below and below[name].covers(scope) for name, scope in above.items())


def test_roles_below_the_owner_write_no_protected_resource_that_they_must_not() -> None:
    written = {
        role: {name for name, scope in scopes_of_role(role).items() if scope.access == "write" and name in PROTECTED}
        for role in ROLES
    }
    assert written == {
        "owner": PROTECTED,
        "admin": {"api_keys", "portal", "users"},
        "developer": set(),
        "viewer": set(),
    }


def test_viewer_only_reads_and_sees_neither_keys_nor_users() -> None:
    scopes = scopes_of_role("viewer")
    assert {scope.access for scope in scopes.values()} == {"read"}
    assert set(RESOURCES) - scopes.keys() == PROTECTED


@pytest.mark.parametrize(("own", "other"), list(product(ROLES, ROLES)))
def test_user_manages_users_whose_role_is_not_above_their_own(own: Role, other: Role) -> None:
    includes = all(name in scopes_of_role(own) for name in scopes_of_role(other))
    assert may_manage(own, other) == (includes and ROLES.index(own) <= ROLES.index(other))
