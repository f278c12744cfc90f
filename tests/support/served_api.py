"""The API as clients meet it: the real application under the real server, on a database of its own."""

import asyncio
import os
import random
import socket
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any, TypeVar

import httpx

from discue.api.app import App
from discue.api.incoming import IncomingSite
from discue.api.route import Route
from discue.auth.authenticator import Authenticator
from discue.auth.client_ip import ClientIpResolver, UntrustedProxies
from discue.auth.rate_limiter import RateLimiter
from discue.config.settings import Settings
from discue.control import api_keys
from discue.control.context import ControlContext
from discue.control.organizations import ensure_operator
from discue.crypto.passwords import PasswordHashing
from discue.dispatch.jobs.domain_checks import DomainVerifier
from discue.dispatch.lease import Leadership
from discue.dispatch.pull.broker import PullBroker
from discue.dispatch.pull.session import PullContext
from discue.domain.attempts import Trace, encode_detail
from discue.domain.clock import SystemClock
from discue.domain.egress import EgressPolicy
from discue.domain.ids import event_id_of
from discue.domain.scopes import Scope, all_scopes
from discue.domain.trace_context import TraceIds
from discue.http.body import BodyReader
from discue.http.pipeline import SOURCES, Pipeline
from discue.http.services import Readiness, Services
from discue.http.unread import UnreadResponses
from discue.observability.logs import Log
from discue.product import MISSING_PAGE, ROUTES
from discue.publishing.publish import Publisher
from discue.publishing.quota_gate import QuotaGate
from discue.sending.endpoint_auth import TOKEN_BYTES, AccessTokens
from discue.sending.endpoint_tester import EndpointTester
from discue.sending.fetch import Fetcher
from discue.sending.response import SenderLimits
from discue.sending.sender import Sender
from discue.server.http import HttpServer
from discue.server.installation import open_installation
from discue.store.engine import Transaction
from tests.support.authority import trusting_context
from tests.support.described_responses import DescribedTransport
from tests.support.held_address import held_address
from tests.support.passwords import CHEAP

T = TypeVar("T")

PUBLIC = EgressPolicy(allowed_networks=(ip_network("127.0.0.2/32"),))
"""The network whose responses are shown like those of public addresses."""

OPERATOR = "com.example.operator"
_ATTEMPT = """
    INSERT INTO attempt (organization, id, listener, queue, seq, number, status, error, took_ms, detail)
    SELECT l.organization, $1, l.id, l.queue, log.seq, $2, $3, $4, $5, $6
    FROM listener l JOIN log ON log.organization = l.organization AND log.queue = l.queue AND log.id = $7
    WHERE l.public_id = $8"""
_DETAIL = """
    INSERT INTO attempt_detail (organization, id, listener, size, content)
    SELECT organization, $1, id, $2, $3 FROM listener WHERE public_id = $4"""
_PATIENCE_SECONDS = 60


class Memory(Log):
    """A log that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[tuple[str, dict[str, object]]] = []
        self.lines: list[tuple[str, dict[str, object]]] = []

    def info(self, event: str, /, **fields: object) -> None:
        self.lines.append((event, fields))

    def warning(self, event: str, /, **fields: object) -> None:
        self.lines.append((event, fields))

    def error(self, event: str, /, *, exc_info: BaseException | None = None, **fields: object) -> None:
        self.errors.append((event, {**fields, "exc_info": exc_info}))


@dataclass
class Service:
    """A running API. `operator` is the first key of the operator's organization."""

    loop: asyncio.AbstractEventLoop
    installation: ControlContext
    readiness: Readiness
    log: Memory
    port: int
    operator: str
    transport: httpx.HTTPTransport
    pulls: PullBroker
    app: App
    clients: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something on the server's own loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(_PATIENCE_SECONDS)

    def client(self, key: str | None) -> httpx.Client:
        # Each from an address of its own: what one of them does wrong locks none of the others out.
        headers = {"x-forwarded-for": f"198.18.{self.clients // 250}.{self.clients % 250 + 1}"}
        self.clients += 1
        if key is not None:
            headers["x-api-key"] = key
        return httpx.Client(base_url=self.url, headers=headers, timeout=_PATIENCE_SECONDS, transport=self.transport)

    def found(self, alias: str) -> tuple[str, str]:
        """A new organization: its id and its first key."""
        answer = self.client(self.operator).post("/organizations", json={"alias": alias}).json()
        return answer["organization"]["id"], answer["api_key"]["key"]

    def key(self, organization_alias: str, scopes: Mapping[str, Scope] | None = None) -> str:
        """A key of an organization with any scopes at all, made as the operator makes them."""
        made = api_keys.create_for(
            self.installation, organization_alias, None, all_scopes() if scopes is None else scopes
        )
        return self.run(made).text

    def raw(self, request: bytes, *, until_closed: bool = False) -> bytes:
        """Send bytes and return the first response, or everything until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=_PATIENCE_SECONDS) as connection:
            connection.sendall(request)
            answer = b""
            while part := connection.recv(65_536):
                answer += part
                if not until_closed and _complete(answer):
                    break
            return answer


def _complete(answer: bytes) -> bool:
    head, found, body = answer.partition(b"\r\n\r\n")
    if not found:
        return False
    lengths = [
        int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
    ]
    return len(body) >= sum(lengths)


class _Thread:
    """A server and its loop, on a thread of their own."""

    def __init__(self, routes: Sequence[Route], settings: Mapping[str, Any]) -> None:
        self._routes = routes
        self._body_deadline_seconds = settings.get("body_deadline_seconds")
        self._settings = {name: value for name, value in settings.items() if name != "body_deadline_seconds"}
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="api")
        self._ready: Future[Service] = Future()
        self._stop = asyncio.Event()

    def start(self) -> Service:
        self._done = self._executor.submit(asyncio.run, self._serve())
        either: list[Future[Any]] = [self._ready, self._done]
        wait(either, _PATIENCE_SECONDS, FIRST_COMPLETED)
        if self._done.done():
            self._done.result()
        return self._ready.result(0)

    def stop(self) -> None:
        service = self._ready.result(0)
        service.transport.close()
        service.loop.call_soon_threadsafe(self._stop.set)
        self._done.result(_PATIENCE_SECONDS)
        self._executor.shutdown()

    async def _serve(self) -> None:
        log, clock = Memory(), SystemClock()
        settings = Settings(port=0, **self._settings)
        async with open_installation(settings, clock, log) as installation:
            _, key = await ensure_operator(installation, OPERATOR, None)
            readiness = Readiness(installation.store)
            readiness.phase = "serving"
            control, store = replace(installation, passwords=PasswordHashing(CHEAP)), installation.store
            quotas = QuotaGate(store, clock, control.row_ids)
            publisher = Publisher(store, installation.cache, clock, control.public_ids, quotas, control.row_ids)
            services = Services(
                control,
                publisher,
                readiness,
                log,
                _domain_checks(installation),
                RateLimiter(store, clock),
                Authenticator(store, installation.cache, clock, control.row_ids, log=log),
                ClientIpResolver(settings.trusted_proxies, UntrustedProxies(log, clock.monotonic)),
                tester := _endpoint_tester(installation),
                pulls := _pulls(installation, log),
                BodyReader(
                    deadline_seconds=self._body_deadline_seconds or settings.request_body_timeout_seconds,
                    max_bytes=settings.max_waiting_bytes,
                    is_store_healthy=lambda: store.healthy,
                ),
                UnreadResponses(store.ledger),
            )
            app = App(services, (*ROUTES, *self._routes), missing=MISSING_PAGE)
            sites = {SOURCES: IncomingSite(services)}
            installation.cache.follow(pulls.on_change)
            store.on_append = [pulls.on_appended]
            with held_address() as address:
                server = HttpServer(Pipeline(services, app, sites), address, max_connections=1_000)
                await server.start()
            self._ready.set_result(
                Service(
                    loop=asyncio.get_running_loop(),
                    installation=installation,
                    readiness=readiness,
                    log=log,
                    port=server.address.port,
                    operator=key or "",
                    # One for all clients: making one costs as much as ten requests.
                    transport=DescribedTransport(route.path for route in self._routes),
                    pulls=pulls,
                    app=app,
                )
            )
            await self._stop.wait()
            pulls.close()
            await server.stop(1)
            await tester.close()


def _endpoint_tester(installation: ControlContext) -> EndpointTester:
    policy, clock = installation.egress, installation.clock
    fetcher = Fetcher(policy=policy, ssl_context=trusting_context(), kept_bytes=TOKEN_BYTES)
    tokens = AccessTokens(fetcher, clock)
    sender_of = partial(Sender, policy=policy, ssl_context=trusting_context(), public=PUBLIC)
    return EndpointTester(sender_of, tokens, clock, SenderLimits())


def _domain_checks(installation: ControlContext) -> DomainVerifier:
    """On demand only; certificates of the tests' own authority are good."""
    fetcher = Fetcher(policy=installation.egress, ssl_context=trusting_context())
    return DomainVerifier(installation, fetcher, Leadership())


def _pulls(installation: ControlContext, log: Log) -> PullBroker:
    sources = (installation.clock, installation.row_ids, random.random)
    context = PullContext(
        installation.store,
        *sources,
        max_in_flight=50,
        deadline_ms=30 * 86_400_000,
        trace_ids=TraceIds(installation.random_bytes),
        on_missed=lambda: None,
        disable=lambda *_: None,
    )
    return PullBroker(context, log)


@contextmanager
def served(cache: Path, routes: Sequence[Route] = (), **settings: Any) -> Iterator[Service]:
    """A service that runs while the block does, on a file in the directory if they name no other database.

    `settings` are those of the product, and `body_deadline_seconds`.
    """
    ours = {
        "database": f"sqlite:///{cache}/discue.db",
        "allow_private_targets": True,
        "tenant_organizations": 100,
        "trusted_proxies": (ip_network("127.0.0.0/8"),),
    }
    thread = _Thread(routes, {**ours, **settings})
    try:
        yield thread.start()
    finally:
        thread.stop()


@dataclass
class Cast:
    """The clients of a test: alice and charlie each own an organization; nobody has no key."""

    service: Service
    organization_id: str
    organization_alias: str
    alice: httpx.Client
    nobody: httpx.Client

    @cached_property
    def charlie(self) -> httpx.Client:
        """Founded when a test first asks for it: most do not, and it costs as much as they do."""
        return self.service.client(self.service.found(f"com.example.c{os.urandom(6).hex()}")[1])

    def bob(self, scopes: Mapping[str, Scope]) -> httpx.Client:
        """A narrow key in alice's organization."""
        return self.service.client(self.service.key(self.organization_alias, scopes))

    def create(self, path: str, fields: Mapping[str, Any]) -> str:
        """Create a resource of alice's; returns its id."""
        answer = self.alice.post(path, json=fields)
        assert answer.status_code == 200, answer.text
        return next(str(value["id"]) for name, value in answer.json().items() if name != "_links")

    def queue(self, **fields: Any) -> str:
        return self.create("/queues", fields)

    def topic(self, **fields: Any) -> str:
        return self.create("/topics", fields)

    def channel(self, topic: str, queue: str, **fields: Any) -> str:
        return self.create(f"/topics/{topic}/channels", {"queue_id": queue, **fields})

    def listener(self, queue: str, **fields: Any) -> str:
        """Create a listener; in push mode, unless the fields say otherwise, at a port where no server listens."""
        pulls = fields.get("mode") == "pull"
        urls = {} if pulls else {"notify_url": "http://127.0.0.1:9/notify", "liveness_url": "http://127.0.0.1:9/live"}
        return self.create(f"/queues/{queue}/listeners", {**urls, **fields})

    def secret(self, queue: str, listener: str) -> str:
        """Create two signing secrets, so that the one whose id is returned can be deleted."""
        first, _ = (self.create(f"/queues/{queue}/listeners/{listener}/secrets", {}) for _ in range(2))
        return first

    def redelivery(self, queue: str, listener: str) -> str:
        return self.create(f"/queues/{queue}/listeners/{listener}/redeliveries", {"all": True})

    def schedule(self, queue: str) -> str:
        return self.create(f"/queues/{queue}/schedules", {"cron": "@yearly", "data": {"order": 1}})

    def portal_session(self, queue: str) -> str:
        return self.create(
            f"/organizations/{self.organization_id}/portal_sessions", {"customer": "acme", "queues": [queue]}
        )

    def replay(self, queue: str, listener: str) -> str:
        return self.create(f"/queues/{queue}/listeners/{listener}/replays", {"from_at": 0})

    def domain(self, port: int = 1_031) -> str:
        """Create a domain on this machine; at the default port no server listens."""
        return self.create("/domains", {"hostname": "localhost", "port": port})

    def schema(self, queue: str, **schema: Any) -> str:
        """Set the schema of a queue; returns its id."""
        answer = self.alice.put(f"/queues/{queue}", json=schema or {"schema": {"order": {"type": "number"}}})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["queue"]["schema_id"])

    def invited(self) -> dict[str, Any]:
        """Create a user without a password; returns the response, which has the invitation."""
        answer = self.alice.post("/users", json={"email": f"{os.urandom(6).hex()}@example.com", "role": "developer"})
        assert answer.status_code == 200, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def message(self, queue: str, **fields: Any) -> str:
        return self.create(f"/queues/{queue}/messages", {"data": "hello", **fields})

    def attempt(self, listener: str, message: str, detail: Trace | None = None, **fields: Any) -> str:
        """The id of an attempt that nobody has made, as lanes record it."""
        made = {"number": 1, "status": 503, "error": "status", "took_ms": 34, "detail": "It failed.", **fields}
        row_id = self.service.installation.row_ids.next()

        async def work(tx: Transaction) -> None:
            await tx.execute(_ATTEMPT, row_id, *made.values(), message, listener)
            if detail is not None:
                content = encode_detail(detail, 1_795_536_285_000)
                await tx.execute(_DETAIL, row_id, len(content), content, listener)

        self.service.run(self.service.installation.store.write(work))
        return event_id_of(row_id)


def cast_of(service: Service) -> Cast:
    """A new cast in new organizations, so that tests do not meet."""
    alias = f"com.example.a{os.urandom(6).hex()}"
    organization_id, alice = service.found(alias)
    client = service.client
    return Cast(service, organization_id, alias, client(alice), client(None))
