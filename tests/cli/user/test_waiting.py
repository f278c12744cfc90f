"""The line about a service that does not respond."""

import pytest

from discue.cli.user import command
from tests.cli.user.service import Service
from tests.support.ports import free_port


@pytest.mark.parametrize(("arguments", "lines"), [((), 2), (("--json",), 1)], ids=["text", "json"])
def test_silent_service_is_reported_after_a_second(
    service: Service, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], lines: int
) -> None:
    monkeypatch.setattr(command, "_SILENT_SECONDS", 0.05)
    monkeypatch.setattr(command, "_DEADLINE_SECONDS", 0.6)
    url = f"http://127.0.0.1:{free_port()}"
    result = service.run("publish", "orders", "1", *arguments, DISCUE_URL=url)

    assert result.returncode == 5
    assert len(result.stderr.splitlines()) == lines
    reason = f"POST /queues/orders/messages: no response from {url}: Connection refused."
    assert result.stderr.startswith(f"discue: {reason} Trying again for up to 1 s.\n") is (lines == 2)


def test_service_that_responds_at_once_is_not_reported(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_SILENT_SECONDS", 0.0)

    assert service.run("queues", "list").stderr == ""
