"""The examples in `docs/webhooks.md` and the README that verify webhooks."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from discue_client import Discue, Reason
from tests.cli.commands import PATIENCE_SECONDS, Output
from tests.clients.python.frameworks import answer_of_django, call_asgi, call_wsgi
from tests.clients.python.signed import MESSAGE_ID, SECRET, headers_of, v1
from tests.support.ports import free_port
from tests.support.served_process import KEY, served_process

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGE = ROOT / "docs" / "webhooks.md"
BODY = b'{"order": 17}'


def example(page: Path, mark: str) -> str:
    found = re.search(rf"^<!-- {mark} -->\n```\w+\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None, mark
    return found[1]


def names_of(page: Path, mark: str) -> dict[str, Any]:
    """Run an example and return the names that it defines."""
    names: dict[str, Any] = {"__name__": "example"}
    exec(example(page, mark), names)  # noqa: S102 - the example itself is tested
    return names


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCUE_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("NEW_SECRET", "whsec_" + "A" * 32)
    monkeypatch.setenv("OLD_SECRET", SECRET)


def signed(body: bytes = BODY) -> dict[str, str]:
    return headers_of(body, timestamp=int(time.time()))


@pytest.mark.parametrize("mark", ["app fastapi", "app flask", "view", "app asgi"])
def test_example_accepts_genuine_requests_only(mark: str, capsys: pytest.CaptureFixture[str]) -> None:
    names = names_of(PAGE, mark)

    def status(headers: dict[str, str]) -> int:
        if mark == "view":
            return answer_of_django(names["receive"], BODY, headers).status
        call = call_wsgi if mark == "app flask" else call_asgi
        return call(names["app"], BODY, headers, path="/orders").status

    assert status(signed()) == 204
    assert capsys.readouterr().out == f"{MESSAGE_ID} 17\n"
    assert status(signed(b"{}")) == 401
    assert capsys.readouterr().out == ""


def test_example_without_a_framework_says_why_a_request_is_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    receive = names_of(PAGE, "function")["receive"]

    assert receive(BODY, signed()) == 204
    assert receive(BODY, signed(b"{}")) == 401
    assert "no_match No signature matches" in capsys.readouterr().out


def test_page_explains_every_reason() -> None:
    section = PAGE.read_text().partition("## Reasons")[2]
    assert set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\|(.*?)\|", section, re.MULTILINE)))) == set(Reason)


def test_readme_endpoint_receives_messages_of_a_running_service(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(example(README, "app fastapi"))
    port = free_port()
    with served_process(f"sqlite:///{tmp_path}/discue.db") as service, Discue(service.url, KEY) as client:
        client.queues.update("orders")
        listener = client.listeners.create("orders", notify_url=f"http://127.0.0.1:{port}/")
        assert listener.secret is not None
        secret, *command = example(README, "command").replace("whsec_…", listener.secret).split()
        command[-1] = str(port)
        with _started(command, tmp_path, secret.partition("=")[2]) as printed:
            # A worker says so when it accepts requests.
            printed.wait_for("Started worker-1")
            message = client.publish("orders", {"order": 17})
            printed.wait_for(f"(?m)^{message.id} 17$")
            forged = {**headers_of(BODY, v1(BODY)), "webhook-timestamp": str(int(time.time()))}
            response = httpx.post(f"http://127.0.0.1:{port}/", content=BODY, headers=forged, timeout=PATIENCE_SECONDS)
    assert (response.status_code, "No signature matches" in response.text) == (401, True)


@contextmanager
def _started(command: Sequence[str], folder: Path, secret: str) -> Iterator[Output]:
    """Run a module of this environment and its children, and kill them at the end."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}/clients/python", "DISCUE_WEBHOOK_SECRET": secret}
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    printed = Output(process.stdout)
    try:
        yield printed
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE_SECONDS)
        printed.to_the_end()
