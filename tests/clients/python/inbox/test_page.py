"""The Python examples of docs/inbox.md, run on a real database."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import create_engine, inspect, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from sqlalchemy.pool import NullPool

from discue_client import inbox
from discue_client.inbox.sqlalchemy import inbox_table
from discue_client.inbox.table import create_statements
from discue_client.webhook import Event
from tests.clients.python.outbox.databases import empty_database, run
from tools.python_client import PACKAGE

PAGE = (PACKAGE.parents[2] / "docs" / "inbox.md").read_text(encoding="utf-8")
FIRST, FASTAPI, DJANGO, CELERY, ALEMBIC, SQL, CLEANING = re.findall(
    r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL
)


class Base(DeclarativeBase):
    """The tables of the application."""


class Stock(Base):
    """The goods."""

    __tablename__ = "stock"
    product: Mapped[str] = mapped_column(primary_key=True)
    quantity: Mapped[int]


inbox_table(Base.metadata)


def event_of(quantity: int) -> Event[Any]:
    return Event("m", SimpleNamespace(quantity=quantity), datetime.now(UTC), {}, b"", {})


@pytest.fixture
def sessions(tmp_path: Path) -> Iterator[sessionmaker[Session]]:
    """Sessions on a database with ten chairs in stock."""
    engine = create_engine(f"sqlite:///{tmp_path}/shop.db", poolclass=NullPool)
    Base.metadata.create_all(engine)
    made = sessionmaker(engine)
    with made.begin() as session:
        session.add(Stock(product="chair", quantity=10))
    yield made
    engine.dispose()


def chairs(sessions: sessionmaker[Session]) -> int:
    with sessions() as session:
        return session.get_one(Stock, "chair").quantity


def names_of(example: str, **names: Any) -> dict[str, Any]:
    exec(compile("from __future__ import annotations\n" + example, "docs/inbox.md", "exec"), names)  # noqa: S102 - our own page
    return names


def passes(**options: Any) -> Callable[[Any], Any]:
    """A decorator that changes nothing."""
    del options
    return lambda function: function


def test_first_example_and_fastapi_example_take_the_goods_once(sessions: sessionmaker[Session]) -> None:
    take = names_of(FIRST, Session=sessions, update=update, Stock=Stock)["take_goods"]
    app = SimpleNamespace(post=lambda _path, **options: passes(**options))
    receive = names_of(FASTAPI, app=app, take_goods=take)["receive"]

    take(event_of(2))
    receive(event_of(2))

    assert chairs(sessions) == 8


def test_celery_example_takes_the_goods_once(sessions: sessionmaker[Session]) -> None:
    names = names_of(
        CELERY, Session=sessions, update=update, Stock=Stock, inbox=inbox, app=SimpleNamespace(task=passes)
    )
    take = names["take"]

    def apply_async(arguments: list[Any], task_id: str) -> None:
        take(SimpleNamespace(request=SimpleNamespace(id=task_id)), *arguments)

    names["take"] = SimpleNamespace(apply_async=apply_async)
    for _ in range(2):
        names["start_task"](SimpleNamespace(id="m", data={"quantity": 2}))

    assert chairs(sessions) == 8


_DJANGO_PROGRAM = """
import sys
from types import SimpleNamespace
import django
from django.conf import settings

database = {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1]}
settings.configure(DATABASES={"default": database}, INSTALLED_APPS=["discue_client.inbox.django"])
django.setup()
from django.core.management import call_command
from django.db import connection, models
from django.db.models import F

call_command("migrate", verbosity=0)
verified = lambda *_: lambda view: view
webhook = Order = HttpRequest = None
Event = {None: None}


class Stock(models.Model):
    quantity = models.IntegerField()

    class Meta:
        app_label = "shop"


with connection.schema_editor() as editor:
    editor.create_model(Stock)
Stock.objects.create(quantity=10)
EXAMPLE
for _ in range(2):
    receive(None, SimpleNamespace(id="m", data=SimpleNamespace(quantity=2)))
"""


def test_django_example_takes_the_goods_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _DJANGO_PROGRAM.replace("EXAMPLE", DJANGO), f"{tmp_path}/shop.db"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)

    assert ended.returncode == 0, ended.stderr
    assert run(f"sqlite:///{tmp_path}/shop.db", "SELECT quantity FROM shop_stock") == [(8,)]


def test_alembic_example_creates_and_drops_the_table(tmp_path: Path) -> None:
    with empty_database("sqlite", tmp_path) as url, create_engine(url, poolclass=NullPool).connect() as connection:
        migration = names_of(ALEMBIC, op=Operations(MigrationContext.configure(connection)))

        migration["upgrade"]()
        assert inspect(connection).get_table_names() == ["discue_inbox"]

        migration["downgrade"]()
        assert inspect(connection).get_table_names() == []


def test_sql_example_prints_statements_that_create_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names_of(SQL)

    with empty_database("postgres", tmp_path) as url:
        run(url, capsys.readouterr().out)
        assert run(url, "SELECT * FROM discue_inbox") == []


def test_example_of_cleaning_deletes_all_old_marks(sessions: sessionmaker[Session], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shop.db"
    run(url, *(f"INSERT INTO discue_inbox VALUES ('{number}', '', 1)" for number in range(3)))

    names_of(CLEANING, Session=sessions, inbox=inbox, timedelta=timedelta)["clean"]()

    assert run(url, "SELECT * FROM discue_inbox") == []


def test_page_explains_every_column() -> None:
    section = PAGE.split("## Create the table")[1].split("## ")[0]
    explained = re.findall(r"^\| `([a-z_]+)` \|", section, re.MULTILINE)

    assert re.findall(r"^    ([a-z_]+) ", create_statements("sqlite")[0], re.MULTILINE) == explained
