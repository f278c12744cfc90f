from collections.abc import Iterator
from pathlib import Path

import pytest
from discue.testing import ApplicationListener, Kit
from fastapi.testclient import TestClient
from sqlalchemy import create_engine, update

from database import Session, Stock, create_tables
from main import app


@pytest.fixture
def warehouse(discue: Kit, tmp_path: Path) -> Iterator[ApplicationListener]:
    engine = create_engine(f"sqlite:///{tmp_path}/warehouse.db")
    Session.configure(bind=engine)
    create_tables()
    yield discue.deliver_to(app, "/orders", queue="orders")
    engine.dispose()


def chairs() -> int:
    with Session() as session:
        return session.get_one(Stock, "chair").quantity


def test_goods_are_taken_from_stock(discue: Kit, warehouse: ApplicationListener) -> None:
    discue.publish("orders", {"order": 17, "product": "chair", "quantity": 2})
    discue.settled()

    warehouse.assert_acknowledged(1)
    assert chairs() == 8


def test_order_that_arrives_twice_is_handled_once(discue: Kit, warehouse: ApplicationListener) -> None:
    message = discue.publish("orders", {"order": 17, "product": "chair", "quantity": 2})
    discue.settled()
    discue.client.redeliveries.create("orders", warehouse.id, messages=[message.id])
    discue.settled()

    warehouse.assert_received(2)
    assert chairs() == 8


def test_order_waits_for_goods_that_are_sold_out(discue: Kit, warehouse: ApplicationListener) -> None:
    discue.publish("orders", {"order": 17, "product": "chair", "quantity": 11})
    discue.settled()
    with Session.begin() as session:
        session.execute(update(Stock).values(quantity=20))
    discue.clock.advance("59m")
    warehouse.assert_acknowledged(0)
    discue.clock.advance("1m")

    warehouse.assert_acknowledged(1)
    assert chairs() == 9


def test_order_of_nothing_is_not_sent_again(discue: Kit, warehouse: ApplicationListener) -> None:
    discue.publish("orders", {"order": 17, "product": "chair", "quantity": 0})
    discue.clock.advance("1d")

    assert [attempt.status for attempt in warehouse.attempts] == [422]


def test_order_of_a_stranger_is_refused(warehouse: ApplicationListener) -> None:
    response = TestClient(app).post("/orders", json={"order": 17, "product": "chair", "quantity": 2})

    assert response.status_code == 401
    assert chairs() == 10
