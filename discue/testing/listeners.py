"""Listeners of a test: what they received, and assertions about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from discue.domain.clock import rfc3339
from discue.testing.applications import ApplicationEndpoint
from discue.testing.receiver import Received, Script
from discue_client import Discue, Event, Webhook

if TYPE_CHECKING:
    from discue_client.models import Attempt

ANYTHING: Final = object()
"""Any value."""

_ATTEMPTS_SHOWN: Final = 50
_LONGEST_TEST_SECONDS: Final = 86_400
_DATA_CHARACTERS: Final = 40
_SAID_CHARACTERS: Final = 160


@dataclass(eq=False, repr=False)
class KitListener:
    """A listener of the kit. `id`, `alias` and `queue` name it in the API. `secret` signs its requests."""

    _endpoint: Script | ApplicationEndpoint
    _client: Discue
    queue: str
    id: str
    alias: str
    secret: str

    @property
    def requests(self) -> Sequence[Received]:
        """All requests as they arrived, oldest first: one for each attempt."""
        return self._endpoint.requests

    @property
    def errors(self) -> Sequence[Exception]:
        """The exceptions that the application or a callback has raised, oldest first. discue got a `500` for each."""
        return self._endpoint.errors

    @property
    def received(self) -> list[Event[Any]]:
        """The messages of all requests, oldest first, verified. Raises SignatureInvalid."""
        webhook = Webhook(self.secret, tolerance=_LONGEST_TEST_SECONDS)
        return [webhook.unwrap(request.body, request.headers) for request in self.requests]

    @property
    def attempts(self) -> "list[Attempt]":
        """The attempts with their responses, as the service has recorded them, oldest first.

        They are recorded when they end.
        """
        return self._attempts()

    def _attempts(self, limit: int | None = None) -> "list[Attempt]":
        recorded = self._client.listeners.attempts(self.queue, self.id, limit=limit)
        return [self._client.listeners.attempt(self.queue, self.id, each.id) for each in recorded][::-1]

    def assert_received(
        self,
        count: int | None = None,
        *,
        data: Any = ANYTHING,
        type: Any = ANYTHING,  # noqa: A002 - the name of the field
        key: Any = ANYTHING,
    ) -> None:
        """Fail unless `count` requests came with this data, type and key; without a count, at least one.

        Each attempt is a request. A failure shows all attempts.
        """
        __tracebackhide__ = True
        found = sum(self._is_meant(event, data, type, key) for event in self.received)
        if found != count if count is not None else not found:
            given = (("data", data), ("type", type), ("key", key))
            what = "".join(f" with {name} {value!r}" for name, value in given if value is not ANYTHING)
            wanted = "a request" if count is None else f"{count} request{'' if count == 1 else 's'}"
            self._fail(f"expected {wanted}{what}, got {found}")

    def assert_received_in_order(self, *data: Any) -> None:
        """Fail unless the messages arrived with exactly these data, in this order, by their first requests."""
        __tracebackhide__ = True
        first = {event.id: event.data for event in reversed(self.received)}
        found = [first[message] for message in dict.fromkeys(event.id for event in self.received)]
        if found != list(data):
            self._fail(f"expected {list(data)!r} in this order, got {found!r}")

    def assert_acknowledged(self, count: int | None = None) -> None:
        """Fail unless the listener has acknowledged so many messages; without a count, at least one."""
        __tracebackhide__ = True
        # Not by its attempts, which are deleted after some days on the clock of the service.
        found = self._client.listeners.get(self.queue, self.id).messages.acknowledged_count
        if found != count if count is not None else not found:
            wanted = "an" if count is None else str(count)
            self._fail(f"expected {wanted} acknowledged message{'' if count in {None, 1} else 's'}, got {found}")

    def _is_meant(self, event: Event[Any], data: Any, event_type: Any, key: Any) -> bool:
        if (data is not ANYTHING and event.data != data) or event_type not in (ANYTHING, event.type):
            return False
        return key is ANYTHING or self._client.messages.get(self.queue, event.id).key == key

    def _fail(self, what: str) -> None:
        __tracebackhide__ = True
        failure = AssertionError(f'listener "{self.alias}" of queue "{self.queue}": {what}.\n{self.table()}')
        raised = self.errors[-1] if self.errors else None
        if raised is not None:
            failure.add_note(f"The listener raised {type(raised).__name__}: {raised}")
        raise failure from raised

    def waits_for(self, message_id: str) -> str:
        """Return what the kit knows of a message that is in flight; "" if it knows nothing."""
        return self._endpoint.waits_for(message_id)

    def table(self) -> str:
        """Return the last fifty attempts as a table, oldest first."""
        data = {request.fields.get("webhook-id"): _short(request.body) for request in self.requests}
        rows = [
            (
                attempt.message_id or "deleted",
                str(attempt.number),
                rfc3339(attempt.created_at),
                _result(attempt),
                f"{attempt.took_ms} ms",
                data.get(attempt.message_id, ""),
            )
            for attempt in self._attempts(_ATTEMPTS_SHOWN)
        ]
        if not rows:
            waits = self._client.listeners.get(self.queue, self.id).messages.pending_count
            return "  No attempt has ended" + (": call `discue.settled()` first." if waits else ".")
        rows.insert(0, ("message", "attempt", "ended at", "response", "took", "data"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        cells = ((text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows)
        return "\n".join("  " + "  ".join(row).rstrip() for row in cells)


def _result(attempt: "Attempt") -> str:
    if attempt.status and attempt.state == "acknowledged":
        return str(attempt.status)
    if attempt.status:
        said = attempt.response.body.strip().partition("\n")[0] if attempt.response is not None else ""
        return f"{attempt.status} {attempt.error}" + (f": {_short(said.encode(), _SAID_CHARACTERS)}" if said else "")
    return f"{attempt.error}: {attempt.detail}"


def _short(body: bytes, characters: int = _DATA_CHARACTERS) -> str:
    text = body.decode(errors="replace")
    return text if len(text) <= characters else text[: characters - 1] + "…"


class ScriptedListener(KitListener):
    """A listener on a port of its own, whose responses a test decides.

    Its methods `respond`, `retry_after`, `gone`, `slow`, `drip`, `reset`, `hang` and `callback` are those of `Script`.
    """

    def __init__(self, script: Script, client: Discue, queue: str, **names: str) -> None:
        super().__init__(script, client, queue, **names)
        self.respond = script.respond
        self.retry_after = script.retry_after
        self.gone = script.gone
        self.slow = script.slow
        self.drip = script.drip
        self.reset = script.reset
        self.hang = script.hang
        self.callback = script.callback


class ApplicationListener(KitListener):
    """A listener that is an ASGI or WSGI application in the process of the test."""
