"""`discue listen` under faults: no message is lost, and none is acknowledged that the local server has not accepted."""

import signal
import time
from collections.abc import Sequence

import pytest

from tests.cli.commands import PATIENCE_SECONDS, running
from tests.cli.user.local_server import Held, LocalServer, local_server
from tests.cli.user.service import Service
from tests.cli.user.test_listen import listeners_of, listening, publish, queue_named
from tests.support.ports import free_port

MESSAGES = 20
LEASED_BRIEFLY = ("--lease", "1s", "--keep")


def state_of(service: Service, queue: str) -> tuple[int, int]:
    """Return how many messages the listener has acknowledged, and how many wait for it."""
    (listener,) = listeners_of(service, queue)
    messages = listener["messages"]
    assert isinstance(messages, dict)
    return messages["acknowledged_count"], messages["pending_count"]


def assert_all_settled(service: Service, queue: str, local: LocalServer, published: Sequence[str]) -> None:
    """Wait until every message is acknowledged, after the local server has accepted it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (state := state_of(service, queue)) != (len(published), 0):
        assert state[0] <= len(set(local.accepted))
        assert time.monotonic() < deadline, state
    assert set(local.accepted) == set(published)


def test_messages_of_a_killed_run_come_in_the_next(service: Service) -> None:
    queue, held = queue_named(service, "killed"), Held()
    with local_server(held) as local:
        with listening(service, local.url, "--queue", queue, *LEASED_BRIEFLY) as process:
            published = [publish(service, queue, n) for n in range(MESSAGES)]
            local.wait_for(lambda: len(local.arrived) == MESSAGES)
            process.process.kill()
            process.ended()
        assert state_of(service, queue) == (0, MESSAGES)
        held.release()
        local.wait_for(lambda: len(local.received) == MESSAGES)
        local.received.clear()
        with listening(service, local.url, "--queue", queue, *LEASED_BRIEFLY) as process:
            process.log.wait_for(f"{MESSAGES} messages wait from an earlier run")
            assert_all_settled(service, queue, local, published)


def test_messages_that_another_consumer_got_meanwhile_are_not_acknowledged_by_a_stopped_run(service: Service) -> None:
    queue, held = queue_named(service, "stopped"), Held()
    with (
        local_server(held) as local,
        listening(service, local.url, "--queue", queue, *LEASED_BRIEFLY) as process,
    ):
        published = [publish(service, queue, n) for n in range(MESSAGES)]
        local.wait_for(lambda: len(local.arrived) == MESSAGES)
        process.signal(signal.SIGSTOP)
        place = f"/queues/{queue}/listeners/{listeners_of(service, queue)[0]['id']}"
        receipts: list[str] = []
        while len(receipts) < MESSAGES:
            pulled = service.call("GET", f"{place}/messages?max=100&wait=20")["messages"]
            receipts += [each["receipt"] for each in pulled]
            # A poll also ends without messages: when its time is over, or the clock of the machine is set.
            if receipts:
                service.call("POST", f"{place}/acknowledgements", {"extend": receipts, "lease_seconds": 600})
        held.release()
        local.wait_for(lambda: len(local.received) == MESSAGES)
        local.received.clear()
        process.signal(signal.SIGCONT)
        process.log.wait_for(r"(?i)lease")
        assert state_of(service, queue) == (0, MESSAGES)
        service.call("POST", f"{place}/acknowledgements", {"release": receipts})
        assert_all_settled(service, queue, local, published)


@pytest.mark.torture
def test_run_that_stands_still_for_a_minute_loses_nothing(service: Service) -> None:
    queue, held = queue_named(service, "minute"), Held()
    with local_server(held) as local, listening(service, local.url, "--queue", queue, "--keep") as process:
        published = [publish(service, queue, n) for n in range(MESSAGES)]
        local.wait_for(lambda: len(local.arrived) == MESSAGES)
        process.signal(signal.SIGSTOP)
        held.release()
        time.sleep(60)
        published += [publish(service, queue, n) for n in range(MESSAGES)]
        process.signal(signal.SIGCONT)
        assert_all_settled(service, queue, local, published)


def test_restart_of_the_service_loses_and_repeats_nothing(service: Service) -> None:
    folder, port, held = service.folder / "other", str(free_port()), Held()
    folder.mkdir()
    with running(folder, "serve", "--port", port) as server:
        other = Service(server.url, server.key, folder, service.request)
        variables = {"DISCUE_URL": server.url, "DISCUE_API_KEY": server.key}
        queue = queue_named(other, "orders")
        with local_server(held) as local:
            with listening(service, local.url, "--queue", queue, "--keep", **variables) as process:
                published = [publish(other, queue, n) for n in range(MESSAGES)]
                local.wait_for(lambda: len(local.arrived) == MESSAGES)
                server.process.kill()
                server.ended()
                held.release()
                process.log.wait_for("Messages cannot be fetched; trying again")
                with running(folder, "serve", "--port", port) as restarted:
                    assert restarted.url == server.url
                    published += [publish(other, queue, n) for n in range(MESSAGES)]
                    assert_all_settled(other, queue, local, published)
                    process.signal(signal.SIGINT)
                    assert process.ended() == 0
            # The results were stored after the restart: nothing was forwarded a second time.
            assert sorted(local.accepted) == sorted(published)
