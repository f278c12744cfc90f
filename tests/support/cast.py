"""The cast of the tests: alice owns an organization, bob has a narrow key in it, charlie belongs to another one.

Olga is the operator. Each is authenticated by a key, so the key's scopes decide what they may do.
"""

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from discue.auth.control_plane_cache import ControlPlaneCache
from discue.config.settings import Settings
from discue.control import api_keys, organizations
from discue.control.api_keys import KeyFields
from discue.control.context import ControlContext
from discue.control.hosts import HostChecks
from discue.control.organizations import OrganizationFields
from discue.crypto.passwords import PasswordHashing
from discue.domain.clock import Clock
from discue.domain.egress import EgressPolicy, IPAddress
from discue.domain.ids import PublicIds, RandomText, RowIds
from discue.domain.scopes import Principal, Scope
from discue.publishing.publish import Publisher
from discue.publishing.quota_gate import QuotaGate
from discue.store.store import Store
from tests.support.clocks import StandingClock
from tests.support.passwords import CHEAP
from tests.support.stores import opened_store


class Person(msgspec.Struct, frozen=True):
    """Somebody, by the key they hold."""

    principal: Principal
    key: str


class Cast(msgspec.Struct, frozen=True):
    """The people, and the control plane that they use."""

    control: ControlContext
    clock: StandingClock
    olga: Person
    alice: Person
    charlie: Person

    async def bob(self, scopes: Mapping[str, Scope]) -> Person:
        """Alice's colleague, whose key can do no more than this."""
        made = await api_keys.create(self.control, self.alice.principal, KeyFields(scopes=scopes))
        return await present(self.control, made.text)


async def present(control: ControlContext, key: str) -> Person:
    record = await control.cache.authenticate(key)
    return Person(record.principal, key)


def control_of(store: Store, clock: Clock) -> ControlContext:
    settings = Settings()
    return ControlContext(
        store=store,
        cache=ControlPlaneCache(store, clock, max_message_bytes=settings.max_message_bytes),
        clock=clock,
        public_ids=PublicIds(clock, os.urandom),
        row_ids=RowIds(clock),
        random_text=RandomText(os.urandom),
        random_bytes=os.urandom,
        egress=EgressPolicy(),
        settings=settings,
        passwords=PasswordHashing(CHEAP),
        hosts=HostChecks(_unresolved),
    )


async def _unresolved(host: str, port: int) -> list[IPAddress]:
    raise OSError("tests have no name server")


def publisher_of(control: ControlContext, cache: ControlPlaneCache | None = None) -> Publisher:
    """Return what publishes, with quotas of its own, as each worker has them."""
    quotas = QuotaGate(control.store, control.clock, control.row_ids)
    return Publisher(control.store, cache or control.cache, control.clock, control.public_ids, quotas, control.row_ids)


@contextmanager
def assembled(runner: asyncio.Runner, folder: Path, engine_name: str = "sqlite") -> Iterator[Cast]:
    """Everybody, on a new database."""
    with opened_store(runner, engine_name, folder) as store:
        clock = StandingClock()
        yield runner.run(_assemble(control_of(store, clock), clock))


async def _assemble(control: ControlContext, clock: StandingClock) -> Cast:
    _, key = await organizations.ensure_operator(control, "com.example.operator", None)
    assert key is not None
    olga = await present(control, key)
    return Cast(
        control=control,
        clock=clock,
        olga=olga,
        alice=await _owner(control, olga, "com.example.alice"),
        charlie=await _owner(control, olga, "com.example.charlie"),
    )


async def _owner(control: ControlContext, operator: Person, alias: str) -> Person:
    created = await organizations.create(control, operator.principal, OrganizationFields(alias))
    return await present(control, created.first_key.text)
