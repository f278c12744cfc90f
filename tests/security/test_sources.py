"""Requests of strangers to a source affect neither its provider nor other tenants."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from discue.testing import provider_headers
from tests.security.neighbour import assert_unharmed, publishing, quiet, tenant
from tests.support.served_process import ServedProcess, served_process

SECRET, FORGED = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b"x" * 200_000
_STRANGERS = 16
_PROVIDERS_ADDRESS = "127.0.0.2"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedProcess]:
    with served_process(f"sqlite:///{tmp_path_factory.mktemp('sources')}/discue.db") as running:
        yield running


@pytest.fixture(scope="module")
def source(server: ServedProcess) -> str:
    """The URL of a source of another tenant."""
    with tenant(server, "com.example.shop").client() as client:
        client.put("/queues/payments", json={}).raise_for_status()
        fields = {"provider": "stripe", "queue_id": "payments", "secrets": [SECRET]}
        answer = client.post("/sources", json=fields).raise_for_status()
    return str(answer.json()["source"]["url"])


@pytest.mark.parametrize("attack", ["forged", "unknown id"])
def test_strangers_hold_up_neither_the_provider_nor_others(server: ServedProcess, source: str, attack: str) -> None:
    neighbour = tenant(server, f"com.example.neighbour-{attack[0]}")
    before = quiet(neighbour)
    with publishing(neighbour) as during, ThreadPoolExecutor(_STRANGERS) as strangers:
        ends_at = time.monotonic() + 5
        attacks = [strangers.submit(_attack, source, attack, ends_at) for _ in range(_STRANGERS)]
        genuine = _send_until(source, ends_at)
        statuses = {status for each in attacks for status in each.result()}
        during.wait()
    assert_unharmed(before, during)
    assert statuses <= {401, 404, 429, 503}
    assert set(genuine) == {200}
    assert len(genuine) >= 10


def _attack(source: str, attack: str, ends_at: float) -> list[int]:
    """Send requests in sequence, as fast as they are answered."""
    statuses: list[int] = []
    base = source.rpartition("/")[0]
    headers = provider_headers("stripe", FORGED, "whsec_guessed")
    with httpx.Client(trust_env=False) as client:
        while time.monotonic() < ends_at:
            url = source if attack == "forged" else f"{base}/{len(statuses):021}"
            try:
                statuses.append(client.post(url, content=FORGED, headers=headers).status_code)
            except httpx.TransportError:
                # A refused body is not read, so the connection is closed.
                continue
    return statuses


def _send_until(source: str, ends_at: float) -> list[int]:
    """Send genuine requests from another address, at the pace of a provider."""
    statuses: list[int] = []
    with httpx.Client(transport=httpx.HTTPTransport(local_address=_PROVIDERS_ADDRESS)) as client:
        while time.monotonic() < ends_at:
            body = b'{"id": "evt_%d", "type": "invoice.paid"}' % len(statuses)
            statuses.append(
                client.post(source, content=body, headers=provider_headers("stripe", body, SECRET)).status_code
            )
            time.sleep(0.2)
    return statuses
