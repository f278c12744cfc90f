import errno
import io
import os
import pty
import re
import select
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from discue.cli.inbox import ShownDelivery, line_of
from discue.cli.output import has_colour
from discue.domain.errors import SettingsInvalid
from discue.server import http
from discue.server.http import Address
from tests.cli.commands import DISCUE, PATIENCE_SECONDS, Running, environment, request, run, running
from tests.support.receiver import Reply, receiving

URL = re.compile(r"is ready at (http://\S+)")


@contextmanager
def developing(folder: Path, *arguments: str, **variables: str) -> Iterator[Running]:
    """`discue dev` on a free port, ready."""
    with running(folder, "dev", "--port", "0", *arguments, **variables) as server:
        server.out.wait_for('"orders"')
        yield server


def place(server: Running) -> str:
    return server.out.wait_for(URL.pattern)[1]


def commands_of(text: str) -> list[str]:
    """The curl commands as a person would copy them: from `curl` to the empty line."""
    return re.findall(r"^curl .*?(?=\n\n|\Z)", text, re.MULTILINE | re.DOTALL)


def bash(command: str) -> str:
    ended = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True, env=environment()
    )
    return ended.stdout


def demo_queue(server: Running) -> str:
    found = request("GET", f"{place(server)}/queues/demo", server.key).json()
    return str(found["queue"]["id"])


def test_printed_commands_work_as_printed(tmp_path: Path) -> None:
    with developing(tmp_path) as server:
        publish, read, listen, create = commands_of(server.out.text)
        assert '"message":{"id":"' in bash(publish)
        server.out.wait_for(r'demo → inbox, signature verified ✓  \{"hello": "world"\}\n')
        assert r'"body": "{\"hello\": \"world\"}"' in bash(read)
        assert '"secret":"whsec_' in bash(listen)
        assert '"alias":"orders"' in bash(create)
        bash(publish)
        server.out.wait_for_count("signature verified ✓", 3)

    assert "✗" not in server.out.text


def test_printed_links_lead_to_pages(tmp_path: Path) -> None:
    with developing(tmp_path) as server:
        names = "Dashboard|Documentation|Quickstart|Inbox"
        links = re.findall(rf"^({names}): +(http://\S+)$", server.out.text, re.MULTILINE)
        pages = {name: request("GET", link) for name, link in links}

    assert list(pages) == ["Dashboard", "Documentation", "Quickstart", "Inbox"]
    # The link to the dashboard signs in, and leads to its start page.
    assert [page.status_code for page in pages.values()] == [303, 200, 200, 200]
    assert pages["Dashboard"].headers["set-cookie"].startswith("discue=")
    assert "<title>Quickstart" in pages["Quickstart"].text


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_dev_starts_without_its_inbox_where_private_targets_are_forbidden(tmp_path: Path, host: str) -> None:
    with developing(tmp_path, "--allow-private-targets", "false", "--host", host) as server:
        server.out.wait_for(f"There is no inbox: it would be at the private address {host}, and")
        publish, create = commands_of(server.out.text.partition("There is no inbox")[0])
        assert '"message":{"id":"' in bash(publish)
        assert '"alias":"orders"' in bash(create)
        queue = request("GET", f"{place(server)}/queues/demo", server.key).json()["queue"]
        inbox = request("GET", f"{place(server)}/inbox")
        assert server.stop() == 0

    assert (queue["listeners"], inbox.status_code) == ([], 404)
    assert "inbox" not in server.out.text.partition("There is no inbox")[0].lower()


def test_dev_has_its_inbox_where_only_its_network_is_allowed(tmp_path: Path) -> None:
    with developing(tmp_path, "--allow-private-targets", "127.0.0.0/8") as server:
        bash(commands_of(server.out.text)[0])
        server.out.wait_for("signature verified ✓")

    assert "There is no inbox" not in server.out.text


def test_commands_in_the_directory_of_dev_use_its_database(tmp_path: Path) -> None:
    with developing(tmp_path) as server:
        listed = run(tmp_path, "keys", "list")
        assert server.key[4:25] in listed.stdout
    run(tmp_path, "init", "--database=sqlite:///discue.db")
    other = run(tmp_path, "keys", "list")

    assert server.key[4:25] not in other.stdout + other.stderr


def test_output_fits_80_columns_and_has_no_colour(tmp_path: Path) -> None:
    # A development server delivers, whatever its role elsewhere.
    with developing(tmp_path, DISCUE_ROLE="api") as server:
        bash(commands_of(server.out.text)[0])
        server.out.wait_for("signature verified ✓")
        assert server.stop() == 0

    assert [line for line in server.out.text.splitlines() if len(line) > 80] == []
    assert "\x1b" not in server.out.text
    assert server.log.text == ""


def test_key_and_queue_survive_restarts_in_a_folder_of_the_owner(tmp_path: Path) -> None:
    seen = []
    for _ in range(2):
        with developing(tmp_path) as server:
            seen.append((server.key, demo_queue(server)))
            queue = request("GET", f"{place(server)}/queues/{seen[0][1]}", seen[0][0]).json()["queue"]
            assert [listener["alias"] for listener in queue["listeners"]] == ["inbox"]
            bash(commands_of(server.out.text)[0])
            server.out.wait_for("signature verified ✓")
            assert server.stop() == 0

    assert seen[0] == seen[1]
    folder = tmp_path / ".discue"
    assert (folder / "key").read_text() == seen[0][0] + "\n"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "key")] == [0o700, 0o600]
    assert (folder / ".gitignore").read_text() == "*\n"


def test_dev_writes_through_no_link_that_a_repository_contains(tmp_path: Path) -> None:
    folder, victim = tmp_path / ".discue", tmp_path / "victim"
    victim.write_text("kept")
    folder.mkdir()
    (folder / ".gitignore").symlink_to(victim)
    with developing(tmp_path) as server:
        assert server.stop() == 0
    assert (victim.read_text(), (folder / ".gitignore").read_text()) == ("kept", "*\n")

    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    refused = run(tmp_path, "dev")
    assert refused.returncode == 1
    assert ".discue is a symbolic link. Remove it, or start discue dev in another folder." in refused.stderr


@pytest.mark.parametrize("lost", ["discue.db", "key"])
def test_dev_starts_if_the_key_or_the_database_is_missing(tmp_path: Path, lost: str) -> None:
    with developing(tmp_path) as server:
        before = server.key
        assert server.stop() == 0
    for file in (tmp_path / ".discue").glob(f"{lost}*"):
        file.unlink()
    with developing(tmp_path) as server:
        after = server.key
        assert request("GET", f"{place(server)}/api_clients", after).status_code == 200

    assert (before == after) == (lost == "discue.db")


@pytest.mark.parametrize("verb", ["disable", "delete"])
def test_deleted_key_is_restored(tmp_path: Path, verb: str) -> None:
    with developing(tmp_path) as server:
        key = server.key
        assert server.stop() == 0
    database = "--database=sqlite:///.discue/discue.db"
    assert run(tmp_path, "keys", verb, key[4:25], database).returncode == 0
    with developing(tmp_path) as server:
        assert server.key == key
        assert request("GET", f"{place(server)}/api_clients", key).status_code == 200


def test_next_free_port_is_used_and_printed_with_the_reason(tmp_path: Path) -> None:
    with developing(tmp_path) as server:
        assert server.stop() == 0
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with running(tmp_path, "dev", "--port", str(taken)) as server:
            server.out.wait_for('"orders"')
            taken_port, port = map(int, server.out.wait_for(SAID_PORT.format("another program")).groups())
            bash(commands_of(server.out.text)[0])
            server.out.wait_for("signature verified ✓")

    assert taken_port == taken
    assert port > taken
    assert place(server) == f"http://127.0.0.1:{port}"
    assert (tmp_path / ".discue" / "url").read_text() == f"http://127.0.0.1:{port}\n"


SAID_PORT = r"Port (\d+) is taken by {}: this server uses port (\d+)\.\nIts URL is in \.discue/url\.\n"


def test_development_server_in_another_folder_is_named_as_the_holder_of_the_port(tmp_path: Path) -> None:
    folders = (tmp_path / "first", tmp_path / "second")
    for folder in folders:
        folder.mkdir()
    with (
        developing(folders[0]) as first,
        running(folders[1], "dev", "--port", place(first).rpartition(":")[2]) as second,
    ):
        taken, port = second.out.wait_for(SAID_PORT.format("another `discue dev`")).groups()
        second.out.wait_for('"orders"')
        urls = [(folder / ".discue" / "url").read_text().strip() for folder in folders]

    assert urls == [f"http://127.0.0.1:{taken}", f"http://127.0.0.1:{port}"]
    assert urls[0] != urls[1]


def test_url_of_an_earlier_start_is_removed_before_the_next_one_serves(tmp_path: Path) -> None:
    (tmp_path / ".discue").mkdir(mode=0o700)
    (tmp_path / ".discue" / "url").write_text("http://127.0.0.1:9\n")
    # It ends before it serves: the key for the database is not valid.
    result = run(tmp_path, "dev", "--port", "0", "--encryption-key-file", ".")

    assert result.returncode == 1, result.stdout
    assert not (tmp_path / ".discue" / "url").exists()


def test_port_that_is_not_allowed_is_an_error_rather_than_another_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(address: Address) -> AbstractContextManager[int]:
        raise SettingsInvalid(f"cannot listen on port {address.port}") from PermissionError(errno.EACCES, "denied")

    monkeypatch.setattr(http, "held_port", refused)
    with (
        pytest.raises(SettingsInvalid, match=r"cannot listen on port 80$"),
        http.next_free_port(Address("127.0.0.1", 80)),
    ):
        pass


def test_second_dev_server_in_a_folder_is_rejected(tmp_path: Path) -> None:
    with developing(tmp_path) as server:
        result = run(tmp_path, "dev", "--port", str(urlsplit(place(server)).port))

    assert (result.returncode, result.stdout) == (1, "")
    assert "Another process serves .discue/discue.db" in result.stderr


def test_tls_is_rejected(tmp_path: Path) -> None:
    result = run(tmp_path, "dev", DISCUE_TLS_SELF_SIGNED="true")

    assert result.returncode == 1
    assert "does not support TLS" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_exits_with_code_0(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*DISCUE, "dev", "--port", "0"],
        cwd=tmp_path,
        env=environment(),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        said = b""
        while b'"orders"' not in said:
            assert select.select([ours], [], [], PATIENCE_SECONDS)[0]
            said += os.read(ours, 65_536)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_SECONDS) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_inbox_shows_an_invalid_signature(tmp_path: Path) -> None:
    with developing(tmp_path) as server:
        url, key = place(server), server.key
        bash(commands_of(server.out.text)[0])
        server.out.wait_for("signature verified ✓")
        (genuine,) = request("GET", f"{url}/inbox").json()["received"]
        headers = [f"-H '{name}: {value}'" for name, value in genuine["headers"].items() if "length" not in name]
        bash(f'curl -sS {" ".join(headers)} -d \'{{"hello": "mars!"}}\' {url}/inbox')
        bash(f"curl -sS -d 'no delivery' {url}/inbox")
        server.out.wait_for("demo → inbox, No signature matches ✗")
        server.out.wait_for("POST /inbox, not sent by a listener of this server ✗  no delivery")
        received = request("GET", f"{url}/inbox", key).json()["received"]

    assert [entry["signature"] for entry in received] == [
        "not sent by a listener of this server",
        "No signature matches.",
        "verified",
    ]
    assert [entry["body"] for entry in received] == ["no delivery", '{"hello": "mars!"}', '{"hello": "world"}']


def test_inbox_keeps_100_requests_and_rejects_other_methods(tmp_path: Path) -> None:
    with developing(tmp_path) as server:
        url, key, queue = place(server), server.key, demo_queue(server)
        batch = {"messages": [{"data": f"number {number}"} for number in range(105)]}
        assert request("POST", f"{url}/queues/{queue}/messages/batch", key, batch).status_code == 200
        server.out.wait_for_count("signature verified ✓", 105)
        answer = request("GET", f"{url}/inbox")
        refused = request("DELETE", f"{url}/inbox")

    assert len(answer.json()["received"]) == 100
    assert answer.json()["_links"] == {"self": {"href": f"{url}/inbox"}}
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, POST")
    assert refused.json()["title"] == "Method Not Allowed"


def delivered(rest: str, *, is_good: bool = True) -> ShownDelivery:
    result = "signature verified" if is_good else "attempt 1 failed"
    return ShownDelivery(1_750_000_000_000, "q", "l", result, is_good, rest, is_received=is_good)


def test_line_of_a_delivery_fits_the_terminal() -> None:
    for columns in (80, 132):
        line = line_of(delivered("word " * 1_000), "demo → inbox", columns=columns)
        assert (len(line), line[-1]) == (columns, "…")
    assert len(line_of(delivered("x"), "q" * 64 + " → " + "l" * 64)) < 170


def test_line_of_a_failure_has_the_whole_reason_and_message_id() -> None:
    rest = "The listener responded with 503 Service Unavailable. 0VcAS2Ti00kN6nyTP9iQN"
    assert line_of(delivered(rest, is_good=False), "orders → audit").endswith(f"attempt 1 failed ✗  {rest}")


def test_line_of_a_delivery_escapes_control_characters() -> None:
    line = line_of(delivered("\x1b[2J\x07\r\u202eevil\nnext line"), "demo → inbox", columns=200)

    assert re.search(r"[^ -~✓→]", line) is None
    assert line.endswith(r"\x1b[2J\x07\r\u202eevil\nnext line")


def test_line_of_a_delivery_is_coloured_by_its_result() -> None:
    lines = [line_of(delivered("x", is_good=good), "a → b", is_coloured=True) for good in (True, False)]

    assert "a → b, \x1b[32msignature verified ✓\x1b[0m  x" in lines[0]
    assert "a → b, \x1b[31mattempt 1 failed ✗\x1b[0m  x" in lines[1]


@pytest.mark.parametrize(
    ("variables", "is_coloured"),
    [({}, True), ({"NO_COLOR": ""}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_colour_is_for_terminals_without_no_color(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], *, is_coloured: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    ours, theirs = pty.openpty()
    with os.fdopen(ours), os.fdopen(theirs, "w") as terminal:
        assert has_colour(terminal) is is_coloured
    assert not has_colour(io.StringIO())


def test_attempts_of_any_listener_are_shown(tmp_path: Path) -> None:
    with developing(tmp_path) as server, receiving("127.0.0.1") as receiver:
        url, key = place(server), server.key
        well, badly = receiver.endpoint(), receiver.endpoint(Reply(503))
        for alias, endpoint in (("billing", well), ("audit", badly)):
            fields = {"notify_url": endpoint.url, "retry": {"attempts": 1}}
            request("PUT", f"{url}/queues/orders", key)
            assert request("PUT", f"{url}/queues/orders/listeners/{alias}", key, fields).status_code == 200
        message = request("POST", f"{url}/queues/orders/messages", key, {"data": 1}).json()["message"]["id"]
        server.out.wait_for(rf"orders → billing, 200 in \d+ ms ✓  {message}\n")
        server.out.wait_for(
            rf"orders → audit, attempt 1 failed ✗  The listener responded with 503 Service Unavailable. {message}\n"
        )
        assert server.log.text == ""
