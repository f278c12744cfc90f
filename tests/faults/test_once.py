"""A worker dies between commit and response: a repeated idempotent request takes effect once."""

from pathlib import Path
from typing import Any

import pytest

from tests.faults.client import Lost
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
    async with Product(tmp_path, command=command, database=database) as product:
        client = product.client()
        queue = await client.queue()
        topic = (await client.create("/topics", {}))["id"]
        await client.create(f"/topics/{topic}/channels", {"queue_id": queue})
        path, body = template.format(queue=queue, topic=topic), REQUESTS[template]
        with pytest.raises(Lost):
            await client.ask("POST", path, body, idempotency_key="the-same")
        await product.ended()
        assert marker.exists()
        await product.start()
        again = [await client.ask("POST", path, body, idempotency_key="the-same") for _ in range(2)]
        assert [(each.status, each.headers["idempotency-replayed"]) for each in again] == [(200, "true")] * 2
        assert again[0].body == again[1].body
        collection = f"/queues/{queue}/messages" if "messages" in path else path
        found = [each["id"] for each in _things(await client.get(collection))]
        expected = [each["id"] for each in _things(again[0].body)]
        assert [each for each in found if each in expected] == expected[::-1]
        assert len(found) == len(expected) + (1 if template == "/api_keys" else 0)


def _things(body: dict[str, Any]) -> list[dict[str, Any]]:
    shown = next(value for name, value in body.items() if name != "_links")
    return shown if isinstance(shown, list) else [shown]
