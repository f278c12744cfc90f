"""Commands where the Python client is not installed: those that need it say so, and the service runs."""

import json
from pathlib import Path

import pytest

from tests.cli.commands import run_forked, running

WITHOUT_CLIENT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in {"discue_client", "httpx2"}:
            raise ModuleNotFoundError(f"No module named {top!r}", name=top)

again = ("discue.cli", "discue.testing", "discue_client", "httpx2")
for name in [each for each in sys.modules if each.startswith(again)]:
    del sys.modules[name]
sys.meta_path.insert(0, Absent())
"""
RUN_ALL = f"""{WITHOUT_CLIENT}
import contextlib, io, json
from discue.cli.main import main

found = []
for arguments in json.loads(sys.argv[1]):
    out, log = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(log):
        try:
            code = main(arguments)
        except SystemExit as ended:
            code = ended.code
    found.append([code, out.getvalue(), log.getvalue()])
print(json.dumps(found))
"""
COMMANDS = (
    ("login", "--url", "http://127.0.0.1:9", "--key-stdin"),
    ("whoami",),
    ("publish", "orders", "{}"),
    ("listen", "--queue", "orders", "8000"),
    ("tail", "orders"),
    ("relay", "--database", "sqlite:///a.db"),
    ("trigger", "orders"),
    ("messages", "list", "orders"),
    ("queues", "list"),
    ("listeners", "list", "orders"),
    ("redeliver", "orders", "billing", "--all"),
    ("replay", "orders", "billing", "--since", "1h"),
    ("verify", "{}", "--secret", "whsec_AAAA"),
    ("doctor", "8000"),
    ("api", "GET", "/queues"),
    ("apply", "-f", "discue.yaml"),
    ("demo", "--port", "0"),
)


def run_without_client(folder: Path, *commands: tuple[str, ...]) -> list[tuple[int, str, str]]:
    variables = {"DISCUE_URL": "http://127.0.0.1:9", "DISCUE_API_KEY": "dsk_none", "XDG_CONFIG_HOME": str(folder)}
    done = run_forked(folder, "-c", RUN_ALL, json.dumps(commands), **variables)
    assert done.returncode == 0, done.stderr
    return [(code, out, log) for code, out, log in json.loads(done.stdout)]


def test_commands_that_need_the_client_say_so_in_one_line_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "discue.yaml").write_text("queues: {orders: }")
    results = run_without_client(tmp_path, *COMMANDS)

    remedy = (
        "needs the Python client, which is not installed. The client is not on a package index: run "
        "`pip install ./clients/python` in a clone of the repository.\n"
    )
    assert list(zip(COMMANDS, results, strict=True)) == [
        (each, (1, "", f"discue: `discue {each[0]}` {remedy}")) for each in COMMANDS
    ]


def test_commands_of_operators_and_help_need_no_client(tmp_path: Path) -> None:
    commands = ("init", "keys list", "users list", "organizations list", "check", "migrate", "completion bash")
    results = run_without_client(
        tmp_path, *(tuple(each.split()) for each in commands), *((name, "--help") for name, *_ in COMMANDS), ("--help",)
    )

    assert [(code, "Python client" in log) for code, _, log in results] == [(0, False)] * len(results)


@pytest.mark.parametrize("mode", [(), ("--ephemeral",)], ids=["dev", "ephemeral"])
def test_dev_runs_without_the_client(tmp_path: Path, mode: tuple[str, ...]) -> None:
    program = f"{WITHOUT_CLIENT}from discue.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    with running(tmp_path, "dev", "--port", "0", *mode, command=("-c", program)) as server:
        server.out.wait_for("is ready at http")
        assert server.stop() == 0


def test_test_kit_says_that_it_needs_the_client(tmp_path: Path) -> None:
    (tmp_path / "test_kit.py").write_text("def test_kit(discue): pass")
    program = f"{WITHOUT_CLIENT}import pytest\nsys.exit(pytest.main(['-q', '-p', 'discue.testing.plugin']))"
    done = run_forked(tmp_path, "-c", program, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")

    assert "The test kit needs the Python client, which is not installed." in done.stdout
