"""Pages that are far down, or of keys with many targets, hold up nobody."""

from collections.abc import Iterator

import pytest

from tests.security.neighbour import Tenant, tenant
from tests.support.databases import ENGINE_NAMES, new_database
from tests.support.served_process import ServedProcess, served_process

_BATCHES = 11
_BATCH = 1_000
_REQUESTS = 10
_CPU_SECONDS = 0.05
"""The longest that a request may hold the event loop, which does nearly all of the work."""


@pytest.fixture(scope="module", params=ENGINE_NAMES)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedProcess]:
    with (
        new_database(request, request.param, tmp_path_factory.mktemp("pages")) as database,
        served_process(database, encryption="none") as process,
    ):
        yield process


@pytest.fixture(scope="module")
def full(server: ServedProcess) -> Tenant:
    """An organization with more messages than numbered pages show."""
    who = tenant(server, "com.example.full")
    with who.client() as client:
        for _ in range(_BATCHES):
            batch = {"messages": [{"data": number} for number in range(_BATCH)]}
            client.post(f"{who.messages}/batch", json=batch).raise_for_status()
    return who


@pytest.mark.parametrize("path", ["/messages", "{0.messages}"])
@pytest.mark.parametrize("query", ["page=1000", "page=100&per_page=100"])
def test_deepest_page_is_cheap_and_no_page_is_deeper(
    server: ServedProcess, full: Tenant, path: str, query: str
) -> None:
    path = path.format(full)
    with full.client() as client:
        for deeper in ("page=2000", "page=101&per_page=100"):
            refused = client.get(f"{path}?{deeper}")
            assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (400, "?page")
        shown = client.get(f"{path}?{query}").raise_for_status().json()["messages"]
        assert shown
        before = server.cpu_seconds
        for _ in range(_REQUESTS):
            client.get(f"{path}?{query}").raise_for_status()
        assert (server.cpu_seconds - before) / _REQUESTS <= _CPU_SECONDS
        following = client.get(f"{path}?after={shown[-1]['id']}&per_page=100").raise_for_status().json()["messages"]
        assert len(following) == 100
