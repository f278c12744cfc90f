"""Looking at lockouts and ending them: for whoever holds the database."""

from discue.control.context import ControlContext
from discue.domain.lockout import Lock, LockoutSubject, remaining_ms
from discue.store import lockouts
from discue.store.engine import Transaction

_AT_ONCE = 500


async def active(control: ControlContext, limit: int) -> list[Lock]:
    """The locks that hold now, those that hold longest first."""
    now = control.clock.now()
    return await control.store.read(lambda tx: lockouts.active(tx, now, limit))


async def unlock(control: ControlContext, subject: LockoutSubject) -> list[Lock]:
    """Let a subject in again, and begin to count anew; the lock that this ended, if one held."""
    now = control.clock.now()

    async def work(tx: Transaction) -> list[Lock]:
        held = await lockouts.of_numbers(tx, [subject.number])
        await lockouts.release(tx, subject)
        return [lock for lock in held if remaining_ms(lock.until, now)]

    return await control.write(work)


async def unlock_all(control: ControlContext) -> list[Lock]:
    """End every lock that holds; those that it ended."""
    now = control.clock.now()

    async def work(tx: Transaction) -> list[Lock]:
        held = await lockouts.active(tx, now, _AT_ONCE)
        for lock in held:
            await lockouts.release(tx, lock.subject)
        return held

    ended: list[Lock] = []
    while held := await control.write(work):
        ended += held
    return ended
