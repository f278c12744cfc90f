from pathlib import Path

import pytest
from discue.testing import ApplicationListener, Kit

from app import app, transaction


@pytest.fixture
def warehouse(discue: Kit, tmp_path: Path) -> ApplicationListener:
    app.config["DATABASE"] = str(tmp_path / "warehouse.db")
    app.test_cli_runner().invoke(args=["create-tables"])
    return discue.deliver_to(app, "/orders", queue="orders")


def chairs() -> int:
    with transaction() as database:
        (quantity,) = database.execute("SELECT quantity FROM stock WHERE product = 'chair'").fetchone()
        return int(quantity)


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
    with transaction() as database:
        database.execute("UPDATE stock SET quantity = 20")
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
    response = app.test_client().post("/orders", json={"order": 17, "product": "chair", "quantity": 2})

    assert response.status_code == 401
    assert chairs() == 10
