"""Conventions of every request: versions, negotiation, methods, links, request ids, and the form of responses."""

import json
import re

import httpx
import pytest

from discue import __version__
from discue.api.resources import ROUTES
from discue.api.structs import LinkTarget, links_of
from discue.domain.ids import is_public_id
from discue.store.store import Store
from tests.support.api_world import World
from tests.support.served_api import Cast, Service, cast_of, served

ENGINES_MEANT = ["sqlite"]
"""It is about HTTP, and not about what is stored."""

PATHS = sorted({route.path for route in ROUTES})
METHODS_OF = {path: {method for route in ROUTES if route.path == path for method in route.methods} for path in PATHS}


@pytest.mark.parametrize("version", ["", "/v1"])
def test_the_versioned_and_the_bare_path_are_one_endpoint_and_links_stay_within_it(cast: Cast, version: str) -> None:
    created = cast.alice.post(f"{version}/queues", json={"alias": "orders"}).json()
    href = created["_links"]["self"]["href"]
    assert href == f"{cast.service.url}{version}/queues/{created['queue']['id']}"
    other = cast.alice.get(f"{'' if version else '/v1'}/queues/{created['queue']['id']}").json()
    assert other["queue"] == created["queue"]


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/"])
def test_the_root_says_what_this_is(cast: Cast, path: str) -> None:
    answer = cast.nobody.get(path).json()
    assert (answer["name"], answer["version"]) == ("discue", __version__)
    assert answer["_links"]["queues"]["href"].endswith("/queues")


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        (None, 200),
        ("", 200),
        ("*/*", 200),
        ("application/*", 200),
        ("application/json", 200),
        ("APPLICATION/JSON; charset=utf-8", 200),
        ("text/html, application/json;q=0.1", 200),
        ("text/html, */*;q=0.1", 200),
        ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", 200),
        ("application/json;q=., */*;q=.0", 406),
        ("application/json;q=0", 406),
        ("*/*, application/json;q=0.0", 406),
        ("application/*;q=0, */*", 406),
        ("text/html", 406),
        ("text/*", 406),
        ("application/problem+json", 406),
        ("nonsense", 200),
        ("application/json;q=2, text/html", 406),
    ],
)
def test_accept_decides_by_its_most_specific_range(cast: Cast, accept: str | None, status: int) -> None:
    client = cast.nobody
    request = client.build_request("GET", "/")
    del request.headers["accept"]
    if accept is not None:
        request.headers["accept"] = accept
    answer = client.send(request)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("application/")
    answer.json()


def test_accept_lines_are_one_list(cast: Cast) -> None:
    headers = [("accept", "text/html"), ("accept", "application/json")]
    assert cast.nobody.get("/", headers=headers).status_code == 200


def test_a_problem_is_a_problem_document_for_who_asks_for_one(cast: Cast) -> None:
    accept = {"accept": "application/json, application/problem+json"}
    assert cast.nobody.get("/queues", headers=accept).headers["content-type"] == "application/problem+json"
    assert cast.nobody.get("/", headers=accept).headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; Charset=UTF-8", 'application/json;charset="utf-8"']
)
def test_json_may_be_announced_with_parameters(cast: Cast, content_type: str) -> None:
    assert cast.alice.post("/queues", content=b"{}", headers={"content-type": content_type}).status_code == 200


def test_pretty_indents_and_changes_nothing_else(cast: Cast) -> None:
    plain, pretty = cast.nobody.get("/"), cast.nobody.get("/?x=y&pretty=true")
    assert plain.json() == pretty.json()
    assert "\n" not in plain.text
    assert '\n  "name": "discue"' in pretty.text
    assert '\n  "status": 401' in cast.nobody.get("/queues?pretty=true").text


def test_unknown_query_parameters_are_ignored(cast: Cast) -> None:
    assert cast.alice.get("/queues?colour=green&colour=blue").status_code == 200


@pytest.mark.parametrize("path", [path for path in PATHS if "GET" in METHODS_OF[path]])
def test_head_is_get_without_the_body(cast: Cast, path: str) -> None:
    filled = World(cast).path(path)
    got, head = cast.alice.get(filled), cast.alice.head(filled)
    assert (got.status_code, head.status_code, head.content) == (200, 200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]


@pytest.mark.parametrize("path", PATHS)
def test_another_method_is_405_and_says_which_are_allowed(cast: Cast, path: str) -> None:
    filled = re.sub(r"\{\w+\}", "0" * 21, path.replace("{status}", "404").replace("{schema_id}", "0" * 64))
    expected = METHODS_OF[path] | ({"HEAD"} if "GET" in METHODS_OF[path] else set())
    for method in {"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"} - expected:
        answer = cast.nobody.request(method, filled)
        assert answer.status_code == 405
        assert set(answer.headers["allow"].split(", ")) == expected


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_post_and_put_on_a_collection_both_create(cast: Cast, method: str) -> None:
    queue = cast.alice.request(method, "/queues").json()["queue"]["id"]
    assert is_public_id(queue)
    urls = {"notify_url": "http://127.0.0.1:9/", "liveness_url": "http://127.0.0.1:9/"}
    for path, body in (("listeners", urls), ("messages", {"data": "x"})):
        assert cast.alice.request(method, f"/queues/{queue}/{path}", json=body).status_code == 200
    for path in ("api_keys", "api_clients", "organizations"):
        assert cast.alice.request(method, f"/{path}").status_code == 200


@pytest.mark.parametrize("length", ["", "Content-Length: 0\r\n"])
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_missing_body_is_an_empty_object_and_never_411(cast: Cast, method: str, length: str) -> None:
    key = cast.alice.headers["x-api-key"]
    request = f"{method} /queues HTTP/1.1\r\nHost: x\r\nX-API-KEY: {key}\r\n{length}\r\n"
    assert cast.service.raw(request.encode()).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_the_body_of_a_method_that_has_none_is_ignored(cast: Cast, method: str) -> None:
    queue = cast.queue()
    answer = cast.alice.request(method, f"/queues/{queue}", content=b"not json", headers={"content-type": "x/y"})
    assert answer.status_code == 200


@pytest.mark.parametrize("given", ["a", "A-1._z", "x" * 128])
def test_a_sane_request_id_is_echoed(cast: Cast, given: str) -> None:
    for client in (cast.alice, cast.nobody):
        assert client.get("/queues", headers={"x-request-id": given}).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "a/b", '"'])
def test_any_other_request_id_is_replaced(cast: Cast, given: str) -> None:
    first, second = (cast.nobody.get("/", headers={"x-request-id": given}).headers["x-request-id"] for _ in "12")
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", first)
    assert len({first, second, given}) == 3


def test_a_problem_has_its_title_its_status_and_what_to_do(cast: Cast) -> None:
    assert cast.nobody.get("/queues", headers={"x-request-id": "mine"}).json() == {
        "type": f"{cast.service.url}/docs/errors/401",
        "title": "Unauthorized",
        "status": 401,
        "request_id": "mine",
        "detail": "A valid API key is required in the X-API-KEY header.",
    }


def test_links_begin_with_the_host_that_was_asked(cast: Cast) -> None:
    answer = cast.alice.get("/queues", headers={"host": "queues.example.com:8443"}).json()
    assert answer["_links"]["self"]["href"] == "http://queues.example.com:8443/queues"


def test_links_begin_with_the_public_url_where_there_is_one(tmp_path_factory: pytest.TempPathFactory) -> None:
    cache = tmp_path_factory.mktemp("public")
    with served(cache, public_url="https://queues.example.com/base/") as service:
        cast = cast_of(service)
        answer = cast.alice.get("/v1/queues", headers={"host": "evil.example"}).json()
        assert answer["_links"]["self"]["href"] == "https://queues.example.com/base/v1/queues"


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


def test_every_200_has_links_to_itself(cast: Cast) -> None:
    queue = cast.queue()
    for path in ("/", "/health/live", "/health/ready", "/queues", "/listeners", "/messages", f"/queues/{queue}"):
        answer = cast.alice.get(path)
        assert httpx.URL(answer.json()["_links"]["self"]["href"]).path == path


def test_both_protocols_are_spoken_on_one_port(cast: Cast, service: Service) -> None:
    with httpx.Client(base_url=service.url, http1=False, http2=True, headers=cast.alice.headers) as client:
        created = client.post("/queues", json={"alias": "over-h2"})
        assert (created.http_version, created.status_code) == ("HTTP/2", 200)
        href = created.json()["_links"]["self"]["href"]
        assert client.get(href).json()["queue"]["alias"] == "over-h2"
        assert (
            client.put(
                href, content=iter([b'{"alias":', b'"in-pieces"}']), headers={"content-type": "application/json"}
            ).status_code
            == 200
        )
        assert client.head("/queues").content == b""
    assert cast.alice.get(href).json()["queue"]["alias"] == "in-pieces"


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
        (line,) = [fields for _, fields in service.log.lines if fields["request_id"] == "logged-1"]
    assert (line["method"], line["path"], line["status"]) == ("GET", "/queues", 400)
    assert line["organization"] == cast.organization_id
    assert str(cast.alice.headers["x-api-key"]) not in json.dumps(line)
