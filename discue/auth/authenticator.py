"""Authentication: accepts valid API keys, counts failed attempts, and locks out after too many.

The status of a response to a wrong key may reveal whether the id of the key exists, because a lockout of unknown keys
refuses only unknown keys. It reveals nothing about the secret: a locked-out key is refused before it is read.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Final, TypeVar

from discue.auth.client_ip import subject_of
from discue.auth.control_plane_cache import ControlPlaneCache, KeyRecord, KeyRejected
from discue.auth.keyed_semaphore import KeyedSemaphore
from discue.domain import api_key
from discue.domain.clock import Clock
from discue.domain.errors import LockedOut, Overloaded, StoreUnavailable
from discue.domain.ids import RowIds
from discue.domain.lockout import LockoutSubject
from discue.observability.logs import Log
from discue.store import lockouts
from discue.store.engine import Notification
from discue.store.events import Occurrence
from discue.store.store import Store

T = TypeVar("T")

_CHECKS_AT_ONCE: Final = 3
"""Concurrent checks per address or email: this many attempts more than the limit can pass if all arrive at once."""

_MOST_CHECKS: Final = 4_096
"""Checks that run or wait in this worker.

Attempts from always new addresses never wait for each other, so the cap includes those that run.
"""
_MOST_CHECKS_OF_ADDRESS: Final = _MOST_CHECKS // 4
"""Wrong keys are checked during a lockout too: a flood of them must not cause refusals at other addresses."""
_SIGN_IN_BITS: Final = 48
"""The IPv6 prefix by which sign-ins are counted: many customers of providers have a /48, with 65,536 /64 networks."""


class Authenticator:
    """Authenticates the requests of one worker. A lockout by one worker applies to all of them."""

    def __init__(self, store: Store, cache: ControlPlaneCache, clock: Clock, row_ids: RowIds, *, log: Log) -> None:
        self._store = store
        self._cache = cache
        self._clock = clock
        self._row_ids = row_ids
        self._log = log
        self._semaphore = KeyedSemaphore[LockoutSubject](
            limit=_CHECKS_AT_ONCE,
            max_waiting=_MOST_CHECKS,
            max_users=_MOST_CHECKS,
            max_users_per_key=_MOST_CHECKS_OF_ADDRESS,
            refusal=partial(Overloaded, "Too many attempts to authenticate are waiting. Try again soon."),
        )
        # Few at a time, so that writes of the control plane do not wait behind a flood of guessed keys.
        self._writing = asyncio.Semaphore(4)

    def known(self, presented: str, address: str) -> KeyRecord | None:
        """Return the record of a key that was sent from an address, if the key is cached. Otherwise, `check` it.

        Raises KeyRejected, LockedOut, and Locked if the organization is suspended.
        """
        if self._cache.locks.until:
            self._refuse_locked(presented, subject_of(address))
        return self._cache.known(presented)

    async def attempt(self, subjects: Sequence[LockoutSubject], work: Callable[[], Awaitable[T | None]]) -> T | None:
        """Run another kind of sign-in. A result of None counts as a failed attempt for all subjects.

        If there are several subjects, the first must be an address: all attempts enter its semaphore first, so they
        cannot deadlock. Raises LockedOut.
        """
        async with AsyncExitStack() as held:
            for subject in subjects:
                await held.enter_async_context(self._semaphore.hold(subject))
            self.require_unlocked(subjects)
            found = await work()
            if found is None:
                for subject in subjects:
                    await self._count(subject)
            return found

    def require_unlocked(self, subjects: Sequence[LockoutSubject]) -> None:
        """Raise LockedOut if one of the subjects is locked out."""
        now, locks = self._clock.now(), self._cache.locks
        remaining_ms = max(locks.remaining_ms(subject, now) for subject in subjects)
        if remaining_ms and subjects[0].kind in ("sign_in", "device"):
            # The text is for a page.
            seconds = -(-remaining_ms // 1_000)
            detail = f"Too many attempts to sign in have failed. Try again in {seconds} seconds."
            raise LockedOut(detail, retry_after_seconds=seconds)
        _refuse(remaining_ms)

    async def check(self, presented: str, address: str) -> KeyRecord:
        """Return the record of a key that is not cached. Raises what `known` raises."""
        network = subject_of(address)
        async with self._semaphore.hold(LockoutSubject.unknown_key(network)):
            # Attempts that were ahead in the semaphore may have caused a lockout.
            self._refuse_locked(presented, network)
            try:
                return await self._cache.authenticate(presented)
            except KeyRejected as rejected:
                if rejected.counted:
                    await self._count_rejected(rejected, network)
                raise

    async def _count_rejected(self, rejected: KeyRejected, network: str) -> None:
        """Count a wrong key. Raises LockedOut.

        Only now is it known whether the key exists. An earlier lockout of unknown keys would also refuse valid keys
        from the same address.
        """
        known = rejected.known_key
        subject = LockoutSubject.unknown_key(network) if known is None else LockoutSubject.api_key(known, network)
        # Otherwise, each attempt during a lockout would need an exclusive transaction.
        self.require_unlocked([subject])
        await self._count(subject)

    def _refuse_locked(self, presented: str, network: str) -> None:
        """Raise LockedOut if the key is locked out at the address, before anything reveals whether it is valid."""
        subject = LockoutSubject.api_key(api_key.claimed_id(presented), network)
        _refuse(self._cache.locks.remaining_ms(subject, self._clock.now()))

    async def _count(self, subject: LockoutSubject) -> None:
        """Count a failed attempt. Raises LockedOut if a lockout was in effect that this worker did not know."""
        async with self._writing:
            now, occurrence = self._clock.now(), Occurrence(self._row_ids.next(), "")
            try:
                counted = await self._store.write_exclusively(
                    lambda tx: lockouts.count_failure(tx, subject, now, occurrence)
                )
            except StoreUnavailable as error:
                # Whether the attempt was counted or not, the request has had no effect.
                raise StoreUnavailable(code="not_stored") from error
        locks, until = self._cache.locks, counted.failures.locked_until
        # `too_late`: another worker has locked the subject out, and the feed has not told this worker yet.
        if counted.begins or counted.too_late:
            locks.set(subject, until, now)
        if counted.begins:
            self._store.engine.notify(Notification(feed=True))
            self._log.warning("lockout_started", **subject._asdict(), seconds=(until - now) // 1_000)
        if counted.too_late:
            _refuse(locks.remaining_ms(subject, now))


def sign_in_subject(address: str) -> LockoutSubject:
    """Return the subject for failed sign-ins of users and wrong invitations from an address."""
    return LockoutSubject.sign_in(subject_of(address, _SIGN_IN_BITS))


def _refuse(remaining_ms: int) -> None:
    if remaining_ms:
        raise LockedOut(retry_after_seconds=-(-remaining_ms // 1_000))
