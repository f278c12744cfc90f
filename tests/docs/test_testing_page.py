"""The examples of docs/testing.md, run as the page says."""

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from discue.testing import Kit, NotSettled

PAGE = (Path(__file__).parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")
RUN_SECONDS = 100

FILES = dict(re.findall(r"^<!-- file (\S+) -->\n```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))


def command(mark: str) -> str:
    found = re.search(rf"^<!-- {mark} -->\n```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    return tmp_path


@pytest.fixture
def environment() -> dict[str, str]:
    # The plugins of this environment are not what the page is about.
    return {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PATH": f"{Path(sys.executable).parent}:{os.defpath}"}


@pytest.mark.torture
def test_example_tests_pass(folder: Path, environment: dict[str, str]) -> None:
    plugins = ("-p", "discue.testing.plugin", "-p", "anyio.pytest_plugin")
    run = (sys.executable, "-m", "pytest", "-q", "-Werror", "-c", "/dev/null", "--rootdir", ".", *plugins)

    done = subprocess.run(
        run, cwd=folder, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS, check=False
    )

    counted = sum(len(re.findall(r"^(?:async )?def test_", content, re.MULTILINE)) for content in FILES.values())
    # anyio runs a coroutine on each of its backends that is installed.
    passed = re.search(r"^(\d+) passed", done.stdout, re.MULTILINE)
    assert done.returncode == 0, done.stdout
    assert passed is not None
    assert int(passed[1]) >= counted > 4


def test_example_program_ends_well(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-Werror", "program.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def shown(beginning: str) -> str:
    """Return the output on the page that begins so, without what changes."""
    (found,) = re.findall(rf"^```text\n({beginning}.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return without_what_changes(found)


def without_what_changes(text: str) -> str:
    # Columns are as wide as what is in them.
    return re.sub(r" +", " ", re.sub(r"\b\w{21}\b|\S+Z|\d+ ms|[\d.]+ s\b", "", text)).strip()


def test_page_shows_the_attempts_of_a_failed_assertion(discue: Kit) -> None:
    billing = discue.listener("orders", alias="billing")
    billing.respond(503)
    discue.publish("orders", {"order": 17})
    discue.settled()

    with pytest.raises(AssertionError) as failed:
        billing.assert_received(2)

    assert without_what_changes(f"AssertionError: {failed.value}") == shown("AssertionError")


def test_page_shows_the_deliveries_that_keep_settled_waiting(discue: Kit) -> None:
    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    discue.deliver_to(hang, "/orders", queue="orders", alias="billing")
    discue.publish("orders", {"order": 17})

    with pytest.raises(NotSettled) as failed:
        discue.settled(0.1)

    name = f"{NotSettled.__module__}.{NotSettled.__name__}"
    assert without_what_changes(f"{name}: {failed.value}") == shown("discue")


def test_example_process_takes_the_requests_of_the_page(folder: Path, environment: dict[str, str]) -> None:
    start = command("start").split()
    with subprocess.Popen(start, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            names = {"URL": ready["url"], "KEY": ready["api_key"]}
            shown = subprocess.run(
                ["sh", "-ec", command("run").replace("curl", "curl --silent --show-error --fail-with-body")],
                env={**environment, **names},
                capture_output=True,
                text=True,
                timeout=RUN_SECONDS,
                check=False,
            )
        finally:
            process.terminate()
    assert (shown.returncode, shown.stderr) == (0, ""), shown.stdout
    assert re.findall(r'"(\w+)": \d+', shown.stdout).count("now") == 3
