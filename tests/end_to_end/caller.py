"""Somebody with a key, who uses the API of whatever process serves."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.faults.client import KEY
from tests.faults.product import Product

PATIENCE_SECONDS = 30.0

_APART_SECONDS = 0.02


class Caller:
    """Requests to a product, on the port that it has then."""

    def __init__(self, client: httpx.AsyncClient, product: Product, key: str) -> None:
        self._client = client
        self._product = product
        self._key = key

    def with_key(self, key: str) -> "Caller":
        """Somebody else, at the same product."""
        return Caller(self._client, self._product, key)

    async def ask(self, method: str, path: str, content: object = None) -> httpx.Response:
        url = f"http://127.0.0.1:{self._product.port}{path}"
        return await self._client.request(method, url, headers={"X-API-KEY": self._key}, json=content)

    async def get(self, path: str) -> dict[str, Any]:
        return self._understood(await self.ask("GET", path))

    async def create(self, path: str, **fields: object) -> dict[str, Any]:
        """The one resource, or the list of them, that a POST creates."""
        answer = self._understood(await self.ask("POST", path, fields))
        (created,) = [value for name, value in answer.items() if name != "_links"]
        return created  # type: ignore[no-any-return]

    async def until(self, path: str, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Repeat a GET until the condition holds, and return the body."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not is_so(shown := await self.get(path)):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(_APART_SECONDS)
        return shown

    async def until_status(self, path: str, status: int) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await self.ask("GET", path)).status_code != status:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(_APART_SECONDS)

    def _understood(self, response: httpx.Response) -> dict[str, Any]:
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer


@asynccontextmanager
async def calling(product: Product) -> AsyncIterator[Caller]:
    """The operator of a product."""
    # Nothing here is TLS, and reading the trusted certificates takes longer than a request.
    async with httpx.AsyncClient(trust_env=False, verify=False, timeout=PATIENCE_SECONDS) as client:  # noqa: S501
        yield Caller(client, product, KEY)
