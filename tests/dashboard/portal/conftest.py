"""Two customers who have endpoints at the same queue, and one message that each has received."""

from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.dashboards import DashboardService
from tests.support.portals import Customer, opened

HOSTS = "http://hooks.example.com:9001"
REFUSING = "http://hooks.example.com:9003"


@dataclass
class Tenants:
    """The ids of what two customers have."""

    queue: str
    other_queue: str
    acme: str
    """The endpoint of the customer `acme`; in the same way that of `globex`, and one of no customer."""
    globex: str
    internal: str
    narrow: str
    """An endpoint of `initech`, whose filter matches only some messages."""
    message: str
    """Received by acme, globex and the internal listener; not by initech."""
    narrow_message: str
    """Received by initech, too."""

    def endpoint(self, name: str) -> str:
        return f"/queues/{self.queue}/listeners/{getattr(self, name)}"


def settle_in(service: DashboardService) -> Tenants:
    """Create the queues, the endpoints and the messages."""
    with service.api() as api:

        def made(path: str, **fields: Any) -> str:
            answer = api.post(path, json=fields)
            assert answer.status_code == 200, answer.text
            return next(str(value["id"]) for name, value in answer.json().items() if name != "_links")

        schema = {
            "type": "object",
            "title": "Paid orders",
            "properties": {"order": {"type": "integer", "examples": [4711]}, "total": {"type": "number"}},
        }
        queue = made("/queues", alias="order.paid", json_schema=schema)
        other = made("/queues", alias="internal.audit")
        path = f"/queues/{queue}/listeners"
        acme = made(path, notify_url=f"{HOSTS}/acme", customer="acme")
        globex = made(path, notify_url=f"{HOSTS}/globex", customer="globex", alias="globex-private")
        internal = made(path, notify_url=f"{HOSTS}/internal", alias="ledger-internal")
        narrow = made(path, notify_url=f"{HOSTS}/initech", customer="initech", filter={"data": {"order": 2}})
        message = made(f"/queues/{queue}/messages", data={"order": 1, "total": 12.5})
        narrow_message = made(f"/queues/{queue}/messages", data={"order": 2, "total": 3})
        service.settle()
    return Tenants(queue, other, acme, globex, internal, narrow, message, narrow_message)


@pytest.fixture(scope="session")
def tenants(service: DashboardService) -> Tenants:
    return settle_in(service)


@pytest.fixture
def acme(service: DashboardService, tenants: Tenants) -> Customer:
    """A browser in a session of acme, which may do everything."""
    return opened(service, "acme", tenants.queue)
