import pytest
from discue.testing import ApplicationListener, Kit
from django.test import Client

from warehouse.models import Stock
from warehouse.wsgi import application

# The application has a connection of its own, on another thread.
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def warehouse(discue: Kit) -> ApplicationListener:
    Stock.objects.create(product="chair", quantity=10)
    return discue.deliver_to(application, "/orders", queue="orders")


def chairs() -> int:
    quantity: int = Stock.objects.get(product="chair").quantity
    return quantity


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
    Stock.objects.update(quantity=20)
    discue.clock.advance("59m")
    warehouse.assert_acknowledged(0)
    discue.clock.advance("1m")

    warehouse.assert_acknowledged(1)
    assert chairs() == 9


def test_order_of_nothing_is_not_sent_again(discue: Kit, warehouse: ApplicationListener) -> None:
    discue.publish("orders", {"order": 17, "product": "chair", "quantity": 0})
    discue.clock.advance("1d")

    assert [attempt.status for attempt in warehouse.attempts] == [422]


def test_order_of_a_stranger_is_refused(warehouse: ApplicationListener, client: Client) -> None:
    response = client.post("/orders", {"order": 17, "product": "chair", "quantity": 2}, "application/json")

    assert response.status_code == 401
    assert chairs() == 10
