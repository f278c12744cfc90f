from discue.dashboard.users import command_line
from discue.domain.errors import LockedOut
from discue.domain.lockout import FAILURES, FIRST_LOCK_MS, LockoutSubject
from tests.auth.test_authenticator import ELSEWHERE, HOME, UNKNOWN_KEY, Worker, here, let_in, there, wrong
from tests.support.cast import Cast

__all__ = ["here", "there"]


async def test_unlocked_address_is_accepted_by_every_worker(cast: Cast, here: Worker, there: Worker) -> None:
    await here.fail(UNKNOWN_KEY)
    await here.fail(wrong(cast.alice.key))
    await here.fail(wrong(cast.alice.key), ELSEWHERE)
    await there.hear()
    ended = await command_line.unlock_address(cast.control, HOME)
    subjects = {LockoutSubject.unknown_key(HOME), LockoutSubject.api_key(cast.alice.principal.key_public_id, HOME)}
    assert {lock.subject for lock in ended} == subjects
    assert {lock.until for lock in ended} == {cast.clock.now() + FIRST_LOCK_MS}
    for worker in (here, there):
        await worker.hear()
        assert await let_in(worker, cast.alice.key)
        assert await worker.asked(cast.alice.key, ELSEWHERE) is LockedOut
    await here.fail(UNKNOWN_KEY, times=FAILURES)
    assert await here.asked(UNKNOWN_KEY) is LockedOut


async def test_unlocked_key_is_accepted_from_every_address(cast: Cast, here: Worker) -> None:
    for address in (HOME, ELSEWHERE):
        await here.fail(wrong(cast.alice.key), address)
    await here.fail(wrong(cast.charlie.key))
    await here.fail(wrong(cast.alice.key), "192.0.2.3", times=FAILURES - 1)
    ended = await command_line.unlock_key(cast.control, cast.alice.principal.key_public_id)
    assert {lock.subject.address for lock in ended} == {HOME, ELSEWHERE}
    await here.hear()
    for address in (HOME, ELSEWHERE):
        assert await let_in(here, cast.alice.key, address)
    await here.fail(wrong(cast.alice.key), "192.0.2.3", times=FAILURES - 1)
    assert await let_in(here, cast.alice.key, "192.0.2.3")
    assert await here.asked(cast.charlie.key) is LockedOut


async def test_all_lockouts_can_be_ended_at_once(cast: Cast, here: Worker) -> None:
    await here.fail(UNKNOWN_KEY)
    await here.fail(wrong(cast.charlie.key), ELSEWHERE)
    ended = await command_line.unlock_all(cast.control)
    key = LockoutSubject.api_key(cast.charlie.principal.key_public_id, ELSEWHERE)
    assert {lock.subject for lock in ended} == {key, LockoutSubject.unknown_key(HOME)}
    assert await command_line.active_lockouts(cast.control, 10) == []
    await here.hear()
    assert await let_in(here, cast.charlie.key, ELSEWHERE)
