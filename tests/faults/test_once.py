"""A worker dies between commit and response: a repeated idempotent request takes effect once."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.client import KEY
from tests.faults.product import Product

REQUESTS: dict[str, dict[str, Any]] = {
    "/queues/{queue}/messages/batch": {"messages": [{"data": "1"}, {"data": "2"}]},
    "/topics/{topic}/messages": {"data": "1"},
    "/api_keys": {},
}


@pytest.mark.parametrize("template", REQUESTS)
async def test_a_request_whose_worker_died_is_repeated_at_the_next_one_and_took_effect_once(
    tmp_path: Path, database: str, template: str
) -> None:
    marker = tmp_path / "died"
    command = ("-m", "tests.faults.altered", f"dies={marker}")
    async with Product(tmp_path, command=command, database=database) as product, httpx.AsyncClient() as client:
        queue = await product.client().queue()
        topic = (await product.client().create("/topics", {}))["id"]
        await product.client().create(f"/topics/{topic}/channels", {"queue_id": queue})
        path, body = template.format(queue=queue, topic=topic), REQUESTS[template]
        headers = {"x-api-key": KEY, "idempotency-key": "the-same"}
        with pytest.raises(httpx.TransportError):
            await client.post(f"http://127.0.0.1:{product.port}{path}", json=body, headers=headers)
        await product.ended()
        assert marker.exists()
        await product.start()
        base = f"http://127.0.0.1:{product.port}"
        again = [await client.post(f"{base}{path}", json=body, headers=headers) for _ in range(2)]
        assert [answer.status_code for answer in again] == [200, 200]
        assert [answer.headers["idempotency-replayed"] for answer in again] == ["true", "true"]
        assert again[0].json() == again[1].json()
        collection = f"/queues/{queue}/messages" if "messages" in path else path
        listed = await client.get(base + collection, headers=headers)
        found = [each["id"] for each in _things(listed.json())]
        expected = [each["id"] for each in _things(again[0].json())]
        assert [each for each in found if each in expected] == expected[::-1]
        assert len(found) == len(expected) + (1 if template == "/api_keys" else 0)


def _things(body: dict[str, Any]) -> list[dict[str, Any]]:
    shown = next(value for name, value in body.items() if name != "_links")
    return shown if isinstance(shown, list) else [shown]
