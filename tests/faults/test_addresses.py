"""A server that may send to public addresses only: private targets are refused, as literals and behind names.

`tests/domain/test_egress.py` has the spellings of addresses, `tests/sending/test_dialer.py` names that change.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.faults.product import Product
from tests.faults.receiver import Receiver

LITERALS = ["127.0.0.1", "0x7f000001", "１２７。0。0。1", "169.254.169.254", "[::ffff:127.0.0.1]"]


async def test_private_literal_is_refused_when_a_listener_is_created_or_moved(tmp_path: Path) -> None:
    async with Product(tmp_path, allow_private_targets="false") as product:
        client = product.client()
        queue = await client.queue()
        good = "https://listener.example/hook"
        listener = await client.listener(queue, good)
        for literal in LITERALS:
            for field in ("notify_url", "liveness_url"):
                urls = {"notify_url": good, "liveness_url": good, field: f"https://{literal}:8443/hook"}
                for method, path in (("POST", "listeners"), ("PUT", f"listeners/{listener}")):
                    answer = await client.ask(method, f"/queues/{queue}/{path}", urls)
                    assert answer.status == 422, (urls, answer)
                    assert [fault["pointer"] for fault in answer.body["errors"]] == [f"/{field}"], urls
        listeners = (await client.ask("GET", f"/queues/{queue}/listeners")).body["listeners"]
        assert [(known["id"], known["notify_url"], known["liveness_url"]) for known in listeners] == [
            (listener, good, good)
        ]


async def test_name_of_a_private_address_is_refused_at_connect_and_tried_again(tmp_path: Path) -> None:
    """The addresses of a name may change after the listener was created."""
    async with Receiver() as receiver:
        async with Product(tmp_path, allow_private_targets="true") as before:
            queue = await before.client().queue(f"http://localhost:{receiver.port}/hook")
            assert await before.stop() == 0
        await _refused_at_connect(tmp_path, queue)
        assert receiver.delivered == []


async def _refused_at_connect(tmp_path: Path, queue: str) -> None:
    async with Product(tmp_path, allow_private_targets="false") as product:
        client = product.client()
        tried = product.says('"event":"attempt"')
        await client.publish(queue, "hello")
        await tried
        assert await product.stop() == 0
    with closing(sqlite3.connect(product.database)) as connection:
        attempts = connection.execute("SELECT error, status, number FROM attempt").fetchall()
        ((state, tried, wait_ms),) = connection.execute(
            "SELECT e.state, e.attempts, e.due_at - m.stored_at FROM delivery e "
            "JOIN log m ON m.organization = e.organization AND m.queue = e.queue AND m.seq = e.seq"
        )
    assert attempts == [("refused_address", 0, 1)]
    assert (state, tried) == ("retry", 1)
    assert wait_ms >= 5_000
