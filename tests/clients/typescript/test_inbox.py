"""The inbox of the TypeScript client on real databases: a program in node sends its statements to this process."""

import json
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.clients.python.outbox.databases import empty_database
from tests.clients.typescript.conftest import Node
from tools.typescript_client import PACKAGE

pytestmark = pytest.mark.xdist_group("typescript")

_BRIDGE = """
import { readSync } from "node:fs";
import { INBOX_TABLE, once, onceSync } from "@discue/client";
function ask(sql, values = []) {
  process.stdout.write(JSON.stringify([sql, values]) + "\\n");
  const byte = Buffer.alloc(1);
  let line = "";
  while (readSync(0, byte, 0, 1) && byte[0] !== 10) line += byte.toString();
  const { count, error } = JSON.parse(line);
  if (error) throw new Error(error);
  return count;
}
const client = { query: async (sql, values) => ({ rowCount: ask(sql, values) }) };
const database = {
  exec: (sql) => sql.split("; ").forEach((each) => ask(each)),
  prepare: (sql) => ({ run: (...values) => ({ changes: ask(sql, values) }) }),
};
const effect = () => void ask("INSERT INTO effects VALUES ('m')");
const failing = () => { effect(); throw new Error("failed"); };
const found = [];
const note = async (work) => { try { found.push(await work()); } catch (error) { found.push(error.message); } };
for (const each of INBOX_TABLE.split(";").filter((each) => each.trim())) ask(each);
ask("CREATE TABLE effects (message text)");
"""
_EVENT = '{ id: "m" }'


class Database:
    """Runs what the program sends, on either engine."""

    def __init__(self, url: str) -> None:
        self.connection: Any = (
            sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
            if url.startswith("sqlite")
            else psycopg.connect(url, autocommit=True, cursor_factory=psycopg.RawCursor)
        )

    def run(self, node: Node, program: str) -> Any:
        """Return the results of the program."""
        command = ["node", "--input-type=module", "-e", _BRIDGE + program + "ask(JSON.stringify(found));"]
        with subprocess.Popen(
            command, cwd=PACKAGE, env=node.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            for line in process.stdout:
                sql, values = json.loads(line)
                if sql.startswith("["):
                    process.stdin.write('{"count": 0}\n')
                    process.stdin.flush()
                    return json.loads(sql)
                process.stdin.write(json.dumps(self._answer(sql, values)) + "\n")
                process.stdin.flush()
        raise AssertionError("The program ended without a result.")

    def _answer(self, sql: str, values: list[Any]) -> dict[str, Any]:
        try:
            return {"count": self.connection.execute(sql, values).rowcount}
        except (sqlite3.Error, psycopg.Error) as error:
            return {"error": str(error)}

    def count(self, table: str) -> int:
        ((count,),) = self.connection.execute(f"SELECT count(*) FROM {table}").fetchall()
        return int(count)


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with empty_database(request.param, tmp_path) as url:
        made = Database(url)
        with closing(made.connection):
            yield made


def test_effect_happens_once_and_a_failed_one_is_tried_again(database: Database, node: Node) -> None:
    program = f"""
ask("BEGIN");
await note(() => once(client, {_EVENT}, failing));
await note(() => once(client, {_EVENT}, effect));
await note(() => once(client, "m", effect));
await note(() => once(client, {_EVENT}, effect, {{ consumer: "mail" }}));
ask("COMMIT");
await note(() => once(client, {{ id: "" }}, effect));
"""
    found = database.run(node, program)

    assert found == ["failed", True, False, True, "The inbox takes an event or the id of a message."]
    assert (database.count("effects"), database.count("discue_inbox")) == (2, 2)


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_client_without_a_transaction_is_refused(database: Database, node: Node) -> None:
    (error,) = database.run(node, f"await note(() => once(client, {_EVENT}, effect));")

    assert "SAVEPOINT can only be used in transaction blocks" in error
    assert (database.count("effects"), database.count("discue_inbox")) == (0, 0)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_sync_effect_is_committed_with_its_mark(database: Database, node: Node) -> None:
    program = f"""
await note(() => onceSync(database, {_EVENT}, failing));
await note(() => onceSync(database, {_EVENT}, async () => effect()));
await note(() => onceSync(database, {_EVENT}, effect));
await note(() => onceSync(database, {_EVENT}, effect));
"""
    found = database.run(node, program)

    assert found == ["failed", "The effect must not be async: it would end after the commit.", True, False]
    assert not database.connection.in_transaction
    assert (database.count("effects"), database.count("discue_inbox")) == (1, 1)
