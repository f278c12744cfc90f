"""The examples of docs/outbox.md, run on real databases."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, insert, inspect
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from discue_client import AsyncDiscue
from discue_client.outbox.table import create_statements
from tests.clients.python.outbox.databases import empty_database, run, waiting
from tests.support.served_api import Cast
from tools.python_client import PACKAGE

PAGE = (PACKAGE.parents[2] / "docs" / "outbox.md").read_text(encoding="utf-8")
FIRST, DJANGO, ALEMBIC, SQL = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def names_of(example: str, **names: Any) -> dict[str, Any]:
    exec(compile(example, "docs/outbox.md", "exec"), names)  # noqa: S102 - our own page
    return names


async def test_first_example_stores_the_order_and_publishes_the_message(
    tmp_path: Path, async_client: AsyncDiscue, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISCUE_URL", cast.service.url)
    monkeypatch.setenv("DISCUE_API_KEY", cast.alice.headers["x-api-key"])
    await async_client.queues.create(alias="orders")
    await async_client.listeners.create("orders", alias="billing", mode="pull")
    metadata = MetaData()
    orders = Table("orders", metadata, Column("id", Integer, primary_key=True))
    with empty_database("sqlite", tmp_path) as url:
        engine = create_engine(url, poolclass=NullPool)
        names = names_of(FIRST, Session=Session, insert=insert, metadata=metadata, orders=orders, engine=engine)

        async def serve() -> None:
            with Session(engine) as session:
                names["place"](session, {"id": 17, "customer": "c"})
            assert run(url, "SELECT id FROM orders") == [(17,)]
            async for delivery in async_client.consume("orders", listener="billing"):
                async with delivery:
                    assert (delivery.data, delivery.key) == ({"id": 17, "customer": "c"}, "c")
                return

        names["serve"] = serve
        await names["main"]()

        assert waiting(url) == []


_DJANGO_PROGRAM = """
import sys
import django
from django.conf import settings

database = {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1]}
settings.configure(DATABASES={"default": database}, INSTALLED_APPS=["discue_client.outbox.django"])
django.setup()
from django.core.management import call_command
from django.db import connection, models, transaction

call_command("migrate", verbosity=0)


class Order(models.Model):
    customer = models.TextField()

    class Meta:
        app_label = "shop"


with connection.schema_editor() as editor:
    editor.create_model(Order)
"""


def test_django_example_stores_the_order_and_the_message(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _DJANGO_PROGRAM + DJANGO, str(tmp_path / "application.db")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)

    assert ended.returncode == 0, ended.stderr
    url = f"sqlite:///{tmp_path}/application.db"
    assert run(url, "SELECT id FROM shop_order") == [(1,)]
    assert waiting(url) == [("orders", "customer-9", b'{"order":1}')]


def test_alembic_example_creates_and_drops_the_table(tmp_path: Path) -> None:
    with empty_database("sqlite", tmp_path) as url, create_engine(url, poolclass=NullPool).connect() as connection:
        migration = names_of(ALEMBIC, op=Operations(MigrationContext.configure(connection)))

        migration["upgrade"]()
        assert inspect(connection).get_table_names() == ["discue_outbox"]

        migration["downgrade"]()
        assert inspect(connection).get_table_names() == []


def test_sql_example_prints_statements_that_create_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names_of(SQL)

    with empty_database("postgres", tmp_path) as url:
        run(url, capsys.readouterr().out)
        assert waiting(url) == []


@pytest.mark.parametrize("dialect", ["postgresql", "sqlite"])
def test_page_explains_every_column(dialect: str) -> None:
    section = PAGE.split("## Create the table")[1].split("## ")[0]
    explained = re.findall(r"^\| `([a-z_]+)` \|", section, re.MULTILINE)

    assert re.findall(r"^    ([a-z_]+) ", create_statements(dialect)[0], re.MULTILINE) == explained
