"""The plugin in runs of pytest as users start them: two runs, because each starts processes."""

from pathlib import Path
from textwrap import dedent

import pytest

pytest_plugins = ["pytester"]

RUN_SECONDS = 100

IN_ONE_PROCESS = """
    import sys
    import time

    import pytest

    def test_without_a_fixture_nothing_of_the_service_is_imported(request):
        assert request.config.pluginmanager.has_plugin("discue")
        heavy = ("discue_client", "granian", "httpx2", "msgspec", "uvloop")
        loaded = {name for name in sys.modules if name.startswith("discue.") or name in heavy}
        assert loaded == {"discue.testing", "discue.testing.plugin"}

    def test_clock_is_moved(discue_clock):
        discue_clock.advance("1d")

    def test_next_test_has_the_time_of_the_machine(discue_clock):
        assert abs(discue_clock.now.timestamp() - time.time()) < 60

    def test_server_that_died_says_so(discue, discue_servers):
        from discue.testing.server import ServerDied

        thread = discue_servers.server.thread
        thread.loop.call_soon_threadsafe(thread.loop.stop)
        thread.ended.result(10)
        with pytest.raises(ServerDied, match="The discue server of this test has ended: its thread was stopped."):
            discue.publish("orders", 17)

    def test_next_test_has_another_server(discue):
        discue.publish("orders", 17)
        discue.settled()

    def test_failure_shows_the_attempts(discue):
        listener = discue.listener("orders", alias="billing")
        listener.respond(503)
        discue.publish("orders", {"order": 17})
        discue.settled()
        listener.assert_received(2)
"""

IN_TWO_PROCESSES = """
    import pytest

    @pytest.mark.parametrize("number", range(6))
    def test_order(discue, discue_client, discue_clock, discue_listener, number):
        listener = discue_listener("orders", alias="billing")
        listener.respond(503, times=1)
        discue.publish("orders", number)
        discue_clock.advance("1d")
        listener.assert_received(2, data=number)
        assert [message.data for message in discue.published("orders")] == [number]
        assert len(list(discue_client.listeners.list("orders"))) == 1
"""


def run(pytester: pytest.Pytester, tests: str, *options: str) -> pytest.RunResult:
    pytester.makepyfile(dedent(tests))
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-Werror", *options, timeout=RUN_SECONDS)


@pytest.mark.torture
def test_fixtures_in_one_process(pytester: pytest.Pytester) -> None:
    result = run(pytester, IN_ONE_PROCESS, "-n0")

    result.assert_outcomes(passed=5, failed=1)
    result.stdout.fnmatch_lines(
        [
            ">       listener.assert_received(2)",
            '*AssertionError: listener "billing" of queue "orders": expected 2 requests, got 1.',
            "E*message*attempt*ended at*response*took*data",
            'E*1*503 status*{"order":17}',
        ]
    )
    # The traceback ends in the test, not in the kit.
    result.stdout.no_fnmatch_line("*def assert_received*")


@pytest.mark.torture
def test_processes_of_xdist_have_servers_of_their_own(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The other plugins of this environment take each process longer to import than its tests.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    plugins = ("-p", "xdist.plugin", "-p", "discue.testing.plugin")
    run(pytester, IN_TWO_PROCESSES, *plugins, "-n2").assert_outcomes(passed=6)


def test_test_of_an_application_runs_in_a_clone_without_development_dependencies(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make run` installs no Hypothesis, and pytest reads the settings of the clone."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(hypothesis="raise ModuleNotFoundError", test_app="def test_app(): pass")
    settings = Path(__file__).parents[2] / "pyproject.toml"

    pytester.runpytest_subprocess("-c", settings, "-p", "no:cacheprovider", "test_app.py").assert_outcomes(passed=1)
