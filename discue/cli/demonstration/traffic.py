"""The traffic of the shop: the past day on a clock that is moved, then a few messages per minute."""

import asyncio
import math
from contextlib import suppress
from random import Random
from typing import Any, Final

from discue.cli.demonstration.endpoints import HOUR_MS, MINUTE_MS, ShopSender
from discue.cli.demonstration.shop import CONSUMER, EMAILS, INVOICES, MERCHANTS, ORDERS, TOPIC
from discue.server.activity import WorkerActivity
from discue.testing.clock import MovableClock
from discue_client import APIError, AsyncDiscue

BUSIEST_AN_HOUR: Final = 90
"""Messages of the past day in its busiest hour. At night there are a quarter of them."""

_BUSIEST_HOUR: Final = 19
_CUSTOMERS: Final = 40
_PULLED: Final = 100
_PULL_EVERY_MS: Final = 10 * MINUTE_MS
_PULL_WAIT_SECONDS: Final = 5
_SKUS: Final = ("mug-blue", "poster-a2", "tee-m-black", "lamp-brass", "notebook", "tote-bag", "vase-green", "candle")
_COUNTRIES: Final = ("DE", "DE", "DE", "AT", "CH", "FR", "NL", "GB")
_CURRENCIES: Final = {"CH": "CHF", "GB": "GBP"}
_TEMPLATES: Final = ("order-confirmation", "parcel-shipped", "review-request", "password-reset")
_STATES: Final = ("created", "created", "created", "paid", "paid", "shipped")
_IDLE_SECONDS: Final = 0.0005


class Traffic:
    """Publishes what a shop publishes, and consumes what its listener in pull mode gets."""

    def __init__(self, client: AsyncDiscue) -> None:
        self._client = client
        self._random = Random(14)  # noqa: S311 - no secret: it chooses orders
        self._order = 48_100

    async def publish(self) -> None:
        """Publish one message."""
        draw = self._random.random()
        if draw < 0.55:
            await self._publish_order()
        elif draw < 0.75:
            await self._publish_invoice()
        elif draw < 0.94:
            await self._publish_email()
        else:
            await self._publish_return()

    async def publish_forever(self, per_second: float) -> None:
        """Publish messages at an average rate of `per_second`."""
        while True:
            await asyncio.sleep(self._random.expovariate(per_second))
            # A user may have changed or deleted what the traffic needs: the rest of the traffic continues.
            with suppress(APIError):
                await self.publish()

    async def consume(self, wait_seconds: int = 0) -> int:
        """Process the orders that wait for the consumer, and return how many there were."""
        pulled = await self._client.listeners.pull(ORDERS, CONSUMER, max=_PULLED, wait=wait_seconds)
        if pulled:
            receipts = [each.receipt for each in pulled]
            rejected = [receipts.pop()] if self._random.random() < 0.1 else []
            await self._client.listeners.settle(ORDERS, CONSUMER, acknowledge=receipts, reject=rejected)
        return len(pulled)

    async def consume_forever(self) -> None:
        """Process orders as they come."""
        while True:
            try:
                await self.consume(_PULL_WAIT_SECONDS)
            except APIError:
                # Like the traffic: the listener may be gone.
                await asyncio.sleep(_PULL_WAIT_SECONDS)

    async def _publish_order(self) -> None:
        choice = self._random.choice
        self._order += 1
        country = choice(_COUNTRIES)
        items = [{"sku": choice(_SKUS), "quantity": self._random.randrange(1, 4)} for _ in range(choice((1, 1, 2, 3)))]
        customer, state = self._customer(), choice(_STATES)
        data = {
            "order": self._order,
            "state": state,
            "customer": customer,
            "merchant": MERCHANTS[self._order % len(MERCHANTS)],
            "country": country,
            "total": round(14.9 + self._random.expovariate(1 / 120), 2),
            "currency": _CURRENCIES.get(country, "EUR"),
            "items": items,
        }
        fields: dict[str, Any] = {"alias": f"order-{self._order}"} if state == "created" else {}
        subject = f"orders.{country.lower()}.{state}"
        await self._client.topics.publish(TOPIC, subject=subject, data=data, key=customer, **fields)

    async def _publish_invoice(self) -> None:
        customer, number = self._customer(), self._random.randrange(100_000, 999_999)
        data = {
            "invoice": f"R-2026-{number}",
            "customer": customer,
            "amount": round(14.9 + self._random.expovariate(1 / 120), 2),
            "due_days": self._random.choice((14, 30)),
        }
        await self._client.publish(INVOICES, data, key=customer)

    async def _publish_email(self) -> None:
        template = self._random.choice(_TEMPLATES)
        data = {"to": f"{self._customer()}@mail.example", "template": template, "locale": "de"}
        delay: dict[str, Any] = {"delay": 2 * 3_600} if template == "review-request" else {}
        await self._client.publish(EMAILS, data, **delay)

    async def _publish_return(self) -> None:
        reason = self._random.choice(("size", "damaged", "changed-mind"))
        data = {"order": self._order - self._random.randrange(1, 90), "reason": reason}
        await self._client.topics.publish(TOPIC, subject="returns.de.created", data=data)

    def _customer(self) -> str:
        return f"customer-{self._random.randrange(1, _CUSTOMERS)}"


class History:
    """Lives through the past hours: moves the clock from one event to the next, and does what each makes due."""

    def __init__(self, activity: WorkerActivity, clock: MovableClock, sender: ShopSender, traffic: Traffic) -> None:
        self._activity = activity
        self._clock = clock
        self._sender = sender
        self._traffic = traffic
        self._random = Random(7)  # noqa: S311 - no secret: it spreads messages over time
        self._pulled_at = 0

    async def live_until(self, end: int) -> None:
        """Publish and deliver until a time in milliseconds since the epoch."""
        while True:
            at = self._clock.now() + round(HOUR_MS * self._random.expovariate(_an_hour(self._clock.now())))
            if at >= end:
                break
            await self.advance_to(at)
            await self._traffic.publish()
            if at - self._pulled_at >= _PULL_EVERY_MS and at < end - _PULL_EVERY_MS:
                self._pulled_at = at
                await self._traffic.consume()
        await self.advance_to(end)

    async def advance_to(self, instant: int) -> None:
        """Move the clock, and stop on the way at each time at which something is due."""
        while True:
            reply_at = self._sender.next_reply_at
            if reply_at is None or reply_at > self._clock.now():
                await self._finish()
                reply_at = self._sender.next_reply_at
            due_at = self._activity.next_at
            if reply_at is not None and reply_at <= instant and (due_at is None or reply_at <= due_at):
                self._clock.move_to(reply_at)
                self._sender.sweep()
            elif due_at is not None and due_at <= instant:
                self._clock.move_to(due_at)
                await self._activity.catch_up()
            else:
                break
        self._clock.move_to(instant)

    async def _finish(self) -> None:
        """Return when nothing is done any more without the clock."""
        while True:
            if not self._activity.is_working:
                return
            await asyncio.sleep(_IDLE_SECONDS)


def _an_hour(now: int) -> float:
    """Return how many messages an hour has at this time of day."""
    hours = now / HOUR_MS % 24
    share = 0.625 + 0.375 * math.cos((hours - _BUSIEST_HOUR) / 24 * 2 * math.pi)
    return BUSIEST_AN_HOUR * share
