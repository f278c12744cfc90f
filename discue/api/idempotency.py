"""Idempotency keys: the first request with a key takes effect, and the others get its response."""

from collections.abc import Awaitable, Callable
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

import msgspec

from discue.api.route import Call, Route
from discue.api.structs import ApiResponse
from discue.auth.keyed_semaphore import KeyedSemaphore
from discue.control.context import ControlContext, IdempotentWrite
from discue.domain.errors import BadRequest, Conflict, DiscueError, Unavailable, Unprocessable
from discue.domain.idempotency import NONCE_BYTES, IdempotencyKey, is_idempotency_key
from discue.http.pipeline import given_twice
from discue.http.rsgi import HttpHeaders
from discue.store import idempotency
from discue.store.engine import AlreadyDone
from discue.store.idempotency import StoredResponse
from discue.store.store import Store

T = TypeVar("T")
Response = TypeVar("Response", bound=ApiResponse)

HEADER: Final = "Idempotency-Key"
KEY_HEADER: Final = HEADER.lower()
_LONGEST_WAIT_SECONDS: Final = 5.0
_MAX_WAITING: Final = 1_000

_encode: Callable[[object], bytes] = msgspec.json.Encoder().encode
_pack: Callable[[object], bytes] = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple[str, bytes]).decode


def key_in(headers: HttpHeaders) -> str:
    """Return the key of a request that has one. Raises BadRequest if it is malformed or given twice."""
    values = headers.get_all(KEY_HEADER)
    if len(values) > 1:
        raise given_twice(HEADER)
    if not values or not is_idempotency_key(values[0]):
        raise BadRequest(f"The header {HEADER} must have 1 to 255 visible ASCII characters.", code="invalid_header")
    return values[0]


async def created(
    call: Call, create: Callable[[ControlContext], Awaitable[T]], respond: Callable[[Call, T], Response]
) -> Response:
    """Create a resource, and store the response in the same transaction if the request has an idempotency key.

    `create` is a function of the control plane that returns what its `control.write` returns. `respond` makes the
    response. It may be called twice, and on another thread.
    """
    control, key = call.control, call.idempotency_key
    if key is not None:
        nonce = control.random_bytes(NONCE_BYTES)

        def content_of(result: Any) -> bytes:
            # Sealed under the idempotency key itself, so that the database alone does not reveal the response.
            # Links begin with the nonce, not with the host of this request: each repetition has its own host.
            stored = copy(call)
            stored.base = nonce.hex() + call.base.removeprefix(call.root)
            response = _encode(respond(stored, result).without_secrets())
            return key.seal(_pack((stored.version, response)), nonce)

        # In the transaction of the creation: neither can be stored without the other, even if the process is killed.
        control = replace(control, once=IdempotentWrite(key, content_of, control.row_ids.next()))
    return respond(call, await create(control))


class IdempotentResponses:
    """Answers requests that have an idempotency key: one at a time per key, the first one by its handler."""

    def __init__(self, store: Store) -> None:
        self._read = store.read
        detail = f"A request with this {HEADER} is still in flight. Try again soon, with the same key."
        refusal = partial(Conflict, detail, code="request_in_flight", retry_after_seconds=1)
        self.in_flight = KeyedSemaphore[tuple[int, ...]](
            limit=1, max_waiting=_MAX_WAITING, refusal=refusal, timeout_seconds=_LONGEST_WAIT_SECONDS
        )

    async def respond(self, call: Call, key: IdempotencyKey, route: Route) -> bytes:
        """Return the encoded response.

        Raises Unprocessable if the key was used for a different request, and Conflict while the first is in flight.
        """
        # The semaphore only saves work: it covers this worker. Between workers, the unique key in the transaction of
        # the handler decides, and the loser gets AlreadyDone.
        async with self.in_flight.hold((key.organization, *key.hash)):
            try:
                return _encode(await route.handler(call))
            except (AlreadyDone, DiscueError) as error:
                stored = await self._stored(key, error)
        if stored.fingerprint != key.fingerprint:
            detail = f"This {HEADER} was already used for a different request. Use a new key."
            raise Unprocessable(detail, code="idempotency_key_reused")
        call.response_headers.append(("idempotency-replayed", "true"))
        if route.repeat is not None:
            return _encode(route.repeat(call, stored))
        call.version, response = _unpack(key.unseal(stored.content))
        return response.replace(stored.content[:NONCE_BYTES].hex().encode(), call.root.encode())

    async def _stored(self, key: IdempotencyKey, error: Exception) -> StoredResponse:
        """Return the first response, whatever error the handler raises for this request. Raises `error` without one."""
        # After a 5xx the outcome is unknown, so the stored response may be about to appear: the client must retry.
        if isinstance(error, DiscueError) and error.status >= 500:
            raise error
        # Any other error may itself be caused by the first request, such as an alias that it took.
        stored = await self._read(lambda tx: idempotency.read_response(tx, key.organization, key.hash))
        if stored is None:
            raise Unavailable("Nothing was changed. Try again soon.") if isinstance(error, AlreadyDone) else error
        return stored
