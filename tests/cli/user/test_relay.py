"""`discue relay`, on databases of an application."""

import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest

from discue_client import outbox
from tests.cli.commands import running
from tests.cli.user.service import Service
from tests.clients.python.outbox.databases import connect, empty_database, outbox_database, waiting
from tests.support.everywhere import EVERYWHERE


@pytest.fixture
def url(engine_name: str, tmp_path: Path) -> Iterator[str]:
    with outbox_database(engine_name, tmp_path) as address:
        yield address


def store(url: str, queue: str, *data: object) -> None:
    with closing(connect(url)) as connection:
        for each in data:
            outbox.publish(connection, queue, each)


@pytest.mark.parametrize(
    ("engine_name", "number"), [("sqlite", signal.SIGINT), ("postgres", signal.SIGTERM)][0 if EVERYWHERE else 1 :]
)
def test_relay_publishes_the_messages_and_ends_with_0_for_a_signal(
    service: Service, url: str, number: signal.Signals
) -> None:
    queue = f"relayed-{uuid4().hex}"
    store(url, queue, 1, 2, 3)
    service.call("PUT", f"/queues/{queue}", {})
    service.call("PUT", f"/queues/{queue}/listeners/all", {"mode": "pull"})
    variables = {"DISCUE_URL": service.url, "DISCUE_API_KEY": service.key, "DISCUE_OUTBOX_DATABASE": url}
    with running(service.folder, "relay", **variables) as process:
        process.log.wait_for("Publishing the messages of the outbox")
        pulled: list[str] = []
        while len(pulled) < 3:
            answer = service.call("GET", f"/queues/{queue}/listeners/all/messages?max=3&wait=20")
            pulled += [each["data"] for each in answer["messages"]]
        process.signal(number)
        code = process.ended()

    assert code == 0
    assert pulled == ["1", "2", "3"]
    assert waiting(url) == []


def test_failures_are_printed_once_and_the_messages_wait(service: Service, tmp_path: Path) -> None:
    queue = f"missing-{uuid4().hex}"
    with outbox_database("sqlite", tmp_path) as url:
        store(url, queue, 1)
        variables = {"DISCUE_URL": service.url, "DISCUE_API_KEY": service.key}
        with running(service.folder, "relay", "--database", url, **variables) as process:
            process.log.wait_for(f"Messages to {queue} wait in the outbox: POST /queues/{queue}/messages/batch: 404")
            process.signal(signal.SIGTERM)
            code = process.ended()

        assert (code, len(waiting(url))) == (0, 1)
    assert process.log.text.count("wait in the outbox") == 1


def test_database_must_be_given(service: Service) -> None:
    result = service.run("relay")

    assert result.returncode == 2
    assert "The database is missing: give --database, or set DISCUE_OUTBOX_DATABASE." in result.stderr


def test_unusable_database_is_refused(service: Service) -> None:
    of_mysql = service.run("relay", "--database", "mysql://root:secret@host/shop")

    assert of_mysql.returncode == 2
    assert "must look like postgresql://host/name or sqlite:///file." in of_mysql.stderr
    assert "secret" not in of_mysql.stderr


@pytest.mark.parametrize("engine_name", ["sqlite", "postgres"])
def test_database_without_an_outbox_is_an_error(service: Service, tmp_path: Path, engine_name: str) -> None:
    with empty_database(engine_name, tmp_path) as url:
        connect(url).close()
        result = service.run("relay", "--database", url)

    assert result.returncode == 1
    assert "The outbox cannot be read: " in result.stderr
    assert "discue_outbox" in result.stderr
    assert "or the SQL of discue_client.outbox.table.create_statements." in result.stderr
