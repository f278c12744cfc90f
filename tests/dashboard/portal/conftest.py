"""Customers with queues of their own, and with endpoints at a shared queue, and messages that they have received."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.control.conftest import cast, control, engine_name, pytest_pyfunc_call, runner
from tests.store.conftest import store
from tests.support.dashboard_shop import BEHAVIOURS, ShopSender
from tests.support.dashboards import DashboardService, dashboard_service
from tests.support.portals import Customer, opened, own_queue
from tests.support.postgres.cluster import Cluster
from tests.support.postgres.fixtures import new_database

__all__ = ["cast", "control", "engine_name", "pytest_pyfunc_call", "runner", "store"]

HOSTS = "http://hooks.example.com:9001"
REFUSING = "http://hooks.example.com:9003"
SECRET = 987_654
"""The number of an order that acme must not see."""
SCHEMA = {
    "type": "object",
    "title": "Paid orders",
    "properties": {"order": {"type": "integer", "examples": [4711]}, "total": {"type": "number"}},
}


@dataclass(frozen=True)
class Endpoint:
    """A listener, and a message that it has received."""

    queue: str
    listener: str
    message: str

    @property
    def path(self) -> str:
        return f"/queues/{self.queue}/listeners/{self.listener}"

    @property
    def message_path(self) -> str:
        return f"/queues/{self.queue}/messages/{self.message}"


@dataclass(frozen=True)
class Tenants:
    """The endpoints of customers, and those of the organization."""

    own: Endpoint
    """In the queue of acme."""
    foreign: Endpoint
    """In the queue of globex."""
    acme: Endpoint
    """In the shared queue, like the others below."""
    globex: Endpoint
    internal: Endpoint
    """It has no customer."""
    narrow: Endpoint
    """It belongs to initech. Its filter matches only this message, which acme has received as well."""
    audit: str
    """A queue without listeners."""

    @property
    def queue(self) -> str:
        """The shared queue."""
        return self.acme.queue

    @property
    def message(self) -> str:
        """A message of the shared queue, received by acme, globex and the internal listener; not by initech."""
        return self.acme.message


def made(api: httpx.Client, path: str, **fields: Any) -> str:
    """Create a resource and return its id."""
    answer = api.post(path, json=fields)
    assert answer.status_code == 200, answer.text
    return next(str(value["id"]) for name, value in answer.json().items() if name != "_links")


@pytest.fixture
def service_on_postgresql(
    tmp_path: Path, postgres_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DashboardService]:
    monkeypatch.setattr(ShopSender, "behaviours", BEHAVIOURS)
    with (
        new_database(postgres_cluster) as database,
        dashboard_service(tmp_path, ShopSender, database=database) as running,
    ):
        yield running
        assert running.log.errors == []


def settle_in(service: DashboardService) -> Tenants:
    """Create the queues, the endpoints and the messages."""
    owned = {
        name: own_queue(service, name, json_schema={**SCHEMA, "title": title})
        for name, title in (("acme", "Paid orders"), ("globex", "Orders of globex"))
    }
    with service.api() as api:
        shared = made(api, "/queues", alias="order.paid", json_schema=SCHEMA)
        audit = made(api, "/queues", alias="internal.audit")
        path = f"/queues/{shared}/listeners"
        filter_of_acme = {"data": {"order": {"$lt": 100}}}
        acme = made(api, path, notify_url=f"{HOSTS}/acme", customer="acme", filter=filter_of_acme)
        globex = made(api, path, notify_url=f"{HOSTS}/globex", customer="globex", alias="globex-private")
        internal = made(api, path, notify_url=f"{HOSTS}/internal", alias="ledger-internal")
        narrow = made(api, path, notify_url=f"{HOSTS}/initech", customer="initech", filter={"data": {"order": 2}})
        message = made(api, f"/queues/{shared}/messages", data={"order": 1, "total": 12.5})
        narrow_message = made(api, f"/queues/{shared}/messages", data={"order": 2, "total": 3})
        secret = made(api, f"/queues/{shared}/messages", data={"order": SECRET})

        def endpoint_of(customer: str, order: int) -> Endpoint:
            queue = owned[customer]
            listener = made(api, f"/queues/{queue}/listeners", notify_url=f"{HOSTS}/{customer}/own")
            return Endpoint(queue, listener, made(api, f"/queues/{queue}/messages", data={"order": order}))

        own, foreign = endpoint_of("acme", 1), endpoint_of("globex", SECRET)
        service.settle()
    return Tenants(
        own=own,
        foreign=foreign,
        acme=Endpoint(shared, acme, message),
        globex=Endpoint(shared, globex, secret),
        internal=Endpoint(shared, internal, secret),
        narrow=Endpoint(shared, narrow, narrow_message),
        audit=audit,
    )


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DashboardService]:
    """A service without the catalogue of the shop, which the pages of customers would show."""
    ShopSender.behaviours = BEHAVIOURS
    with dashboard_service(tmp_path_factory.mktemp("portal"), ShopSender) as running:
        yield running
        assert running.log.errors == []


@pytest.fixture(scope="session")
def tenants(service: DashboardService) -> Tenants:
    return settle_in(service)


@pytest.fixture
def acme(service: DashboardService, tenants: Tenants) -> Customer:
    """A browser in a session of acme for all of its queues, with the default permissions."""
    return opened(service, "acme")


@pytest.fixture
def sharing(service: DashboardService, tenants: Tenants) -> Customer:
    """A browser in a session of acme for the shared queue, with the default permissions."""
    return opened(service, "acme", tenants.queue)
