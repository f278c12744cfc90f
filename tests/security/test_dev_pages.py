"""Sites that a developer visits cannot read or fill the pages of `discue dev`."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from tests.cli.commands import running


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the inbox."""
    folder: Path = tmp_path_factory.mktemp("dev")
    with running(folder, "dev", "--port", "0") as server:
        yield server.out.wait_for(r"is ready at (http://\S+)")[1] + "/inbox"


def _status(page: str, method: str, headers: Mapping[str, str]) -> int:
    with httpx.Client(trust_env=False, timeout=20) as client:
        return client.request(method, page, headers=headers, content=b"{}" if method == "POST" else b"").status_code


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize(
    "headers",
    [
        {"host": "attacker.example"},
        {"host": "attacker.example:3000", "origin": "http://attacker.example:3000", "sec-fetch-site": "same-origin"},
        {"host": "localhost.attacker.example"},
        {"origin": "https://attacker.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
    ids=lambda headers: " ".join(f"{name}={value}" for name, value in headers.items()),
)
def test_requests_of_other_sites_are_refused(page: str, method: str, headers: Mapping[str, str]) -> None:
    assert _status(page, method, headers) == 403


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_requests_of_the_developer_and_of_listeners_are_served(page: str, method: str) -> None:
    origin = page.removesuffix("/inbox")
    port = origin.rpartition(":")[2]
    own: tuple[Mapping[str, str], ...] = (
        {},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "same-origin", "origin": origin},
        {"host": f"localhost:{port}"},
        {"host": f"[::1]:{port}"},
    )
    assert [_status(page, method, headers) for headers in own] == [200] * len(own)
