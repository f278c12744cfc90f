"""How requests and answers are written: the first section of the contract."""

import json
import re
import socket
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.contract.caller import Caller, fresh, pointers, problem, resource
from tests.contract.reference import covers
from tests.contract.world import NOWHERE


@covers("README.md# Conventions")
def test_http_1_1_is_spoken(owner: Caller) -> None:
    assert owner.ask("GET", "/queues").http_version == "HTTP/1.1"


def test_http_2_is_spoken_with_prior_knowledge(owner: Caller, h2: httpx.Client) -> None:
    url = owner.installation.urls[0]
    if not url.startswith("http://"):
        pytest.skip("Prior knowledge is for cleartext.")
    headers = {"X-API-KEY": str(owner.key)}
    created = h2.post(f"{url}/queues", json={}, headers=headers)
    assert (created.http_version, created.status_code) == ("HTTP/2", 200)
    place = f"{url}/queues/{resource(created)['id']}"
    assert h2.get(place, headers=headers).json()["queue"] == resource(created)
    pieces = iter([b'{"alias":', b'"in-pieces"}'])
    changed = h2.put(place, content=pieces, headers={**headers, "Content-Type": "application/json"})
    assert resource(changed)["alias"] == "in-pieces"
    assert h2.head(f"{url}/queues", headers=headers).content == b""


def test_the_version_in_an_address_comes_back_in_links(owner: Caller) -> None:
    answer = owner.ask("POST", "/v1/queues", {})
    assert answer.json()["_links"]["self"]["href"] == f"{answer.url}/{resource(answer)['id']}"


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("Application/JSON;charset=UTF-8", 200),
        ('application/json;charset="utf-8"', 200),
        ("application/json; charset=latin-1", 415),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/xml", 415),
        (None, 415),
    ],
)
def test_a_body_is_json_by_its_content_type(owner: Caller, content_type: str | None, status: int) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    answer = owner.ask("POST", "/queues", b"{}", headers=headers)
    assert answer.status_code == status
    if status == 415:
        # With `-d` alone, curl sends a form.
        assert "-H 'content-type: application/json'" in answer.json()["detail"]
    # One is the queue of system events.
    assert len(owner.get("/queues")["queues"]) == 1 + (status == 200)


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("", 200),
        ("*/*", 200),
        ("application/*", 200),
        ("application/json", 200),
        ("APPLICATION/JSON; charset=utf-8", 200),
        ("text/html, application/json;q=0.1", 200),
        ("text/html;q=0.9, */*;q=0.1", 200),
        ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", 200),
        ("nonsense", 200),
        ("application/json;q=., */*;q=.0", 406),
        ("application/json;q=0", 406),
        ("*/*, application/json;q=0.0", 406),
        ("application/*;q=0, */*", 406),
        ("text/html", 406),
        ("text/*", 406),
        ("*/*;q=0", 406),
        ("image/png, text/plain", 406),
        ("application/problem+json", 200),
        ("application/problem+json, */*;q=0", 200),
        ("application/problem+json, application/json;q=0", 406),
        ("application/problem+json;q=0", 406),
        ("application/problem+json;q=0, */*", 200),
        ("application/json;q=2, text/html", 406),
    ],
)
def test_accept_decides_by_its_most_specific_range(owner: Caller, accept: str, status: int) -> None:
    answer = owner.ask("GET", "/queues", headers={"Accept": accept})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"


def test_accept_lines_are_one_list(owner: Caller) -> None:
    headers = [("Accept", "text/html"), ("Accept", "application/json")]
    assert owner.ask("GET", "/queues", headers=headers).status_code == 200


def test_pretty_indents_and_changes_nothing_else(owner: Caller) -> None:
    plain, pretty = (owner.ask("GET", f"/queues{query}", headers={"Host": "x"}) for query in ("", "?pretty=true"))
    assert "\n  " in pretty.text
    assert "\n" not in plain.text.strip()
    assert pretty.json()["queues"] == plain.json()["queues"]
    assert "\n  " in owner.ask("GET", "/nothing?pretty=true").text


def test_put_keeps_unnamed_fields_and_null_clears(owner: Caller) -> None:
    queue = owner.create("/queues", alias=fresh(), retention=60, max_message_bytes=100)
    path = f"/queues/{queue['id']}"
    assert owner.change(path, retention=70) == {**queue, "retention": 70, "updated_at": owner.shown(path)["updated_at"]}
    cleared = owner.change(path, retention=None)
    assert "retention" not in cleared
    assert cleared["max_message_bytes"] == 100
    assert cleared["alias"] == queue["alias"]


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "0"}])
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_missing_body_reads_as_an_empty_object(owner: Caller, method: str, headers: dict[str, str]) -> None:
    queue = resource(owner.ask(method, "/queues", headers=headers))
    assert queue["alias"] == queue["id"]
    assert resource(owner.ask("PUT", f"/queues/{queue['id']}", headers=headers))["id"] == queue["id"]
    assert owner.refused(400, "POST", f"/queues/{queue['id']}/messages", headers=headers)["status"] == 400


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_a_body_that_has_no_meaning_is_ignored(owner: Caller, method: str) -> None:
    queue = owner.create("/queues")
    answer = owner.ask(method, f"/queues/{queue['id']}", b"<nothing/>", headers={"Content-Type": "text/xml"})
    assert answer.status_code == 200


def test_creation_is_visible_to_every_later_request(owner: Caller) -> None:
    for _ in range(3):
        queue = owner.create("/queues", alias=fresh())
        key = owner.with_key(owner.create("/api_keys", scopes={"queues": {}})["key"])
        for _ in owner.installation.urls:
            assert key.shown(f"/queues/{queue['id']}") == queue


def test_change_and_deletion_are_visible_to_every_later_request(owner: Caller) -> None:
    for number in range(3):
        alias = fresh()
        queue = owner.create("/queues", alias=alias)
        path = f"/queues/{queue['id']}"
        owner.change(path, retention=number)
        assert owner.shown(path)["retention"] == number
        owner.create(f"{path}/messages", data="x")
        owner.delete(path)
        for _ in owner.installation.urls:
            owner.refused(404, "GET", path)
            owner.refused(404, "GET", f"{path}/messages")
            owner.refused(404, "POST", f"{path}/messages", {"data": "x"})
            owner.refused(404, "POST", f"{path}/messages/batch", {"messages": [{"data": "x"}]})
        assert owner.create("/queues", alias=alias)["id"] != queue["id"]


@pytest.mark.parametrize(
    "url",
    [
        "http://EXAMPLE.com:80/%7Ea/../b?x=Ä",
        "https://example.com",
        "http://example.com/a//b?c=%20",
        "HTTP://example.com/",
        "http://exämple.com/ü",
    ],
)
def test_urls_come_back_as_they_were_sent(owner: Caller, url: str) -> None:
    queue = owner.create("/queues")
    listener = owner.create(f"/queues/{queue['id']}/listeners", notify_url=url, liveness_url=url)
    assert (listener["notify_url"], listener["liveness_url"]) == (url, url)


def test_ids_have_21_characters_and_sort_by_time(owner: Caller) -> None:
    ids = [owner.create("/queues")["id"] for _ in range(4)]
    assert all(re.fullmatch("[0-9A-Za-z]{21}", each) for each in ids)
    if len(owner.installation.urls) == 1:
        assert ids == sorted(ids)


def test_times_are_milliseconds(owner: Caller) -> None:
    queue = owner.create("/queues")
    assert 1_600_000_000_000 < queue["created_at"] <= queue["updated_at"] < 4_000_000_000_000
    assert isinstance(queue["created_at"], int)


@pytest.mark.parametrize("alias", ["a", "a" * 64, "a.b_c/d-e", "0", "...."])
def test_a_name_may_have_1_to_64_characters(owner: Caller, alias: str) -> None:
    assert owner.create("/queues", alias=alias)["name"] == alias


@pytest.mark.parametrize("alias", ["a" * 65, "with blank", "ümlaut", "semi;colon", ""])
@pytest.mark.parametrize("word", ["alias", "name"])
def test_another_name_is_unprocessable(owner: Caller, alias: str, word: str) -> None:
    assert pointers(owner.refused(422, "POST", "/queues", {word: alias}))[0] in {"/alias", "/name"}


@pytest.mark.parametrize("word", ["alias", "name"])
def test_requests_use_either_name_and_responses_carry_both(owner: Caller, word: str) -> None:
    queue = owner.create("/queues", **{word: "the-queue"})
    assert (queue["alias"], queue["name"]) == ("the-queue", "the-queue")
    changed = owner.change(f"/queues/{queue['id']}", **{word: "the-other"})
    assert (changed["alias"], changed["name"]) == ("the-other", "the-other")


def test_changed_name_of_a_put_wins(owner: Caller) -> None:
    path = f"/queues/{owner.create('/queues', alias='first')['id']}"
    assert owner.change(path, alias="first", name="second")["alias"] == "second"
    assert owner.change(path, alias="third", name="second")["alias"] == "third"
    assert owner.change(path, alias="fourth", name="fourth")["alias"] == "fourth"
    owner.refused(422, "PUT", path, {"alias": "fifth", "name": "sixth"})
    owner.refused(422, "POST", "/queues", {"alias": "seventh", "name": "eighth"})
    assert owner.shown(path)["name"] == "fourth"


@pytest.mark.parametrize(
    ("field", "value"),
    [("retention", -1), ("retention", 10**30), ("max_message_bytes", 0), ("max_message_bytes", 8_388_609)],
)
def test_a_value_out_of_range_is_unprocessable(owner: Caller, field: str, value: int) -> None:
    assert pointers(owner.refused(422, "POST", "/queues", {field: value})) == [f"/{field}"]


def test_read_only_fields_are_ignored(owner: Caller) -> None:
    answer = owner.ask("POST", "/queues", {"alias": fresh()})
    queue = resource(answer)
    sent = {**queue, "id": "0" * 21, "created_at": 1, "updated_at": "x", "_links": answer.json()["_links"]}
    changed = owner.change(f"/queues/{queue['id']}", **sent)
    assert {**changed, "updated_at": 0} == {**queue, "updated_at": 0}
    assert owner.create("/queues", **{**sent, "alias": "newer", "name": "newer"})["id"] not in {"0" * 21, queue["id"]}


def test_links_have_an_entry_for_everything_below_keyed_by_its_alias(owner: Caller) -> None:
    queue = owner.create("/queues")
    path = f"/queues/{queue['id']}"
    made = {alias: owner.create(f"{path}/listeners", alias=alias, **NOWHERE)["id"] for alias in ("billing", "mailing")}
    answer = owner.ask("GET", path)
    assert answer.json()["_links"] == {
        "self": {"href": str(answer.url)},
        **{alias: {"href": f"{answer.url}/listeners/{listener}"} for alias, listener in made.items()},
    }


@pytest.mark.parametrize("request_id", ["a", "x" * 128, "A-b_c.9"])
def test_a_sane_request_id_is_echoed(owner: Caller, request_id: str) -> None:
    for path in ("/queues", "/nothing"):
        assert owner.ask("GET", path, headers={"X-Request-Id": request_id}).headers["x-request-id"] == request_id


@pytest.mark.parametrize("request_id", ["", "x" * 129, "with blank", 'quote"', "a/b"])
def test_another_request_id_is_replaced(owner: Caller, request_id: str) -> None:
    answers = [owner.ask("GET", "/queues", headers={"X-Request-Id": request_id}) for _ in range(2)]
    assert len({request_id, *(answer.headers["x-request-id"] for answer in answers)}) == 3


@covers("errors.md# Codes")
def test_error_names_its_subject(owner: Caller) -> None:
    answer = owner.ask("POST", "/queues", {"alias": "a b"}, headers={"X-Request-Id": "mine"})
    content = problem(answer, 422)
    assert content["title"] == "Unprocessable Entity"
    assert content["request_id"] == "mine"
    assert content["errors"] == [{"pointer": "/alias", "detail": content["errors"][0]["detail"]}]
    assert answer.headers["content-type"].startswith("application/json")
    answer = owner.with_key(None).ask("GET", "/queues", headers={"X-Request-Id": "mine", "Host": "example.com"})
    assert answer.json() == {
        "type": "http://example.com/docs/errors/key_missing",
        "code": "key_missing",
        "title": "Unauthorized",
        "status": 401,
        "request_id": "mine",
        "detail": "An API key is required in the header X-API-KEY. Send an API key. `discue keys create` creates one.",
    }


def test_code_tells_reasons_apart_that_share_a_status(owner: Caller) -> None:
    queue = owner.create("/queues", alias="codes")
    cases: list[tuple[str, str, Any]] = [
        ("alias_taken", "/queues", {"alias": "codes"}),
        ("invalid_value", "/queues", {"alias": "x!"}),
        ("invalid_schema", "/queues", {"schema": {"a": {"type": "colour"}}}),
        ("conflicting_fields", "/queues", {"alias": "a", "name": "b"}),
        ("scope_protected", "/api_keys", {"scopes": {"users": {}}}),
        ("unknown_reference", f"/topics/{owner.create('/topics')['id']}/channels", {"queue_id": "0" * 21}),
        ("unknown_field", "/queues", {"alais": "a"}),
        ("wrong_type", "/queues", {"alias": 1}),
        ("missing_field", f"/queues/{queue['id']}/listeners", {}),
        ("invalid_json", "/queues", b"{"),
        ("duplicate_field", "/queues", b'{"alias":"a","alias":"b"}'),
    ]
    json_body = {"headers": {"Content-Type": "application/json"}}
    for code, path, content in cases:
        options = json_body if isinstance(content, bytes) else {}
        assert owner.ask("POST", path, content, **options).json()["code"] == code


def test_an_error_is_a_problem_document_where_that_is_asked_for(owner: Caller) -> None:
    accept = {"Accept": "application/problem+json, application/json"}
    answer = owner.ask("GET", "/nothing", headers=accept)
    assert problem(answer, 404)["title"] == "Not Found"
    assert answer.headers["content-type"] == "application/problem+json"
    assert owner.ask("GET", "/queues", headers=accept).headers["content-type"] == "application/json"


def test_a_client_that_accepts_problem_documents_alone_gets_them_for_errors_only(owner: Caller) -> None:
    accept = {"Accept": "application/problem+json"}
    answer = owner.ask("GET", "/queues/nothing", headers=accept)
    assert problem(answer, 404)["code"] == "not_found"
    assert answer.headers["content-type"] == "application/problem+json"
    created = owner.ask("POST", "/queues", {}, headers=accept)
    assert created.headers["content-type"] == "application/json"
    assert resource(created)["id"]


@pytest.mark.parametrize("path", ["/queues", "/nothing", "/docs", "/dashboard/queues", "/portal/open", "/health/live"])
def test_http_1_1_without_a_host_is_a_bad_request(operator: Caller, path: str) -> None:
    content = raw(operator, f"GET {path} HTTP/1.1\r\nAccept: application/json\r\nConnection: close\r\n\r\n")
    assert content.startswith(b"HTTP/1.1 400 ")
    assert b"An HTTP/1.1 request needs the header Host," in content
    if not path.startswith("/portal"):
        assert json.loads(content.partition(b"\r\n\r\n")[2])["code"] == "invalid_header"


def test_http_1_0_needs_no_host(operator: Caller) -> None:
    assert raw(operator, "GET /health/live HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200 ")


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nothing", 404), ("GET", "/v7/queues", 404), ("PATCH", "/queues", 405)]
)
def test_a_request_that_reaches_no_operation_has_rate_limit_headers(
    owner: Caller, method: str, path: str, status: int
) -> None:
    answer = owner.ask(method, path)
    assert problem(answer, status)["request_id"] == answer.headers["x-request-id"]
    assert all(answer.headers[f"x-ratelimit-{name}"].isdigit() for name in ("limit", "remaining", "reset"))


def test_an_error_shows_nothing_internal(owner: Caller) -> None:
    for answer in (owner.ask("GET", "/queues/" + "'" * 21), owner.ask("POST", "/queues", b'{"alias": ')):
        assert not re.search(r"Traceback|SELECT|\.py|sqlite|postgres|dsk_", answer.text, re.IGNORECASE)


def test_resource_is_found_below_its_own_queue_alone(owner: Caller) -> None:
    one, other = (f"/queues/{owner.create('/queues')['id']}" for _ in range(2))
    schedule = {"cron": "@daily", "data": 1}
    for name, fields in (("listeners", dict(NOWHERE)), ("messages", {"data": "x"}), ("schedules", schedule)):
        made = owner.create(f"{one}/{name}", **fields)["id"]
        for method in ("GET", "PUT", "DELETE"):
            owner.refused(404, method, f"{other}/{name}/{made}", {} if method == "PUT" else None)
        assert owner.shown(f"{one}/{name}/{made}")["id"] == made


def test_malformed_http_gets_a_bare_400(operator: Caller) -> None:
    assert raw(operator, "NONSENSE\r\n\r\n").startswith(b"HTTP/1.1 400")


def raw(caller: Caller, request: str) -> bytes:
    """Send a request as it stands, and return all that comes until the service closes the connection."""
    parts = urlsplit(caller.installation.urls[0])
    if parts.scheme != "http":
        pytest.skip("A socket of its own speaks cleartext.")
    with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=60) as connection:
        connection.sendall(request.encode())
        return b"".join(iter(lambda: connection.recv(65_536), b""))


_LARGE_HEADERS = 20


@covers("errors.md# Codes")
@pytest.mark.parametrize(("characters", "status"), [(33_000, 431), (70_000, 431), (200_000, None)])
def test_http_2_headers_beyond_the_server_get_a_bare_431_or_no_response(
    operator: Caller, h2: httpx.Client, characters: int, status: int | None
) -> None:
    url = f"{operator.installation.urls[0]}/health/live"
    if not url.startswith("http://"):
        pytest.skip("Prior knowledge is for cleartext.")
    # In several headers: the time that the client needs to encode one grows with the square of its length.
    size = characters // _LARGE_HEADERS
    headers = {f"x-large-{number}": "y" * size for number in range(_LARGE_HEADERS)}
    if status is None:
        with pytest.raises(httpx.TransportError):
            h2.get(url, headers=headers)
        return
    answer = h2.get(url, headers=headers)
    assert answer.status_code == status
    assert bool(answer.content) == (characters < 65_536)
