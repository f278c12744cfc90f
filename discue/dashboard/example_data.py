"""Examples of the data of messages that queues accept."""

import time
from typing import Final

from discue.dashboard.fields import indented
from discue.dashboard.visit import Visit
from discue.domain.json_example import NoExample, accepted_example
from discue.domain.model import Queue

_SAMPLE: Final = '{\n  "hello": "world"\n}'


async def example_of(visit: Visit, queue: Queue) -> str:
    """Return JSON that the queue accepts; "" if its schema yields no example."""
    checker = (await visit.control.cache.queue(visit.principal.organization, queue.public_id)).checker
    if queue.schema is None or checker is None:
        return _SAMPLE
    try:
        body = accepted_example(queue.schema, queue.schema_language, checker, time.perf_counter)
    except NoExample:
        return ""
    return indented(body.decode())
