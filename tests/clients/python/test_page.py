"""The examples of docs/python.md, run against a service."""

import ast
import asyncio
import inspect
import re
from types import CodeType
from typing import Any

import pytest

from discue_client import AsyncDelivery, AsyncDiscue, Discue
from tests.clients.python.test_consumer import Order
from tests.support.served_api import Cast
from tools.python_client import PACKAGE

PAGE = PACKAGE.parents[2] / "docs" / "python.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
FIRST, LIST, CUSTOMER, BATCH, CONSUME = EXAMPLES


def test_readme_of_the_distribution_has_the_first_example() -> None:
    assert FIRST in (PACKAGE.parent / "README.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _environment(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCUE_URL", cast.service.url)
    monkeypatch.setenv("DISCUE_API_KEY", cast.alice.headers["x-api-key"])


async def run(example: str, **names: Any) -> dict[str, Any]:
    code = compile(example, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert isinstance(code, CodeType)
    found = eval(code, names)  # noqa: S307 - our own page
    if inspect.isawaitable(found):
        await found
    return names


async def test_first_example_publishes_and_prints_the_id(
    async_client: AsyncDiscue, capsys: pytest.CaptureFixture[str]
) -> None:
    await asyncio.to_thread(asyncio.run, run(FIRST))

    (message,) = [each async for each in async_client.messages.list("orders")]
    assert (message.key, message.id) == ("customer-9", capsys.readouterr().out.strip())


def test_list_example_runs_on_an_empty_queue(client: Discue, capsys: pytest.CaptureFixture[str]) -> None:
    client.queues.create(alias="orders")

    asyncio.run(run(LIST, client=client))

    assert capsys.readouterr().out == ""


def test_customer_example_publishes_to_the_queue_of_the_customer(
    client: Discue, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(run(CUSTOMER, client=client))

    assert capsys.readouterr().out == "['customers/acme']\n"
    assert client.queues.get("customers/acme").customer == "acme"
    assert len(list(client.messages.list("customers/acme"))) == 1


async def test_batch_example_publishes_every_order(async_client: AsyncDiscue) -> None:
    await async_client.queues.create(alias="orders")

    names = await run(BATCH, AsyncDiscue=AsyncDiscue, asyncio=asyncio, orders=[{"customer": "a"}, {"customer": "b"}])

    assert {each.id async for each in async_client.messages.list("orders")} == set(names["ids"])


async def test_consume_example_creates_the_listener_and_handles_messages(async_client: AsyncDiscue) -> None:
    await async_client.queues.create(alias="orders")
    await async_client.listeners.create("orders", alias="billing", mode="pull")
    await async_client.publish("orders", Order(17))
    charged: asyncio.Queue[Order] = asyncio.Queue()

    running = asyncio.create_task(
        run(CONSUME, AsyncDiscue=AsyncDiscue, AsyncDelivery=AsyncDelivery, Order=Order, charge=charged.put)
    )
    order = await charged.get()
    running.cancel()
    await asyncio.wait([running])

    assert order == Order(17)
    assert running.cancelled()
