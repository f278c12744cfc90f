"""Conventions of every request: versions, negotiation, methods, links, request ids, and the form of responses."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from discue.api.app import indented
from discue.api.pagination import rows_of
from discue.api.resource import LinkTarget, links_of
from discue.domain.reservations import FEW_ROWS, RESOURCE, ReadBound
from discue.store.ledger import Ledger
from discue.store.store import Store
from tests.support.served_api import Cast, cast_of, served


def test_links_begin_with_the_host_that_was_asked(cast: Cast) -> None:
    answer = cast.alice.get("/queues", headers={"host": "queues.example.com:8443"}).json()
    assert answer["_links"]["self"]["href"] == "http://queues.example.com:8443/queues"


def test_links_begin_with_the_public_url_where_there_is_one(tmp_path_factory: pytest.TempPathFactory) -> None:
    cache = tmp_path_factory.mktemp("public")
    with served(cache, public_url="https://queues.example.com/base/") as service:
        cast = cast_of(service)
        answer = cast.alice.get("/v1/queues", headers={"host": "evil.example"}).json()
        assert answer["_links"]["self"]["href"] == "https://queues.example.com/base/v1/queues"


def test_links_with_secrets_ignore_the_host_header(cast: Cast) -> None:
    cast.alice.headers["host"] = "evil.example"
    for version in ("", "/v1"):
        user = cast.alice.post(f"{version}/users", json={"email": f"ada{len(version)}@example.com", "role": "viewer"})
        invitation = user.json()["invitation"]
        assert invitation["url"] == f"{cast.service.url}/dashboard/invitation#{invitation['token']}"
        path = f"{version}/organizations/{cast.organization_id}/portal_sessions"
        session = cast.alice.post(path, json={"customer": "acme"}).json()
        assert session["portal_session"]["url"].startswith(f"{cast.service.url}/portal/open?code=")
        # A response is for its client only.
        assert session["_links"]["self"]["href"].startswith(f"http://evil.example{path}/")


def test_invitation_without_the_dashboard_leads_to_the_api(tmp_path_factory: pytest.TempPathFactory) -> None:
    with served(tmp_path_factory.mktemp("bare"), dashboard=False, portal=False) as service:
        fields = {"email": "ada@example.com", "role": "viewer"}
        made = cast_of(service).alice.post("/users", json=fields, headers={"host": "evil.example"}).json()
        assert made["invitation"]["url"] == f"{service.url}/v1/invitations#{made['invitation']['token']}"


def test_self_next_and_prev_win_over_aliases_and_the_first_of_two_over_the_second() -> None:
    below = [
        LinkTarget(alias, f"id{number}", f"url{number}")
        for number, alias in enumerate(["next", "same", "same", "self"])
    ]
    links = links_of("here", below, following="on")
    assert {name: link.href for name, link in links.items()} == {
        "self": "here",
        "next": "on",
        "id0": "url0",
        "same": "url1",
        "id2": "url2",
        "id3": "url3",
    }


def test_an_alias_of_that_spelling_never_looks_like_a_page() -> None:
    links = links_of("here", [LinkTarget("next", "id0", "url0"), LinkTarget("prev", "id1", "url1")])
    assert set(links) == {"self", "id0", "id1"}


@pytest.mark.parametrize("phase", ["starting", "draining"])
def test_while_it_starts_and_drains_everything_but_liveness_is_503(
    tmp_path_factory: pytest.TempPathFactory, phase: str
) -> None:
    with served(tmp_path_factory.mktemp("phases")) as service:
        cast = cast_of(service)
        service.readiness.phase = phase  # type: ignore[assignment]
        for client, path in ((cast.nobody, "/health/ready"), (cast.alice, "/queues")):
            answer = client.get(path)
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) > 0
            assert phase in answer.json()["detail"]
        assert cast.nobody.get("/health/live").status_code == 200


def test_service_is_not_ready_while_the_store_takes_no_writes(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(tmp_path_factory.mktemp("sick")) as service:
        assert service.client(None).get("/health/ready").json()["status"] == "ready"
        # Whatever is committed meanwhile, it stays so.
        monkeypatch.setattr(Store, "healthy", property(lambda _: False, lambda *_: None), raising=False)
        answer = service.client(None).get("/health/ready")
        assert (answer.status_code, "retry-after" in answer.headers) == (503, True)


def test_a_line_is_logged_for_each_request_where_that_is_wanted(tmp_path_factory: pytest.TempPathFactory) -> None:
    with served(tmp_path_factory.mktemp("logged"), log_requests=True) as service:
        cast = cast_of(service)
        cast.alice.get("/queues?page=x", headers={"x-request-id": "logged-1"})
        (line,) = [fields for _, fields in service.log.lines if fields.get("request_id") == "logged-1"]
    assert (line["method"], line["path"], line["status"]) == ("GET", "/queues", 400)
    assert line["organization"] == cast.organization_id
    assert str(cast.alice.headers["x-api-key"]) not in json.dumps(line)


async def _read(ledger: Ledger, bound: ReadBound | None) -> Any:
    """Return a request with a reservation, or without one."""
    return SimpleNamespace(reservation=None if bound is None else await ledger.reserve(1, bound))


async def test_response_that_is_nested_too_deeply_to_be_indented_is_sent_as_it_is() -> None:
    request = await _read(Ledger(), ReadBound(1, 1 << 21))
    assert indented(request, b'{"data":[1]}') == b'{\n  "data": [\n    1\n  ]\n}'
    # As deep as the data of a message can be, and deeper.
    for depth in (900, 2_000):
        nested = b"[" * depth + b"]" * depth
        assert b"".join(indented(request, nested).split()) == nested


async def test_response_that_would_have_millions_of_spaces_is_not_indented() -> None:
    request = await _read(Ledger(), ReadBound(1, 1 << 24))
    many = b"[" + b",".join([b"1"] * 10_000) + b"]"
    assert len(indented(request, many).split(b"\n")) == 10_002
    deep = b"[" * 500 + many + b"]" * 500
    assert indented(request, deep) == deep


@pytest.mark.parametrize(("bound", "room"), [(RESOURCE, RESOURCE.bytes), (FEW_ROWS, 65_536), (None, 65_536)])
async def test_response_above_64_kib_is_not_indented_beyond_the_reservation_of_its_read(
    bound: ReadBound | None, room: int
) -> None:
    ledger = Ledger()
    request = await _read(ledger, bound)
    held = ledger.held
    rows = b"[" + b",".join([b'{"a":1}'] * (room // 60)) + b"]"
    assert len(rows) < len(indented(request, rows)) <= room
    more = b"[" + b",".join([b'{"a":1}'] * (room // 20)) + b"]"
    assert indented(request, more) == more
    assert ledger.held == held


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("", 10),
        ("per_page=100", 100),
        ("a=b&per_page=7&x=y", 7),
        ("per_page=999", 100),
        ("per%5Fpage=100", 100),
        ("per_page=%37", 100),
    ],
)
def test_reservation_of_a_page_covers_its_largest_size(query: str, rows: int) -> None:
    assert rows_of(query) == rows
