"""Tasks of a shop."""

import os
from typing import Any

import httpx2
from celery import Celery, Task

BROKER = os.environ.get("CELERY_BROKER_URL", "amqp://")

app = Celery("shop", broker=BROKER)
if BROKER.startswith("amqp"):
    # RabbitMQ confirms that it has stored a task, before the bridge acknowledges the message.
    app.conf.broker_transport_options = {"confirm_publish": True}


@app.task(bind=True, acks_late=True, autoretry_for=(httpx2.HTTPError,), retry_backoff=True, max_retries=10)
def confirm(self: Task, order: dict[str, Any]) -> None:
    """Mail a confirmation to the customer of an order."""
    response = httpx2.post(
        os.environ["MAIL_URL"],
        json={"to": order["mail"], "text": f"Thank you for order {order['order']}."},
        # The id of the message, the same if it comes twice: the customer gets one mail.
        headers={"Authorization": f"Bearer {os.environ['MAIL_KEY']}", "Idempotency-Key": self.request.id},
    )
    response.raise_for_status()
