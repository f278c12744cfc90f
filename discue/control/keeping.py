"""Keeping an idempotency key in the very transaction of what it is used for."""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from discue.domain.idempotency import IdempotencyKey
from discue.store import idempotency
from discue.store.engine import AlreadyDone, IdempotencyRecord, Transaction, Work

T = TypeVar("T")


class IdempotentWrite(msgspec.Struct, frozen=True):
    """A key, and what makes the content that is kept with it from what the transaction brought about.

    `content_of` is called within the transaction: it waits for nothing, and must not fail. `id` is a new row's.
    """

    key: IdempotencyKey
    content_of: Callable[[Any], bytes]
    id: int

    def with_work(self, work: Work[T], now: int) -> Work[T]:
        """The work, and then the key. It raises AlreadyDone, and changes nothing, when the key was used before."""

        async def both(tx: Transaction) -> T:
            result = await work(tx)
            once = IdempotencyRecord(self.key.hash, self.key.fingerprint, self.content_of(result), self.id)
            if not await idempotency.keep(tx, self.key.organization, once, now):
                raise AlreadyDone
            return result

        return both
