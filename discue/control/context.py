"""What every verb of the control plane works with."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from discue.auth.control_plane_cache import ControlPlaneCache
from discue.config.settings import Settings
from discue.crypto.keyring import Keyring
from discue.crypto.password_hashing import PasswordHashing
from discue.domain.clock import Clock
from discue.domain.egress import EgressPolicy
from discue.domain.errors import Fault, NotFound, PreconditionFailed, Unprocessable
from discue.domain.etags import EntityTags, version_of
from discue.domain.idempotency import IdempotencyKey
from discue.domain.ids import PublicIds, RandomBytes, RandomText, RowIds
from discue.domain.scopes import Principal
from discue.store import idempotency
from discue.store.engine import AlreadyDone, IdempotencyRecord, Notification, Transaction, UniqueViolation, Work
from discue.store.events import Occurrence
from discue.store.store import Store

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
            if not await idempotency.store_key(tx, self.key.organization, once, now):
                raise AlreadyDone
            return result

        return both


@dataclass(frozen=True, slots=True)
class ControlContext:
    """The store, the directory that must see what is written, and where ids, time and randomness come from.

    Ids are made before a transaction begins: its statements may run on another thread.
    """

    store: Store
    cache: ControlPlaneCache
    clock: Clock
    public_ids: PublicIds
    row_ids: RowIds
    random_text: RandomText
    random_bytes: RandomBytes
    egress: EgressPolicy
    settings: Settings
    match: EntityTags | None = None
    """The If-Match of the request that this is for."""
    once: IdempotentWrite | None = None
    """The idempotency key of the request that this is for: one `write` of it is to take effect once."""
    keyring: Keyring = field(default_factory=Keyring)
    """The keys to what is encrypted."""
    passwords: PasswordHashing = field(default_factory=PasswordHashing)

    def occurrence(self, principal: Principal | None) -> Occurrence:
        """What an event of this moment is recorded with. None stands for a command."""
        return Occurrence(self.row_ids.next(), "" if principal is None else principal.key_public_id)

    async def write(self, work: Work[T]) -> T:
        """Commit, and see to it that this worker acts on it from now on.

        Raises Unprocessable when an alias is taken, also by somebody who was faster by a moment, and AlreadyDone
        when the idempotency key was used before.
        """
        if self.once is not None:
            work = self.once.with_work(work, self.clock.now())
        try:
            result = await self.store.write_exclusively(work)
        except UniqueViolation as error:
            raise alias_taken() from error
        await self.cache.catch_up()
        self.store.engine.notify(Notification(feed=True))
        return result

    def require_match(self, stored: msgspec.Struct) -> None:
        """Raises PreconditionFailed unless `stored` is what the request's If-Match names, if it has one.

        To be called by whatever changes or deletes a thing, as soon as its transaction has read it.
        """
        if self.match is not None and not self.match.matches_version(version_of(stored)):
            raise PreconditionFailed


def alias_taken() -> Unprocessable:
    return Unprocessable("This alias is taken.", faults=(Fault("/alias", "is taken"),))


def require_found(thing: T | None) -> T:
    """The thing. Raises NotFound when it is not there."""
    if thing is None:
        raise NotFound
    return thing
