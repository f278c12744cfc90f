from typing import cast

from discue.dashboard.users import session_table
from discue.dashboard.users.session_table import SignInCode
from discue.dispatch.dispatcher import Dispatcher
from discue.dispatch.jobs.retention import Retention
from discue.dispatch.lease import Leadership
from discue.product import edge
from discue.store.engine import Transaction
from tests.dashboard.users.test_session_table import a_session
from tests.dispatch.conftest import reports, stage
from tests.dispatch.stage import DAY_MS, Stage
from tests.store.rows import row_id
from tests.support.cast import control_of

__all__ = ["reports", "stage"]


async def test_ended_sessions_and_expired_codes_are_deleted(stage: Stage) -> None:
    control, leadership = control_of(stage.store, stage.clock), Leadership(is_held=True)
    retention = Retention(control, cast(Dispatcher, stage), leadership, delete_ended=edge().delete_ended)
    await stage.running()
    now = stage.clock.now()
    ends = {"expires_at": now + DAY_MS, "created_at": now, "last_seen_at": now}

    async def sign_in(tx: Transaction) -> None:
        for number, idle_at in ((9_001, now + 1_000), (9_002, now + 2_000)):
            await session_table.insert(tx, a_session(number, idle_at=idle_at, **ends))
            await session_table.insert_code(tx, SignInCode(1, row_id(number), number.to_bytes(32), 0, "owner", idle_at))

    await stage.store.write(sign_in)
    stage.clock.advance(1_000)
    await retention.run()
    assert await stage.rows("SELECT id FROM session") == [(row_id(9_002),)]
    assert await stage.rows("SELECT id FROM sign_in_code") == [(row_id(9_002),)]
