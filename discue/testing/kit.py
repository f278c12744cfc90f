"""The kit of one test: an organization of its own on a running server."""

import asyncio
import os
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import unquote

from discue.testing.applications import ApplicationEndpoint
from discue.testing.clock import milliseconds_of
from discue.testing.listeners import ANYTHING, ApplicationListener, KitListener, ScriptedListener
from discue.testing.loop_thread import LoopThread, either
from discue.testing.receiver import AttemptKey, EndpointConnection, Received, Receiver, Reply, Script
from discue.testing.remote import RemoteServer
from discue.testing.server import SETTLE_SECONDS, Held, InProcessServer, StillWorking, Timeline
from discue_client import AsyncDiscue, Discue
from discue_client.models import Listener, Message

T = TypeVar("T")
L = TypeVar("L", bound=KitListener)

_WAITING_SHOWN: Final = 20
_APPLICATION_SECONDS: Final = 5.0
_SECRET_VARIABLE: Final = "DISCUE_WEBHOOK_SECRET"  # noqa: S105 - the name of a variable


Host: TypeAlias = InProcessServer | RemoteServer
Clockwork: TypeAlias = Timeline | RemoteServer


class NotSettled(AssertionError):
    """Something that is due was not done in time. `str()` says what, and what it waits for."""

    def __init__(self, seconds: float, waiting: Sequence[str]) -> None:
        listed = waiting or ["The server still works on something that no message waits for."]
        super().__init__("\n  ".join([f"After {seconds:g} s, discue has not settled:", *listed]))
        self.waiting = tuple(waiting)


class KitClosed(RuntimeError):
    """The kit is used after its test or its `with` block."""

    def __init__(self) -> None:
        super().__init__(
            "This discue belonged to a test that has ended. Ask for the fixture `discue` in each test that uses it, "
            "or use discue.testing.serve() as a context manager."
        )


class Kit:
    """A running discue, with an organization in which there is nothing.

    Its methods may be called from coroutines, too: `await` those that return an awaitable.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._is_closed = False
        self._operator = self._client(host.key)
        found = self._operator.organizations.create(alias=f"test.{uuid.uuid4().hex}")
        self._organization = found.organization.id
        self.api_key = found.api_key.key
        """A key with every scope."""
        self._receiver: Receiver | None = None
        self._scripts: list[Script] = []
        self._endpoints: list[ApplicationEndpoint] = []
        self._application_thread: LoopThread | None = None
        self._listeners: list[KitListener] = []
        self._queues: set[str] = set()
        self.client = self._client(self.api_key)
        """A client of the organization, with every scope."""
        self.clock = KitClock(self)
        """The clock of the server."""

    @property
    def url(self) -> str:
        return self._running().url

    @property
    def environ(self) -> dict[str, str]:
        """The environment of a program that uses this service."""
        return {"DISCUE_URL": self.url, "DISCUE_API_KEY": self.api_key}

    @property
    def listeners(self) -> tuple[KitListener, ...]:
        """The listeners that this kit has created, in that order."""
        return tuple(self._listeners)

    def async_client(self) -> AsyncDiscue:
        """Return a client for coroutines. Use it as a context manager."""
        return AsyncDiscue(self.url, self.api_key)

    def queue(self, alias: str, **fields: Any) -> None:
        """Create a queue, or change the fields of one."""
        self._running()
        self.client.queues.update(alias, **fields)
        self._queues.add(alias)

    def publish(
        self, queue: str, data: object, *, expires_in: float | timedelta | str | None = None, **fields: Any
    ) -> Message:
        """Publish a message, as `Discue.publish` does. A queue that does not exist is created.

        `expires_in` counts from now on the clock of the server.
        """
        self._ensure_queue(queue)
        if expires_in is not None:
            fields["expires_at"] = self.clock.now_ms + milliseconds_of(expires_in)
        return self.client.publish(queue, data, **fields)

    def listener(self, queue: str, **fields: Any) -> ScriptedListener:
        """Create a listener that records its requests and responds as the test says, `200` by default.

        `fields` are those of a listener in the API. A queue that does not exist is created.
        """
        script = Script()
        url = self._run(self._serve(script.handle))
        self._scripts.append(script)
        return self._add(partial(ScriptedListener, script), self._create(queue, url, fields), queue)

    def deliver_to(
        self, application: Any, path: str = "/", *, queue: str, secret: str | None = None, **fields: Any
    ) -> ApplicationListener:
        """Create a listener whose requests an ASGI or WSGI application handles, without a server of its own.

        They are signed with `secret`, or the one of `DISCUE_WEBHOOK_SECRET`, or a new one. Inside a coroutine, an ASGI
        application runs on the loop of that coroutine.
        """
        if not path.startswith("/"):
            raise ValueError(f"The path must begin with a slash, not {path!r}.")
        endpoint = ApplicationEndpoint(application, self._submitter(), "discue-application")
        self._endpoints.append(endpoint)
        url = self._run(self._serve(partial(_pass_on, endpoint, path)))
        created = self._create(queue, url, fields)
        secret = secret or os.environ.get(_SECRET_VARIABLE, "").partition(" ")[0]
        return self._add(partial(ApplicationListener, endpoint), created, queue, secret)

    def settled(self, seconds: float = SETTLE_SECONDS, *, pulls: bool = True) -> Awaitable[None]:
        """Return when nothing is due and nothing in flight. Retries and messages for a later time do not count.

        Messages of listeners in pull mode count until a consumer has settled them; with `pulls=False` they do not.
        Raises NotSettled after `seconds` of real time, with what still waits and why.
        """
        return self._either(lambda: self._host.timeline.settle(seconds, tuple, pulls=pulls), seconds)

    @contextmanager
    def unavailable(self) -> Iterator[None]:
        """Let the service respond to every request with `503` while the block runs. Deliveries go on."""
        self._run(self._host.timeline.set_available(is_available=False))
        try:
            yield
        finally:
            self._run(self._host.timeline.set_available(is_available=True))

    def published(self, queue: str) -> list[Message]:
        """Return the messages of a queue with their data, oldest first."""
        self._ensure_queue(queue)
        return list(self.client.messages.list(queue, data="true"))[::-1]

    def assert_published(
        self,
        queue: str,
        data: Any = ANYTHING,
        *,
        type: Any = ANYTHING,  # noqa: A002 - the name of the field
        key: Any = ANYTHING,
        count: int | None = None,
    ) -> None:
        """Fail unless `count` messages have this data, type and key; without a count, at least one.

        A mapping matches data with more fields.
        """
        __tracebackhide__ = True
        messages = self.published(queue)
        found = sum(
            _fits(message.data, data) and type in (ANYTHING, message.type) and key in (ANYTHING, message.key)
            for message in messages
        )
        wanted = "a message" if count is None else f"{count} message{'' if count == 1 else 's'}"
        if found != count if count is not None else not found:
            shown = "\n".join(f"  {each.id}  type={each.type!r}  key={each.key!r}  {each.data!r}" for each in messages)
            given = (("", data), ("type ", type), ("key ", key))
            what = "".join(f" with {name}{value!r}" for name, value in given if value is not ANYTHING)
            raise AssertionError(
                f'queue "{queue}": expected {wanted}{what}, got {found}. It has:\n{shown or "  no messages"}'
            )

    def close(self, *, server_ends: bool = False) -> None:
        """Break the connections of all listeners, and delete the organization unless the server ends with it.

        Further calls do nothing. Raises TimeoutError if an application does not return.
        """
        if self._is_closed:
            return
        self._is_closed = True
        hanging = [request for endpoint in self._endpoints for request in endpoint.abandon()]
        try:
            if self._application_thread is not None:
                self._application_thread.stop(_APPLICATION_SECONDS)
        except TimeoutError:
            requests = ", ".join(dict.fromkeys(f"{request.method} {request.path}" for request in hanging))
            raise TimeoutError(
                f"An application of this test has not returned from {requests or 'its tasks'}: it blocks its event "
                "loop, for example in time.sleep, or waits for a thread. The next test gets another server."
            ) from None
        finally:
            self._host.require_running()
            if self._receiver is not None:
                self._host.thread.run(self._receiver.stop())
            if self.clock.is_frozen:
                self._host.thread.run(self._host.timeline.freeze(stands_still=False))
            if not server_ends:
                self._operator.organizations.delete(self._organization)

    def held(self) -> frozenset[AttemptKey]:
        """Return the attempts that listeners keep waiting on purpose."""
        return frozenset(key for script in self._scripts for key in script.held)

    def advance(self, move: Callable[[Clockwork, Held], Coroutine[Any, Any, None]]) -> Awaitable[None]:
        """Move the clock. Raises NotSettled."""
        return self._either(lambda: move(self._host.timeline, self.held), SETTLE_SECONDS)

    def run(self, work: Callable[[Clockwork], Coroutine[Any, Any, T]]) -> T:
        """Return the result of work on the server."""
        return self._run(work(self._running().timeline))

    def _client(self, key: str) -> Discue:
        return Discue(self._host.url, key, http_client=self._host.http_client, attempts=3, deadline=10.0)

    def _running(self) -> Host:
        if self._is_closed:
            raise KitClosed
        self._host.require_running()
        return self._host

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            thread = self._running().thread
        except BaseException:
            work.close()
            raise
        return thread.run(work)

    def _either(self, make: Callable[[], Coroutine[Any, Any, None]], seconds: float) -> Awaitable[None]:
        def work() -> None:
            try:
                self._run(make())
            except StillWorking:
                raise NotSettled(seconds, self._waiting()) from None

        return either(work)

    def _waiting(self) -> list[str]:
        """Return a line for each delivery that waits, with its reason."""
        lines: list[str] = []
        known = {listener.id: listener for listener in self._listeners}
        for queue in self.client.queues.list():
            for state in ("pending", "retrying"):
                for message in self.client.messages.list(queue.id, state=state, limit=_WAITING_SHOWN):
                    for delivery in self.client.messages.deliveries(queue.id, message.id):
                        if delivery.waits_for:
                            listener = known.get(delivery.listener_id)
                            name = delivery.listener_id if listener is None else listener.alias
                            reason = "" if listener is None else listener.waits_for(message.id)
                            what = f'message {message.id} of queue "{queue.alias}" to listener "{name}"'
                            lines.append(f"{what}: {reason or delivery.waits_for}")
        return lines

    def _ensure_queue(self, alias: str) -> None:
        if alias not in self._queues:
            self.queue(alias)
        else:
            self._running()

    async def _serve(self, handle: Callable[[Received, EndpointConnection], Awaitable[None]]) -> str:
        if self._receiver is None:
            self._receiver = Receiver()
            await self._receiver.start()
        return self._receiver.add(handle)

    def _create(self, queue: str, url: str, fields: Mapping[str, Any]) -> Listener:
        self._ensure_queue(queue)
        return self.client.listeners.create(queue, notify_url=url, **fields)

    def _add(self, make: Callable[..., L], created: Listener, queue: str, secret: str = "") -> L:
        own = created.secret or ""
        if secret and secret != own:
            self.client.secrets.create(queue, created.id, secret=secret, expire_previous_in=0)
        listener = make(self.client, queue, id=created.id, alias=created.alias, secret=secret or own)
        self._listeners.append(listener)
        return listener

    def _submitter(self) -> Callable[[Coroutine[Any, Any, Reply]], "Future[Reply]"]:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            if self._application_thread is None:
                self._application_thread = LoopThread("discue-applications", asyncio.new_event_loop)
            return self._application_thread.submit
        return lambda work: asyncio.run_coroutine_threadsafe(work, loop)


class KitClock:
    """The clock of a server. It runs, and can be moved forward: retries, schedules, leases and expiries follow it."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self.is_frozen = False
        """Whether it moves only when a test moves it."""

    @property
    def now_ms(self) -> int:
        """The time in milliseconds since the epoch."""
        return self._kit.run(lambda timeline: timeline.now())

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self.now_ms / 1_000, UTC)

    def freeze(self) -> None:
        """Let the clock stand still until the end of the test: it moves only when the test moves it."""
        self.is_frozen = True
        self._kit.run(lambda timeline: timeline.freeze(stands_still=True))

    def advance(self, duration: str | float | timedelta) -> Awaitable[None]:
        """Move the clock by "1h", "1h30m", seconds or a timedelta.

        Everything that becomes due on the way is done at its time, one after the other. Returns when nothing is left
        to do. Raises ValueError for a duration below 0, NotSettled if something takes longer than five seconds.
        """
        milliseconds = milliseconds_of(duration)
        return self._kit.advance(lambda timeline, held: timeline.advance_by(milliseconds, held))

    def advance_to(self, time: datetime) -> Awaitable[None]:
        """Move the clock to a time, which must have a time zone. Raises ValueError for one that has passed."""
        if time.tzinfo is None:
            raise ValueError(f"{time!r} has no time zone.")
        instant, now = round(time.timestamp() * 1_000), self.now
        if time < now:
            raise ValueError(f"The clock cannot go back: {time.isoformat()} is before {now.isoformat()}.")
        return self._kit.advance(lambda timeline, held: timeline.advance_to(instant, held))

    def advance_to_next(self) -> Awaitable[None]:
        """Move the clock to the time of the next delivery, delayed message or schedule, if there is one."""
        return self._kit.advance(lambda timeline, held: timeline.advance_to_next(held))


def _fits(data: Any, wanted: Any) -> bool:
    if wanted is ANYTHING:
        return True
    if isinstance(wanted, Mapping) and isinstance(data, Mapping):
        return all(name in data and _fits(data[name], value) for name, value in wanted.items())
    return bool(data == wanted)


async def _pass_on(
    endpoint: ApplicationEndpoint, path: str, received: Received, connection: EndpointConnection
) -> None:
    """Let an application respond to a request that came over a socket."""
    place, _, query = path.partition("?")
    headers = tuple((name, "testserver" if name == "host" else value) for name, value in received.headers)
    meant = replace(received, path=unquote(place), query=query, headers=headers)
    await connection.send(await asyncio.wrap_future(endpoint.respond(meant)))
