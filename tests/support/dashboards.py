"""A dashboard as browsers meet it: a whole worker behind the real server, with a clock that tests move."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
import uvloop

from discue.cli.inbox import InboxEndpoint
from discue.control.context import ControlContext
from discue.control.organizations import ensure_operator
from discue.dashboard.cookies import LOOPBACK_NAME
from discue.dashboard.inbox import Inbox
from discue.dashboard.users.sign_in import one_time_code
from discue.domain.egress import EgressPolicy
from discue.domain.model import Role
from discue.domain.scopes import Principal
from discue.observability.logs import Log
from discue.product import edge
from discue.sending.response import SenderLimits
from discue.server.installation import Machine, open_installation
from discue.server.worker import Worker, served
from discue.testing.clock import MovableClock
from discue.testing.loop_thread import LoopThread
from discue.testing.server import KitSender, Timeline, settings_for_tests
from tests.support.held_address import held_address

T = TypeVar("T")

SAME_ORIGIN: Final = {"sec-fetch-site": "same-origin"}
_PATIENCE_SECONDS: Final = 30.0


class Problems(Log):
    """A log that keeps the errors, which a test must not cause."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[tuple[str, BaseException | None]] = []

    def error(self, event: str, /, *, exc_info: BaseException | None = None, **fields: object) -> None:
        self.errors.append((event, exc_info))


class Browser(httpx.Client):
    """A client with the cookies of a browser. Its paths are below `/dashboard`."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(timeout=_PATIENCE_SECONDS, **options)
        self._root = f"{url}/dashboard"

    def request(self, method: str, url: httpx.URL | str, **options: Any) -> httpx.Response:
        return super().request(method, f"{self._root}{url}", **options)


@dataclass
class DashboardService:
    """A running service. `owner` is a browser that is signed in; `api` has a key with every scope."""

    url: str
    control: ControlContext
    worker: Worker
    timeline: Timeline
    log: Problems
    thread: LoopThread
    key: str
    principal: Principal
    inbox: Inbox
    transport: httpx.HTTPTransport = field(default_factory=httpx.HTTPTransport)
    """The transport of all clients, whose connections are closed at the end."""

    @property
    def streams(self) -> int:
        """The number of open streams of events."""
        return int(self.app.pages["dashboard"].streams._open["all", 0])

    @property
    def app(self) -> Any:
        """The application of the API and the pages, behind the inbox."""
        endpoint: Any = self.worker.application
        return endpoint._application

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something on the server's own loop."""
        return self.thread.run(work, _PATIENCE_SECONDS)

    def api(self) -> httpx.Client:
        return httpx.Client(
            base_url=self.url, headers={"x-api-key": self.key}, timeout=_PATIENCE_SECONDS, transport=self.transport
        )

    def code(self, role: Role = "owner", organization: int = 0) -> str:
        """Return a one-time code that signs a browser in."""
        return self.run(one_time_code(self.control, organization or self.principal.organization, role=role))

    def browser(self, role: Role | None = "owner", **options: Any) -> Browser:
        """Return a client with the cookies of a signed-in browser; None: not signed in."""
        client = Browser(self.url, transport=self.transport, **options)
        if role is not None:
            answer = client.get("/open", params={"code": self.code(role)})
            assert answer.status_code == 303, answer.text
            assert LOOPBACK_NAME in client.cookies
        return client

    def foreign_browser(self) -> Browser:
        """Return the browser of the owner of another organization."""
        made = self.api().post("/organizations", json={"alias": f"com.example.f{os.urandom(4).hex()}"}).json()

        async def organization() -> int:
            return (await self.control.cache.authenticate(made["api_key"]["key"])).principal.organization

        code = self.code("owner", self.run(organization()))
        browser = self.browser(None)
        browser.get("/open", params={"code": code})
        return browser

    def settle(self) -> None:
        """Return when everything that is due has been sent and stored."""
        self.run(self.timeline.settle(_PATIENCE_SECONDS))

    def advance(self, seconds: float) -> None:
        """Move the clock, and do what becomes due on the way."""
        self.run(self.timeline.advance_by(round(seconds * 1_000), seconds=_PATIENCE_SECONDS))


@contextmanager
def dashboard_service(
    folder: Path, make_sender: Callable[..., KitSender] = KitSender, **settings: Any
) -> Iterator[DashboardService]:
    """A service that runs while the block does, on a database in the folder."""
    thread = LoopThread("dashboard", uvloop.new_event_loop)
    started: Future[DashboardService] = Future()
    stopping: asyncio.Event | None = None

    async def serve() -> None:
        nonlocal stopping
        stopping = asyncio.Event()
        clock, log = MovableClock(), Problems()
        chosen = settings_for_tests(folder, **settings)
        async with open_installation(chosen, clock, log) as control:
            # The timeline moves this clock ahead of the clock of a real server.
            control.store.clock.adjust = lambda read, sent_at: None  # type: ignore[method-assign]
            organization, key = await ensure_operator(control, "com.example.shop", None)
            del organization
            principal = (await control.cache.authenticate(key or "")).principal
            limits = SenderLimits(connect_timeout_ms=chosen.connect_timeout_seconds * 1_000)
            public = EgressPolicy(allow_private=True)
            sender = make_sender(clock, limits, policy=control.egress, details="all", public=public)
            inbox = Inbox(control, principal.organization, example="curl http://127.0.0.1:3000/queues/demo/messages")
            worker = Worker(control, log, edge(inbox=inbox), sender=sender, machine=Machine(random=lambda: 0.0))
            worker.application = InboxEndpoint(worker.application, inbox, chosen, lambda received: None)
            timeline = Timeline(worker, clock, sender)
            with held_address() as address:
                async with served(worker, address):
                    parts = (control, worker, timeline, log, thread, key or "", principal, inbox)
                    started.set_result(DashboardService(address.url, *parts))
                    await stopping.wait()

    done = thread.submit(serve())
    try:
        ends: list[Future[Any]] = [started, done]
        wait(ends, _PATIENCE_SECONDS, FIRST_COMPLETED)
        if done.done():
            done.result()
        yield started.result(0)
        started.result(0).transport.close()
    finally:
        if stopping is not None and not done.done():
            thread.loop.call_soon_threadsafe(stopping.set)
            done.result(_PATIENCE_SECONDS)
        thread.stop()


def deep_list(length: int) -> list[Any]:
    """Return a list of ones, below so many others that indents would make it 150 times as long."""
    value: list[Any] = [1] * length
    for _ in range(80):
        value = [value]
    return value
