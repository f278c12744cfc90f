"""A process that fills a queue's log before anything is measured, with the product's own verb."""

import asyncio
import sys

import msgspec
import uvloop

from benchmarks.body import MESSAGE
from benchmarks.server import founded, settings_for
from discue.control.context import ControlContext
from discue.domain.message_data import JSON_VALUE
from discue.publishing.publish import NewMessage, Publisher, publish
from discue.publishing.quota_gate import QuotaGate
from discue.server.process import prepare_process
from discue.store import organizations

_ROWS_AT_ONCE = 512
_TASKS = 3


class Publishing:
    """Publishes a number of messages, in commits of many."""

    def __init__(self, installation: ControlContext, queue_id: str, count: int) -> None:
        store, cache, clock = installation.store, installation.cache, installation.clock
        quotas = QuotaGate(store, clock, installation.row_ids)
        self._publisher = Publisher(store, cache, clock, installation.public_ids, quotas, installation.row_ids)
        self._installation = installation
        self._queue_id = queue_id
        self._left = count

    async def run(self) -> None:
        await asyncio.gather(*(self._publish_until_none_is_left() for _ in range(_TASKS)))

    async def _publish_until_none_is_left(self) -> None:
        organization = await self._installation.store.read(organizations.operator)
        assert organization is not None
        queue = await self._installation.cache.queue(organization.id, self._queue_id)
        while self._left:
            rows = min(_ROWS_AT_ONCE, self._left)
            self._left -= rows
            await publish(self._publisher, queue, (NewMessage(MESSAGE, codec=JSON_VALUE),) * rows)


async def _prepare(database: str, key: str, queue_id: str, count: int) -> None:
    async with founded(settings_for(database, key)) as installation:
        await Publishing(installation, queue_id, count).run()


def main() -> None:
    database, key, queue_id, count = sys.argv[1:]
    prepare_process()
    uvloop.run(_prepare(database, key, queue_id, int(count)))
    sys.stdout.buffer.write(msgspec.json.encode({"published": int(count)}) + b"\n")


if __name__ == "__main__":
    main()
