"""The traffic of the shop: the past day on a clock that is moved, then a few messages per minute."""

import asyncio
import math
from contextlib import suppress
from random import Random
from typing import Any, Final

from discue.cli.demonstration.endpoints import HOUR_MS
from discue.cli.demonstration.shop import CONSUMER, EMAILS, INVOICES, MERCHANTS, ORDERS, TOPIC
from discue.testing.server import Timeline
from discue_client import APIError, AsyncDiscue

BUSIEST_AN_HOUR: Final = 90
"""Messages of the past day in its busiest hour. At night there are a quarter of them."""

_BUSIEST_HOUR: Final = 19
_CUSTOMERS: Final = 40
_PULLED: Final = 100
_PULL_EVERY_MS: Final = HOUR_MS // 6
_PULL_WAIT_SECONDS: Final = 5
_SKUS: Final = ("mug-blue", "poster-a2", "tee-m-black", "lamp-brass", "notebook", "tote-bag", "vase-green", "candle")
_COUNTRIES: Final = ("DE", "DE", "DE", "AT", "CH", "FR", "NL", "GB")
_CURRENCIES: Final = {"CH": "CHF", "GB": "GBP"}
_TEMPLATES: Final = ("order-confirmation", "parcel-shipped", "review-request", "password-reset")
_STATES: Final = ("created", "created", "created", "paid", "paid", "shipped")


class Traffic:
    """Publishes what a shop publishes, and consumes what its listener in pull mode gets."""

    def __init__(self, client: AsyncDiscue, timeline: Timeline) -> None:
        self._client = client
        self._timeline = timeline
        self._random = Random(14)  # noqa: S311 - no secret: it chooses orders
        self._order = 48_100
        self._pulled_at = 0

    async def live_until(self, end: int) -> None:
        """Publish and deliver until a time in milliseconds since the epoch."""
        while (at := (now := await self._timeline.now()) + self._pause_ms(now)) < end:
            await self._timeline.pass_until(at)
            await self.publish()
            if at - self._pulled_at >= _PULL_EVERY_MS and at < end - _PULL_EVERY_MS:
                self._pulled_at = at
                await self.consume()
        await self._timeline.pass_until(end)

    async def go_on(self, per_second: float) -> None:
        """Publish messages at an average rate of `per_second`, and process orders as they come."""
        await asyncio.gather(self._publish_forever(per_second), self._consume_forever())

    async def _publish_forever(self, per_second: float) -> None:
        while per_second:
            await asyncio.sleep(self._random.expovariate(per_second))
            # A user may have changed or deleted what the traffic needs: the rest of the traffic continues.
            with suppress(APIError):
                await self.publish()

    async def _consume_forever(self) -> None:
        while True:
            try:
                await self.consume(_PULL_WAIT_SECONDS)
            except APIError:
                # Like the traffic: the listener may be gone.
                await asyncio.sleep(_PULL_WAIT_SECONDS)

    async def consume(self, wait_seconds: int = 0) -> None:
        """Process the orders that wait for the consumer."""
        pulled = await self._client.listeners.pull(ORDERS, CONSUMER, max=_PULLED, wait=wait_seconds)
        if pulled:
            receipts = [each.receipt for each in pulled]
            rejected = [receipts.pop()] if self._random.random() < 0.1 else []
            await self._client.listeners.settle(ORDERS, CONSUMER, acknowledge=receipts, reject=rejected)

    async def publish(self) -> None:
        """Publish one message."""
        draw, customer = self._random.random(), f"customer-{self._random.randrange(1, _CUSTOMERS)}"
        if draw < 0.55:
            await self._publish_order(customer)
        elif draw < 0.75:
            number, days = self._random.randrange(100_000, 999_999), self._random.choice((14, 30))
            invoice = {"invoice": f"R-2026-{number}", "customer": customer, "amount": self._amount(), "due_days": days}
            await self._client.publish(INVOICES, invoice, key=customer)
        elif draw < 0.94:
            template = self._random.choice(_TEMPLATES)
            email = {"to": f"{customer}@mail.example", "template": template, "locale": "de"}
            delay: dict[str, Any] = {"delay": 2 * 3_600} if template == "review-request" else {}
            await self._client.publish(EMAILS, email, **delay)
        else:
            reason = self._random.choice(("size", "damaged", "changed-mind"))
            returned = {"order": self._order - self._random.randrange(1, 90), "reason": reason}
            await self._client.topics.publish(TOPIC, subject="returns.de.created", data=returned)

    async def _publish_order(self, customer: str) -> None:
        choice = self._random.choice
        self._order += 1
        country, state = choice(_COUNTRIES), choice(_STATES)
        data = {
            "order": self._order,
            "state": state,
            "customer": customer,
            "merchant": MERCHANTS[self._order % len(MERCHANTS)],
            "country": country,
            "total": self._amount(),
            "currency": _CURRENCIES.get(country, "EUR"),
            "items": [{"sku": choice(_SKUS), "quantity": choice((1, 2, 3))} for _ in range(choice((1, 1, 2, 3)))],
        }
        fields: dict[str, Any] = {"alias": f"order-{self._order}"} if state == "created" else {}
        subject = f"orders.{country.lower()}.{state}"
        await self._client.topics.publish(TOPIC, subject=subject, data=data, key=customer, **fields)

    def _amount(self) -> float:
        return round(14.9 + self._random.expovariate(1 / 120), 2)

    def _pause_ms(self, now: int) -> int:
        """Return the time from one message of the past day to the next."""
        share = 0.625 + 0.375 * math.cos((now / HOUR_MS % 24 - _BUSIEST_HOUR) / 24 * 2 * math.pi)
        return round(HOUR_MS * self._random.expovariate(BUSIEST_AN_HOUR * share))
