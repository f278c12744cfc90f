"""Idempotency keys on the wire: what creates takes effect once, and is answered as often as it comes."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, TypeVar

import msgspec

from discue.api.in_flight import InFlight
from discue.api.route import Call
from discue.api.router import CompiledRoute
from discue.api.rsgi import HttpHeaders
from discue.control.context import ControlContext, IdempotentWrite
from discue.domain.errors import BadRequest, DiscueError, Unavailable, Unprocessable
from discue.domain.idempotency import NONCE_BYTES, IdempotencyKey, is_idempotency_key
from discue.store import idempotency
from discue.store.engine import AlreadyDone
from discue.store.idempotency import StoredResponse
from discue.store.store import Store

T = TypeVar("T")


class Showable(Protocol):
    """A response that says what of it is kept."""

    def without_secrets(self) -> object: ...


Shown = TypeVar("Shown", bound=Showable)

HEADER = "Idempotency-Key"
_NAME = HEADER.lower()

_encode: Callable[[object], bytes] = msgspec.json.Encoder().encode
_pack: Callable[[object], bytes] = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple[str, bytes]).decode


def key_sent(headers: HttpHeaders) -> str | None:
    """The text of the key that a request came with. Raises BadRequest for what can be none, and for two."""
    if _NAME not in headers:
        return None
    values = headers.get_all(_NAME)
    if len(values) > 1:
        raise BadRequest(f"The header {HEADER} can be given once only.")
    if not values or not is_idempotency_key(values[0]):
        raise BadRequest(f"The header {HEADER} must have 1 to 255 visible ASCII characters.")
    return values[0]


async def created(call: Call, create: Callable[[ControlContext], Awaitable[T]], shown: Callable[[T], Shown]) -> Shown:
    """Create something and show it: how every handler that creates in the control plane ends.

    `create` is a verb of the control plane that returns what its `control.write` returns. `shown` makes the response
    of that, and may be called twice, also on another thread; where a response has secrets, its type says by
    `without_secrets` what a repetition gets.
    """
    control = call.control
    if call.once is not None:
        content_of = partial(_content, call, call.once, shown, control.random_bytes(NONCE_BYTES))
        control = replace(control, once=IdempotentWrite(call.once, content_of, control.row_ids.next()))
    return shown(await create(control))


def _content(call: Call, key: IdempotencyKey, shown: Callable[[Any], Showable], nonce: bytes, result: Any) -> bytes:
    response = _encode(shown(result).without_secrets())
    return key.seal(_pack((call.version, response)), nonce)


class IdempotentResponses:
    """Answers requests that came with a key: the first one by its handler, the others as the first one was."""

    def __init__(self, store: Store) -> None:
        self._read = store.read
        self._in_flight = InFlight()

    async def answer(self, call: Call, key: IdempotencyKey, endpoint: CompiledRoute) -> bytes:
        """Raises Unprocessable when the key came with another request before, Conflict while that is in flight."""
        place = (key.organization, *key.hash)
        if not self._in_flight.try_to_enter(place):
            await self._in_flight.enter(place)
        try:
            try:
                return _encode(await endpoint.handler(call))
            except (AlreadyDone, DiscueError) as error:
                kept = await self._kept(key, error)
            return _repeated(call, key, endpoint, kept)
        finally:
            self._in_flight.leave(place)

    async def _kept(self, key: IdempotencyKey, error: Exception) -> StoredResponse:
        """What is kept of the first request: it was well, whatever the handler says of this one by now."""
        if isinstance(error, DiscueError) and error.status >= 500:
            raise error
        kept = await self._read(lambda tx: idempotency.read_response(tx, key.organization, key.hash))
        if kept is None:
            raise Unavailable if isinstance(error, AlreadyDone) else error
        return kept


def _repeated(call: Call, key: IdempotencyKey, endpoint: CompiledRoute, kept: StoredResponse) -> bytes:
    if kept.fingerprint != key.fingerprint:
        raise Unprocessable(f"This {HEADER} came with another request before. Give each request a new one.")
    call.headers.append(("idempotency-replayed", "true"))
    if endpoint.route.repeat is not None:
        return _encode(endpoint.route.repeat(call, kept))
    call.version, response = _unpack(key.unseal(kept.content))
    return response
