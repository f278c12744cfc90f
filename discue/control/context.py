"""The context of the control plane: what every operation gets, and how it commits."""

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
from discue.domain.errors import NotFound, PreconditionFailed, invalid
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
    """A write that takes effect at most once per idempotency key: its response is stored in the same transaction."""

    key: IdempotencyKey
    content_of: Callable[[Any], bytes]
    """Makes the stored response from the result of the transaction. Called within it: must not wait or fail."""
    id: int
    """Row id of the new idempotency record."""

    def with_work(self, work: Work[T], now: int) -> Work[T]:
        """Return the work, followed by storing the key. It raises AlreadyDone if the key was used before."""

        async def both(tx: Transaction) -> T:
            result = await work(tx)
            once = IdempotencyRecord(self.key.hash, self.key.fingerprint, self.content_of(result), self.id)
            if not await idempotency.store_key(tx, self.key.organization, once, now):
                raise AlreadyDone
            return result

        return both


@dataclass(frozen=True, slots=True)
class ControlContext:
    """The store, the cache that must see each write, and the sources of ids, time and randomness.

    Operations take ids before their transaction begins: its statements may run on another thread.
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
    """The request's If-Match. None: the request has none."""
    once: IdempotentWrite | None = None
    """The request's idempotency key, for the one `write` that it makes. None: the request has none."""
    keyring: Keyring = field(default_factory=Keyring)
    passwords: PasswordHashing = field(default_factory=PasswordHashing)

    def occurrence(self, principal: Principal | None) -> Occurrence:
        """Return the id and author to record a usage event with. `principal` is None on the command line."""
        return Occurrence(self.row_ids.next(), "" if principal is None else principal.key_public_id)

    async def write(self, work: Work[T]) -> T:
        """Commit the work and update this worker's cache; then notify the other workers.

        Raises Unprocessable if the alias is taken, also by a concurrent request, and AlreadyDone if the idempotency
        key was used before.
        """
        if self.once is not None:
            work = self.once.with_work(work, self.clock.now())
        try:
            result = await self.store.write_exclusively(work)
        except UniqueViolation as error:
            raise invalid("/alias", "is taken") from error
        await self.cache.catch_up()
        self.store.engine.notify(Notification(feed=True))
        return result

    def require_match(self, stored: msgspec.Struct) -> None:
        """Raise PreconditionFailed unless `stored` matches the request's If-Match, if it has one.

        Every update and delete calls this in its transaction, after it has read the resource.
        """
        if self.match is not None and not self.match.matches_version(version_of(stored)):
            raise PreconditionFailed


def require_found(resource: T | None) -> T:
    """Return the resource. Raises NotFound if it is None."""
    if resource is None:
        raise NotFound
    return resource
