"""Takes the goods of each order from stock."""

from dataclasses import dataclass

from discue_client import DoNotRetry, Event, Retry, Webhook
from discue_client.adapters.django import verified
from discue_client.inbox.django import once
from django.db.models import F
from django.http import HttpRequest

from warehouse.models import Stock

webhook = Webhook()  # The secret is in DISCUE_WEBHOOK_SECRET.


@dataclass
class Order:
    product: str
    quantity: int


@verified(webhook, Order)
def receive(request: HttpRequest, event: Event[Order]) -> None:
    order = event.data
    if order.quantity < 1:
        raise DoNotRetry  # It will never be right: discue lists it as missed.
    with once(event) as first:
        if not first:
            return  # discue did not see the first response, and sent the message again.
        stock = Stock.objects.filter(product=order.product, quantity__gte=order.quantity)
        if not stock.update(quantity=F("quantity") - order.quantity):
            raise Retry(after=3600)  # Sold out: the transaction is rolled back.
