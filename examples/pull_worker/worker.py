"""Charges the customer of each order through the API of a payment provider."""

import logging
import os
import signal
from dataclasses import dataclass
from functools import partial

import httpx2
from discue_client import Delivery, Discue, Retry


@dataclass
class Order:
    order: int
    customer: str
    cents: int


def handle(client: Discue, provider: httpx2.Client, delivery: Delivery) -> None:
    """Handle a message. A normal return acknowledges it; an error is logged, and the message comes again."""
    order = delivery.data_as(Order)
    charge = {"customer": order.customer, "cents": order.cents}
    # A message can come twice, under one id. The provider charges the customer once for it.
    key = {"Idempotency-Key": delivery.id}
    try:
        response = provider.post(os.environ["PAYMENTS_URL"], json=charge, headers=key)
    except httpx2.TransportError as error:
        raise Retry(after=60) from error  # This does not count as an attempt.
    if response.status_code == 429 or response.is_server_error:
        raise Retry(after=60)
    state = "declined" if response.status_code == 402 else "charged"
    if state == "charged":
        response.raise_for_status()
    client.publish("payments", {"order": order.order, "state": state}, idempotency_key=delivery.id)


def main() -> None:
    logging.basicConfig()
    provider = httpx2.Client(auth=("", os.environ["PAYMENTS_KEY"]))
    with Discue() as client, provider:
        consumer = client.consume("orders", listener="payments", concurrency=10)
        signal.signal(signal.SIGTERM, lambda *_: consumer.stop())
        consumer.run(partial(handle, client, provider))


if __name__ == "__main__":
    main()
