"""Every operation checks the scopes of its caller itself."""

from types import ModuleType
from typing import Any

import pytest

from discue.control import api_keys, domains, organizations, queues, topics
from discue.control.context import ControlContext
from discue.dashboard.users import users
from discue.domain.aliases import NameFields
from discue.domain.errors import Forbidden
from discue.domain.scopes import Principal, Scope
from tests.support.cast import Cast

NAMED, OTHER = "a" * 21, "b" * 21
OPERATIONS: dict[str, tuple[ModuleType, Any]] = {
    "api_clients": (organizations, organizations.OrganizationFields()),
    "api_keys": (api_keys, api_keys.KeyFields()),
    "domains": (domains, domains.DomainFields(hostname="shop.example.com")),
    "queues": (queues, queues.QueueFields()),
    "topics": (topics, NameFields()),
    "users": (users, users.UserFields(email="ada@example.com", role="viewer")),
}


@pytest.mark.parametrize("scope", [Scope("write", (NAMED,)), Scope("read")], ids=["other target", "read"])
@pytest.mark.parametrize("resource", OPERATIONS)
async def test_operation_beyond_the_scope_of_a_key_is_refused(
    cast: Cast, control: ControlContext, resource: str, scope: Scope
) -> None:
    (verbs, fields), alice = OPERATIONS[resource], cast.alice.principal
    scopes = {resource: scope}
    bob = Principal(alice.organization, alice.organization_public_id, 0, "0" * 21, scopes, is_operator=False)
    refused = [
        verbs.create(control, bob, fields),
        verbs.change(control, bob, OTHER, fields),
        verbs.delete(control, bob, OTHER),
        *([verbs.get(control, bob, OTHER)] if scope.access == "write" else []),
    ]
    for operation in refused:
        with pytest.raises(Forbidden):
            await operation
