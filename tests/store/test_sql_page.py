"""The statements of docs/sql.md, run by the roles that the page names."""

import json
import re
from pathlib import Path

import asyncpg

from discue.dispatch.jobs.intake import Intake
from discue.dispatch.lease import Leadership
from discue.observability.logs import Log
from discue.store.postgres.engine import PostgresEngine
from discue.store.postgres.schema import DIALECT
from discue.store.store import Store
from tests.store.rows import row_id, stored_organization, stored_queue
from tests.support.cast import control_of
from tests.support.clocks import StandingClock
from tests.support.postgres.cluster import Cluster
from tests.support.postgres.fixtures import new_database
from tests.support.stores import WAITING_BYTES

PAGE = (Path(__file__).parents[2] / "docs" / "sql.md").read_text(encoding="utf-8")
EXAMPLE, SET_UP, ALLOW = re.findall(r"^```sql\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
_SERVICE = "service_of_page"
_OPERATOR = "com.example.operator"
_TABLE = "CREATE TABLE orders (id integer, customer text)"


async def run(address: str, *statements: str) -> None:
    connection = await asyncpg.connect(address)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def _unexpected(place: str, error: BaseException) -> None:
    raise AssertionError(f"the engine reported a failure: {place}") from error


async def test_statements_of_the_page_set_up_and_publish(postgres_cluster: Cluster) -> None:
    with new_database(postgres_cluster) as address:
        of_service, of_shop = (re.sub("//[^@]*@", f"//{role}@", address) for role in (_SERVICE, "shop"))
        # Tests have a role with the name of that of the page.
        set_up = re.sub(r"(ROLE|AUTHORIZATION) discue", rf"\1 {_SERVICE}", SET_UP)
        await run(address, "CREATE ROLE shop LOGIN; CREATE SCHEMA shop AUTHORIZATION shop", set_up)
        await run(of_shop, _TABLE)
        engine = PostgresEngine(of_service, report=_unexpected)
        await engine.open()
        store = Store(engine, max_waiting_bytes=WAITING_BYTES)
        await stored_organization(store, 1)
        await run(of_service, f"UPDATE organization SET alias = '{_OPERATOR}'", ALLOW)
        queue = await stored_queue(store, row_id(1), 10)
        await run(of_service, "UPDATE queue SET alias = 'orders'")

        await run(of_shop, EXAMPLE)
        errors, control, leadership = list[Exception](), control_of(store, StandingClock()), Leadership(is_held=True)
        intake = Intake(control, Log("test"), leadership, on_error=errors.append, on_delayed=lambda _due_at: None)
        await intake.move()
        assert errors == []

        page = await store.page(queue.organization, queue.id, 0, 10, max_bytes=1_000)
        assert [json.loads(entry.body) for entry in page.entries] == [{"order": 17}]
        await engine.close()
        await run(address, f"DROP OWNED BY shop, {_SERVICE} CASCADE; DROP ROLE shop; DROP ROLE {_SERVICE}")


def test_page_explains_every_argument() -> None:
    signature = DIALECT["intake"].split("discue_publish(")[1].split(") RETURNS")[0]

    assert re.findall(r"^\| `(\w+)` \| `(\w+)` \|", PAGE, re.MULTILINE) == [
        (name, kind.lower()) for name, kind in re.findall(r"^    (\w+) (\w+)", signature, re.MULTILINE)
    ]
