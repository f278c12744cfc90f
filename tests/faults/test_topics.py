"""A server that dies while much is published to a topic: each message is in all of its queues or in none."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from tests.faults.logs import Stored, stored_in
from tests.faults.producers import Sent, producing
from tests.faults.product import SERVE, Product
from tests.faults.receiver import Delivered, Receiver

KILLS = 3
_PUBLISHES_APART = 150
_SIZES = (3, 1, 1, 1, 3, 1, 1, 1)


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


class Run(msgspec.Struct):
    """The publishes to a topic, and to the first of its queues alone, and what was received and stored at the end."""

    queues: list[str]
    sent: list[Sent]
    sent_alone: list[Sent]
    delivered: list[Delivered]
    stored: list[Stored]

    def broken(self) -> list[str]:
        alone = {body for sent in self.sent_alone for body in sent.bodies}
        found = broken(self.queues, self.sent, [each for each in self.stored if each.body not in alone])
        found_alone = broken(self.queues[:1], self.sent_alone, [each for each in self.stored if each.body in alone])
        return [*found, *found_alone]


async def killed_under_load(folder: Path, database: str, kills: int, command: Sequence[str] = SERVE) -> Run:
    """Publish to a topic with two channels."""
    product = Product(folder, command=command, database=database, lease_seconds=2)
    async with Receiver() as receiver, product:
        client = product.client()
        topic = str((await client.create("/topics", {}))["id"])
        queues = [await client.queue() for _ in range(2)]
        for queue in queues:
            await client.listener(queue, receiver.url(queue))
            await client.create(f"/topics/{topic}/channels", {"queue_id": queue})
        async with (
            producing(product, [f"/topics/{topic}/messages"], _SIZES) as producers,
            producing(product, [f"/queues/{queues[0]}/messages"], [1]) as alone,
        ):
            for _ in range(kills):
                await producers.until_more(_PUBLISHES_APART)
                await product.kill()
                await product.start()
            await producers.until_more(_PUBLISHES_APART)
        for queue in queues:
            await receiver.until(receiver.has_all(producers.stored, queue))
        assert await product.stop() == 0, "".join(product.lines)
        return Run(queues, producers.sent, alone.sent, receiver.delivered, await stored_in(database))


async def test_topic_message_is_in_all_of_its_queues_or_in_none(tmp_path: Path, database: str) -> None:
    run = await killed_under_load(tmp_path, database, KILLS)
    assert run.broken() == []
    by_id = {each.id: each.body for each in run.stored}
    for delivered in run.delivered:
        assert by_id[delivered.message] == delivered.body.decode()


@pytest.mark.torture
async def test_a_server_that_stores_queue_by_queue_is_caught(tmp_path: Path) -> None:
    command = ("-m", "tests.faults.altered", "bug=stores_a_message_of_a_topic_queue_by_queue")
    run = await killed_under_load(tmp_path, f"sqlite:///{tmp_path}/discue.db", 2, command)
    assert any("not in all queues" in sentence for sentence in run.broken())


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
