"""Programs with a consumer that are told to stop."""

import asyncio
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from discue_client import Discue
from tests.clients.python.test_consumer import pulled
from tests.clients.python.test_transport import KEY, problem
from tests.support.scripted_server import HANG, READ, Script, ScriptedServer
from tests.support.served_api import Cast
from tools.python_client import PACKAGE

_ASYNC = """
import asyncio, signal
from discue_client import AsyncDiscue

async def main():
    async with AsyncDiscue() as client:
        consumer = client.consume("orders", listener="billing", concurrency=1)
        {graceful}
        async def handle(delivery):
            print("started", flush=True)
            await asyncio.sleep({seconds})
        await consumer.run(handle)
    print("ended", flush=True)

asyncio.run(main())
"""

_SYNC = """
import signal, time
from discue_client import Discue

with Discue() as client:
    consumer = client.consume("orders", listener="billing", concurrency=1)
    {graceful}
    def handle(delivery):
        print("started", flush=True)
        time.sleep({seconds})
    consumer.run(handle)
print("ended", flush=True)
"""

ASYNC_STOP = "asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, consumer.stop)"
SYNC_STOP = "signal.signal(signal.SIGTERM, lambda *_: consumer.stop())"


_PUBLISH = {
    "async": """
import asyncio
from discue_client import AsyncDiscue

async def main():
    async with AsyncDiscue() as client:
        await client.publish("orders", "x")

asyncio.run(main())
""",
    "sync": """
from discue_client import Discue

with Discue() as client:
    client.publish("orders", "x")
""",
}
"""Programs that wait for the response to a publish."""

_LEAVE = {
    "async": """
import asyncio
from discue_client import AsyncDiscue

async def main():
    async with AsyncDiscue() as client, client.publisher("orders", linger=10) as publisher:
        futures = [await publisher.submit(number) for number in range(3)]

asyncio.run(main())
""",
    "sync": """
from discue_client import Discue

with Discue() as client, client.publisher("orders", linger=10) as publisher:
    futures = [publisher.submit(number) for number in range(3)]
""",
}
"""Programs that leave a publisher, which waits for the response to its last batch."""


_HEAR_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"


@contextmanager
def program(text: str, url: str, key: str) -> Iterator[subprocess.Popen[str]]:
    environment = {"DISCUE_URL": url, "DISCUE_API_KEY": key, "PYTHONPATH": str(PACKAGE.parent)}
    # A shell lets programs that it starts in the background ignore Ctrl-C.
    command = [sys.executable, "-c", f"{_HEAR_CTRL_C}\n{text}"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        try:
            yield run
        finally:
            run.kill()


@pytest.mark.parametrize(
    ("text", "number", "attempts"),
    [
        (_ASYNC.format(graceful=ASYNC_STOP, seconds=0.2), signal.SIGTERM, ("acknowledged", 1)),
        (_ASYNC.format(graceful="", seconds=60), signal.SIGINT, ("pending", 0)),
        (_SYNC.format(graceful=SYNC_STOP, seconds=0.2), signal.SIGTERM, ("acknowledged", 1)),
        (_SYNC.format(graceful="", seconds=0.2), signal.SIGINT, ("acknowledged", 1)),
    ],
    ids=["async-stop", "async-interrupt", "sync-stop", "sync-interrupt"],
)
def test_signal_in_the_middle_of_a_message_leaves_no_lease(
    cast: Cast, client: Discue, text: str, number: signal.Signals, attempts: tuple[str, int]
) -> None:
    client.queues.create(alias="orders")
    client.listeners.create("orders", alias="billing", mode="pull")
    message = client.publish("orders", "x")

    with program(text, cast.service.url, cast.alice.headers["x-api-key"]) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "started\n"
        run.send_signal(number)
        output, errors = run.communicate(timeout=20)

    (delivery,) = client.messages.get("orders", message.id).deliveries or ()
    assert (delivery.state, delivery.attempts) == attempts
    assert ("ended" in output) == (number == signal.SIGTERM)
    assert ("KeyboardInterrupt" in errors) == (number == signal.SIGINT)
    assert "was destroyed" not in errors


@pytest.mark.parametrize("half", ["async", "sync"])
@pytest.mark.parametrize("programs", [_PUBLISH, _LEAVE], ids=["publish", "publisher-exit"])
async def test_interrupt_does_not_wait_for_a_service_that_hangs(half: str, programs: dict[str, str]) -> None:
    async with ScriptedServer([[READ, HANG]]) as server:
        with program(programs[half], f"http://127.0.0.1:{server.port}", KEY) as run:
            await server.until_received(1)
            run.send_signal(signal.SIGINT)
            _, errors = await asyncio.to_thread(run.communicate, timeout=20)

    assert run.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")
    lost = "Messages that were not confirmed, and may be stored or not: 3."
    assert (lost in errors) == (programs is _LEAVE)
    assert not re.search("was destroyed|never retrieved|unclosed", errors)


_RECEIVE = {
    "async": """
import asyncio
from discue_client import AsyncDiscue

async def handle(delivery):
    pass

async def main():
    async with AsyncDiscue() as client:
        await client.consume("orders", listener="billing", concurrency=1).run(handle)

asyncio.run(main())
""",
    "sync": """
from discue_client import Discue

with Discue() as client:
    client.consume("orders", listener="billing", concurrency=1).run(lambda delivery: None)
""",
}


@pytest.mark.parametrize("half", ["async", "sync"])
async def test_second_interrupt_does_not_wait_until_results_are_stored(half: str) -> None:
    first: Script = [READ, problem(403), READ, pulled("r"), READ, HANG]
    async with ScriptedServer([first, [READ, HANG]]) as server:
        with program(_RECEIVE[half], f"http://127.0.0.1:{server.port}", KEY) as run:
            # The listener, the message, its result, and a request for the next message.
            await server.until_received(4)
            run.send_signal(signal.SIGINT)
            # Nobody waits for the next message any more.
            await server.until_open(1)
            run.send_signal(signal.SIGINT)
            _, errors = await asyncio.to_thread(run.communicate, timeout=20)

    assert run.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")
