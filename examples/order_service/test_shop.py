import json
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from discue.testing import Kit, Received
from discue_client import outbox
from fastapi.testclient import TestClient
from sqlalchemy import create_engine, func, select

import shop
from models import Base, Order, Session

ORDER = {"customer": "customer-9", "product": "chair", "quantity": 2}


@pytest.fixture
def client(discue: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """The running application, with its relay."""
    for name, value in discue.environ.items():
        monkeypatch.setenv(name, value)
    engine = create_engine(f"sqlite:///{tmp_path}/shop.db")
    monkeypatch.setattr(shop, "engine", engine)
    Session.configure(bind=engine)
    Base.metadata.create_all(engine)
    discue.queue("orders")
    with TestClient(shop.app, raise_server_exceptions=False) as client:
        yield client
    engine.dispose()


@pytest.fixture
def received(discue: Kit) -> Queue[object]:
    """The orders that a listener gets."""
    orders: Queue[object] = Queue()

    def receive(request: Received) -> int:
        orders.put(json.loads(request.body))
        return 204

    discue.listener("orders").callback(receive)
    return orders


def stored_orders() -> int:
    with Session() as session:
        return session.scalars(select(func.count()).select_from(Order)).one()


def test_order_is_stored_and_announced(discue: Kit, client: TestClient, received: Queue[object]) -> None:
    response = client.post("/orders", json=ORDER)

    assert response.json() == {"order": 1}
    assert received.get(timeout=30) == {"order": 1, **ORDER}
    assert stored_orders() == 1
    discue.assert_published("orders", key="customer-9", count=1)


def test_order_is_accepted_while_discue_is_away(discue: Kit, client: TestClient, received: Queue[object]) -> None:
    with discue.unavailable():
        assert client.post("/orders", json=ORDER).status_code == 201

    assert received.get(timeout=30) == {"order": 1, **ORDER}


def test_order_that_fails_is_not_announced(
    discue: Kit, client: TestClient, received: Queue[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = outbox.publish

    def publish_and_fail(*arguments: Any, **fields: Any) -> None:
        publish(*arguments, **fields)
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(outbox, "publish", publish_and_fail)
        assert client.post("/orders", json=ORDER).status_code == 500
    client.post("/orders", json={**ORDER, "quantity": 1})

    assert received.get(timeout=30) == {"order": 1, **ORDER, "quantity": 1}
    assert stored_orders() == 1
    discue.assert_published("orders", count=1)
