"""A server that dies while much is published to a topic: each message is in all of its queues or in none."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path

import msgspec
import pytest

from tests.faults.client import Client, Lost
from tests.faults.logs import Stored, stored_by
from tests.faults.product import SERVE, Product
from tests.faults.receiver import Receiver
from tests.faults.running import under_load

KILLS = 3
_PUBLISHES_APART = 150
_PRODUCERS = 8
_AGAIN_SECONDS = 0.05
_BATCH = 3


class Sent(msgspec.Struct):
    """A publish to the topic, of one message or of several. Without `ids` no 200 arrived: it is undecided."""

    bodies: tuple[str, ...]
    ids: tuple[str, ...] = ()


def broken(queues: Sequence[str], sent: Sequence[Sent], stored: Sequence[Stored]) -> Iterator[str]:
    """Yield messages in some queues only, with another body, or missing though confirmed."""
    by_body: dict[str, dict[str, str]] = {}
    for each in stored:
        there = by_body.setdefault(each.body, {})
        if each.queue in there:
            yield f"{each.body} is twice in {each.queue}"
        there[each.queue] = each.id
    for publish in sent:
        found = [by_body.get(body, {}) for body in publish.bodies]
        if {len(there) for there in found} not in ({0}, {len(queues)}):
            yield f"{publish.bodies} are not in all queues or in none: {found}"
        if publish.ids and [set(there.values()) for there in found] != [{each} for each in publish.ids]:
            yield f"{publish.ids} were confirmed, and there is {found}"


class Producers:
    """Several that publish to one topic, and one that publishes to the first of its queues alone."""

    def __init__(self, product: Product, topic: str, queue: str) -> None:
        self.sent: list[Sent] = []
        self.alone: list[Sent] = []
        self._product = product
        self._topic = topic
        self._queue = queue
        self._numbers = count()
        self._wanted = 0
        self._enough = asyncio.Event()

    async def publish_for_ever(self, size: int) -> None:
        await self._again_and_again(f"/topics/{self._topic}/messages", size, self.sent)

    async def publish_beside_for_ever(self) -> None:
        await self._again_and_again(f"/queues/{self._queue}/messages", 1, self.alone)

    async def kill_and_start(self, times: int) -> None:
        for _ in range(times):
            await self._until_more(_PUBLISHES_APART)
            await self._product.kill()
            await self._product.start()
        await self._until_more(_PUBLISHES_APART)

    async def _until_more(self, publishes: int) -> None:
        self._wanted = len(self.sent) + publishes
        self._enough.clear()
        await self._enough.wait()

    async def _again_and_again(self, path: str, size: int, sent: list[Sent]) -> None:
        client = self._product.client()
        while True:
            await self._product.serving.wait()
            publish = Sent(tuple(json.dumps({"number": next(self._numbers)}) for _ in range(size)))
            sent.append(publish)
            if len(self.sent) >= self._wanted:
                self._enough.set()
            with suppress(Lost):
                publish.ids = await _published(client, path, publish.bodies)
                continue
            await asyncio.sleep(_AGAIN_SECONDS)


async def _published(client: Client, path: str, bodies: Sequence[str]) -> tuple[str, ...]:
    messages: list[Mapping[str, str]] = [{"data": body} for body in bodies]
    if len(bodies) == 1:
        answer = await client.ask("POST", path, messages[0])
    else:
        answer = await client.ask("POST", f"{path}/batch", {"messages": messages})
    if answer.status == 503:
        raise Lost
    assert answer.status == 200, answer
    shown = [answer.body["message"]] if len(bodies) == 1 else answer.body["messages"]
    return tuple(message["id"] for message in shown)


async def killed_under_load(
    folder: Path, database: str, kills: int, command: Sequence[str] = SERVE
) -> tuple[list[str], Producers, Receiver, list[Stored]]:
    """Publish to a topic with two channels. Returns what was published, received, and stored at the end."""
    product = Product(folder, command=command, database=database, lease_seconds=2)
    async with Receiver() as receiver, product:
        client = product.client()
        topic = str((await client.create("/topics", {}))["id"])
        queues = [await client.queue() for _ in range(2)]
        for queue in queues:
            await client.listener(queue, receiver.url(queue))
            await client.create(f"/topics/{topic}/channels", {"queue_id": queue})
        producers = Producers(product, topic, queues[0])
        works = [producers.publish_for_ever(_BATCH if number % 4 == 0 else 1) for number in range(_PRODUCERS)]
        tasks = [asyncio.ensure_future(work) for work in (*works, producers.publish_beside_for_ever())]
        await under_load(tasks, producers.kill_and_start(kills))
        for queue in queues:
            confirmed = [each for sent in producers.sent for each in sent.ids]
            await receiver.until(receiver.has_all(confirmed, queue))
        assert await product.stop() == 0, "".join(product.lines)
        return queues, producers, receiver, await stored_by(product, database)


async def test_topic_message_is_in_all_of_its_queues_or_in_none(tmp_path: Path, database: str) -> None:
    queues, producers, receiver, stored = await killed_under_load(tmp_path, database, KILLS)
    alone = {body for sent in producers.alone for body in sent.bodies}
    assert list(broken(queues, producers.sent, [each for each in stored if each.body not in alone])) == []
    assert list(broken(queues[:1], producers.alone, [each for each in stored if each.body in alone])) == []
    by_id = {each.id: each.body for each in stored}
    for delivered in receiver.delivered:
        assert by_id[delivered.message] == delivered.body.decode()
    confirmed = Counter(bool(sent.ids) for sent in producers.sent)
    assert confirmed[True] > KILLS * _PUBLISHES_APART // 2


@pytest.mark.torture
async def test_a_server_that_stores_queue_by_queue_is_caught(tmp_path: Path) -> None:
    command = ("-m", "tests.faults.altered", "bug=stores_a_message_of_a_topic_queue_by_queue")
    database = f"sqlite:///{tmp_path}/discue.db"
    queues, producers, _, stored = await killed_under_load(tmp_path, database, 2, command)
    alone = {body for sent in producers.alone for body in sent.bodies}
    found = list(broken(queues, producers.sent, [each for each in stored if each.body not in alone]))
    assert any("not in all queues" in sentence for sentence in found)


@pytest.mark.parametrize(
    ("stored", "sentence"),
    [
        ([("one", "1", "a")], "not in all queues"),
        ([("one", "1", "a"), ("other", "2", "a"), ("one", "3", "b")], "not in all queues"),
        ([("one", "1", "a"), ("other", "1", "a"), ("one", "2", "a")], "twice"),
        ([], "were confirmed"),
        ([("one", "8", "a"), ("other", "8", "a"), ("one", "2", "b"), ("other", "2", "b")], "were confirmed"),
    ],
)
def test_checker_finds_broken_promises(stored: list[tuple[str, str, str]], sentence: str) -> None:
    sent = [Sent(("a", "b"), ("1", "2"))]
    assert any(sentence in each for each in broken(("one", "other"), sent, [Stored(*each) for each in stored]))


def test_checker_passes_complete_messages() -> None:
    whole = [Stored(queue, each, body) for queue in ("one", "other") for each, body in (("1", "a"), ("2", "b"))]
    sent = [Sent(("a", "b"), ("1", "2")), Sent(("c",))]
    assert list(broken(("one", "other"), sent, whole)) == []
