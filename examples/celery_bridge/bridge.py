"""Starts a Celery task for each message of a queue."""

import logging
import signal

from discue_client import Delivery, Discue, Retry
from kombu.exceptions import OperationalError

from tasks import confirm


def start_task(delivery: Delivery) -> None:
    """Hand a message to Celery. A normal return acknowledges it: the broker has the task."""
    try:
        confirm.apply_async([delivery.data], task_id=delivery.id)
    except OperationalError as error:
        raise Retry(after=10) from error  # The broker is away. The message waits, and no attempt is counted.


def main() -> None:
    logging.basicConfig()
    with Discue() as client:
        consumer = client.consume("orders", listener="celery", concurrency=10)
        signal.signal(signal.SIGTERM, lambda *_: consumer.stop())
        consumer.run(start_task)


if __name__ == "__main__":
    main()
