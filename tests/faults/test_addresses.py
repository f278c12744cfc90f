"""Private targets are refused: as literal addresses, as names, and as names that change."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_address
from pathlib import Path

import pytest

from discue.config.settings import Settings
from discue.control.organizations import ensure_operator
from discue.domain.attempts import Outcome
from discue.domain.clock import Clock, SystemClock
from discue.domain.egress import EgressPolicy, IPAddress
from discue.observability.logs import Log
from discue.sending.request import AttemptRequest
from discue.sending.sender import Sender
from discue.server.http import Address
from discue.server.installation import open_installation
from discue.server.worker import Worker, served
from tests.faults.client import KEY, Client
from tests.faults.product import Product
from tests.faults.receiver import Receiver

LITERALS = [
    "127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0X7F.1", "0177.0.0.1", "017700000001", "127.0.0.1.",
    "１２７.0.0.1", "127。0。0。1", "0", "0.0.0.0", "10.0.0.1", "10.16777215", "172.16.0.1", "192.168.1.1",
    "169.254.169.254", "0xa9fea9fe", "2852039166", "100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1",
    "255.255.255.255", "[::]", "[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]",
    "[64:ff9b::7f00:1]", "[64:ff9b::169.254.169.254]", "[64:ff9b:1::a00:1]", "[2002:7f00:1::]", "[fe80::1]",
    "[fe80::1%25eth0]", "[fc00::1]", "[fd12:3456::1]", "[ff02::1]", "[2001:db8::1]",
]  # fmt: skip

# One loopback address stands for what is public, so that a real listener can be there.
ONE_ALLOWED = EgressPolicy(allowed_networks=(IPv4Network("127.0.0.1/32"),))

PRIVATE = [
    "10.1.2.3", "127.0.0.2", "169.254.169.254", "100.64.0.9", "224.0.0.5", "::1", "fe80::2", "fd00::5",
    "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::",
]  # fmt: skip


@pytest.fixture
def names() -> "Names":
    return Names()


class Names:
    """A resolver for tests: `answers` for each host in turn, the last one for ever."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Sequence[str]]] = {}
        self.asked: list[str] = []

    async def __call__(self, host: str, _port: int) -> list[IPAddress]:
        self.asked.append(host)
        answers = self.answers[host]
        return [ip_address(text) for text in (answers.pop(0) if len(answers) > 1 else answers[0])]


async def test_every_spelling_of_a_literal_is_refused_when_a_listener_is_created_or_moved(tmp_path: Path) -> None:
    async with Product(tmp_path, allow_private_targets="false") as product:
        client = product.client()
        queue = await client.queue()
        good = "https://listener.example/hook"
        listener = await client.listener(queue, good)
        for literal in LITERALS:
            for bad in (f"http://{literal}/hook", f"https://{literal}:8443/hook"):
                for field, urls in (
                    ("notify_url", {"notify_url": bad, "liveness_url": good}),
                    ("liveness_url", {"notify_url": good, "liveness_url": bad}),
                ):
                    for method, path in (("POST", "listeners"), ("PUT", f"listeners/{listener}")):
                        answer = await client.ask(method, f"/queues/{queue}/{path}", urls)
                        assert answer.status == 422, (bad, answer)
                        assert [fault["pointer"] for fault in answer.body["errors"]] == [f"/{field}"], bad
        listeners = (await client.ask("GET", f"/queues/{queue}/listeners")).body["listeners"]
        assert [(known["id"], known["notify_url"], known["liveness_url"]) for known in listeners] == [
            (listener, good, good)
        ]
        client.close()


async def test_a_real_name_of_this_machine_is_refused_at_connect(tmp_path: Path) -> None:
    """`localhost` is a name, so it may be registered; what it means is found out when something is sent."""
    async with Receiver() as receiver, Product(tmp_path, allow_private_targets="false") as product:
        client = product.client()
        queue = await client.queue(f"http://localhost:{receiver.port}/hook")
        await client.publish(queue, "hello")
        await product.until_first_attempts(1)
        client.close()
        assert await product.stop() == 0
        assert receiver.delivered == []
    assert attempts_in(product.database) == [("refused_address", 0, 1)]


def attempts_in(database: Path) -> list[tuple[str, int, int]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("SELECT error, status, number FROM attempt ORDER BY id").fetchall()


@dataclass(frozen=True)
class InProcess:
    """The product's parts, composed as in `discue serve`, but for the resolver and what is allowed.

    `ended` has the kind of failure of each attempt that ended, "" for none.
    """

    client: Client
    database: Path
    ended: "asyncio.Queue[str]"


class Observed(Sender):
    """A sender that says how each attempt ended."""

    def __init__(self, clock: Clock, policy: EgressPolicy, names: Names) -> None:
        super().__init__(clock=clock, policy=policy, resolve=names)
        self.ended: asyncio.Queue[str] = asyncio.Queue()

    def send(self, request: AttemptRequest, done: Callable[[Outcome], None]) -> None:
        def told(outcome: Outcome) -> None:
            done(outcome)
            self.ended.put_nowait(outcome.error)

        super().send(request, told)


@asynccontextmanager
async def in_process(folder: Path, names: Names, policy: EgressPolicy) -> AsyncIterator[InProcess]:
    settings = Settings(database=f"sqlite:///{folder}/discue.db", port=0, delivery_timeout_seconds=5)
    clock, log = SystemClock(), Log()
    sender = Observed(clock, policy, names)
    async with open_installation(settings, clock, log) as installation:
        await ensure_operator(installation.control, settings.organization, KEY)
        worker = Worker(installation, log, sender=sender)
        async with served(worker, Address("127.0.0.1", 0), max_connections=100) as server:
            client = Client(server.address)
            try:
                yield InProcess(client, folder / "discue.db", sender.ended)
            finally:
                client.close()


@pytest.mark.parametrize("address", PRIVATE)
async def test_name_with_a_private_address_is_refused_and_retried(tmp_path: Path, names: Names, address: str) -> None:
    names.answers["listener.example"] = [[address]]
    async with in_process(tmp_path, names, EgressPolicy()) as service:
        queue = await service.client.queue("http://listener.example/hook")
        message = await service.client.publish(queue, "hello")
        assert await service.ended.get() == "refused_address"
    assert attempts_in(service.database) == [("refused_address", 0, 1)]
    with closing(sqlite3.connect(service.database)) as connection:
        (row,) = connection.execute(
            "SELECT m.id, e.state, e.attempts, e.due_at - m.stored_at FROM exception e "
            "JOIN log m ON m.organization = e.organization AND m.queue = e.queue AND m.seq = e.seq"
        )
    assert row[:3] == (message, "retry", 1)
    assert row[3] >= 5_000


async def test_only_the_public_address_of_a_mixed_name_is_connected_to(tmp_path: Path, names: Names) -> None:
    names.answers["listener.example"] = [["127.0.0.2", "10.0.0.1", "127.0.0.1", "::1"]]
    async with Receiver() as receiver, in_process(tmp_path, names, ONE_ALLOWED) as service:
        queue = await service.client.queue(f"http://listener.example:{receiver.port}/hook")
        message = await service.client.publish(queue, "hello")
        assert await service.ended.get() == ""
        assert receiver.messages("hook") == [message]


async def test_a_name_that_changes_after_the_check_changes_nothing(tmp_path: Path, names: Names) -> None:
    """The first answer is public, all later ones are not: it was asked once, and what was checked was connected to."""
    names.answers["listener.example"] = [["127.0.0.1"], ["169.254.169.254"]]
    async with Receiver() as receiver, in_process(tmp_path, names, ONE_ALLOWED) as service:
        queue = await service.client.queue(f"http://listener.example:{receiver.port}/hook")
        message = await service.client.publish(queue, "hello")
        assert await service.ended.get() == ""
        assert receiver.messages("hook") == [message]
        assert names.asked == ["listener.example"]


async def test_a_name_that_changes_to_a_private_address_is_refused_at_the_next_connection(
    tmp_path: Path, names: Names
) -> None:
    names.answers["listener.example"] = [["127.0.0.1"], ["127.0.0.2"]]
    async with Receiver() as receiver, in_process(tmp_path, names, ONE_ALLOWED) as service:
        queue = await service.client.queue(f"http://listener.example:{receiver.port}/hook")
        first = await service.client.publish(queue, "hello")
        assert await service.ended.get() == ""
        receiver.close_connections()
        await service.client.publish(queue, "again")
        assert await service.ended.get() == "refused_address"
        assert receiver.messages("hook") == [first]
