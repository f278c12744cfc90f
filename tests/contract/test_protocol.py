"""How requests and answers are written: the first section of the contract."""

import re
import socket
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
    assert h2.get(f"{url}/queues/{resource(created)['id']}", headers=headers).json()["queue"] == resource(created)
    assert h2.head(f"{url}/queues", headers=headers).content == b""


def test_the_version_in_an_address_comes_back_in_links(owner: Caller) -> None:
    answer = owner.ask("POST", "/v1/queues", {})
    assert answer.json()["_links"]["self"]["href"] == f"{answer.url}/{resource(answer)['id']}"


@pytest.mark.parametrize("path", ["/nothing", "/v1/nothing", "/v2/queues", "/queues/", "/queues/x/y/z"])
def test_unknown_path_is_not_found(owner: Caller, path: str) -> None:
    assert owner.refused(404, "GET", path)["title"] == "Not Found"


@pytest.mark.parametrize(
    "charset", ["application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8"]
)
def test_a_body_is_json_with_any_parameters(owner: Caller, charset: str) -> None:
    assert owner.ask("POST", "/queues", b"{}", headers={"Content-Type": charset}).status_code == 200


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml", ""])
def test_another_content_type_is_unsupported(owner: Caller, content_type: str) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    owner.refused(415, "POST", "/queues", b"{}", headers=headers)


@pytest.mark.parametrize(
    "accept",
    ["*/*", "application/*", "application/json", "text/html, application/json;q=0.1", "text/html;q=0.9, */*;q=0.1"],
)
def test_an_accept_header_that_admits_json_is_fine(owner: Caller, accept: str) -> None:
    answer = owner.ask("GET", "/queues", headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/json")


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0", "text/*", "*/*;q=0", "image/png, text/plain"])
def test_an_accept_header_that_excludes_json_is_not_acceptable(owner: Caller, accept: str) -> None:
    owner.refused(406, "GET", "/queues", headers={"Accept": accept})


def test_pretty_indents(owner: Caller) -> None:
    assert "\n  " in owner.ask("GET", "/queues?pretty=true").text
    assert "\n" not in owner.ask("GET", "/queues").text.strip()
    assert "\n  " in owner.ask("GET", "/nothing?pretty=true").text


def test_put_on_a_collection_creates(owner: Caller) -> None:
    queue = resource(owner.ask("PUT", "/queues", {"alias": fresh()}))
    listener = resource(owner.ask("PUT", f"/queues/{queue['id']}/listeners", NOWHERE))
    message = resource(owner.ask("PUT", f"/queues/{queue['id']}/messages", {"data": "x"}))
    assert owner.shown(f"/queues/{queue['id']}/listeners/{listener['id']}")["id"] == listener["id"]
    assert owner.shown(f"/queues/{queue['id']}/messages/{message['id']}")["data"] == "x"


def test_put_keeps_unnamed_fields_and_null_clears(owner: Caller) -> None:
    queue = owner.create("/queues", alias=fresh(), retention=60, max_message_bytes=100)
    path = f"/queues/{queue['id']}"
    assert owner.change(path, retention=70) == {**queue, "retention": 70, "updated_at": owner.shown(path)["updated_at"]}
    cleared = owner.change(path, retention=None)
    assert "retention" not in cleared
    assert cleared["max_message_bytes"] == 100
    assert cleared["alias"] == queue["alias"]


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "0"}])
def test_a_missing_body_reads_as_an_empty_object(owner: Caller, headers: dict[str, str]) -> None:
    queue = resource(owner.ask("POST", "/queues", headers=headers))
    assert queue["alias"] == queue["id"]
    assert resource(owner.ask("PUT", f"/queues/{queue['id']}", headers=headers))["id"] == queue["id"]
    assert owner.refused(400, "POST", f"/queues/{queue['id']}/messages", headers=headers)["status"] == 400


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_a_body_that_has_no_meaning_is_ignored(owner: Caller, method: str) -> None:
    queue = owner.create("/queues")
    answer = owner.ask(method, f"/queues/{queue['id']}", b"<nothing/>", headers={"Content-Type": "text/xml"})
    assert answer.status_code == 200


def test_deletion_answers_links_alone(owner: Caller) -> None:
    queue = owner.create("/queues")
    answer = owner.ask("DELETE", f"/queues/{queue['id']}")
    assert answer.json() == {"_links": {"self": {"href": str(answer.url)}}}


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
        assert owner.create("/queues", alias=alias)["id"] != queue["id"]


@pytest.mark.parametrize(
    "url",
    [
        "http://EXAMPLE.com:80/%7Ea/../b?x=Ä",
        "https://example.com",
        "http://example.com/a//b?c=%20",
        "HTTP://example.com/",
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


@pytest.mark.parametrize("alias", ["abcd", "a" * 64, "a.b_c/d-e", "0123", "...."])
def test_a_name_may_have_4_to_64_characters(owner: Caller, alias: str) -> None:
    assert owner.create("/queues", alias=alias)["name"] == alias


@pytest.mark.parametrize("alias", ["abc", "a" * 65, "with blank", "ümlaut", "semi;colon", ""])
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


def test_a_missing_field_is_400_and_a_value_out_of_range_422(owner: Caller) -> None:
    queue = owner.create("/queues")
    owner.refused(400, "POST", f"/queues/{queue['id']}/listeners", {"notify_url": "http://example.com/"})
    assert pointers(owner.refused(422, "POST", "/queues", {"retention": -1})) == ["/retention"]
    assert pointers(owner.refused(400, "POST", "/queues", {"retention": "long"})) == ["/retention"]


def test_a_name_that_occurs_twice_is_400(owner: Caller) -> None:
    headers = {"Content-Type": "application/json"}
    owner.refused(400, "POST", "/queues", b'{"alias": "first", "alias": "second"}', headers=headers)


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


def test_self_next_and_prev_win_over_an_alias(owner: Caller) -> None:
    path = f"/queues/{owner.create('/queues')['id']}"
    listener = owner.create(f"{path}/listeners", alias="self", **NOWHERE)["id"]
    answer = owner.ask("GET", path)
    assert answer.json()["_links"]["self"]["href"] == str(answer.url)
    assert answer.json()["_links"][listener]["href"] == f"{answer.url}/listeners/{listener}"


def test_first_of_two_equal_aliases_is_the_link_key(owner: Caller) -> None:
    path = f"/queues/{owner.create('/queues')['id']}/messages"
    ids = {owner.create(path, data="x", alias="twin")["id"] for _ in range(2)}
    links = owner.get(path)["_links"]
    by_alias = links["twin"]["href"].rpartition("/")[2]
    assert {by_alias, *links} == {by_alias, "self", "twin", *(ids - {by_alias})}


@pytest.mark.parametrize("request_id", ["a", "x" * 128, "A-b_c.9"])
def test_a_sane_request_id_is_echoed(owner: Caller, request_id: str) -> None:
    for path in ("/queues", "/nothing"):
        assert owner.ask("GET", path, headers={"X-Request-Id": request_id}).headers["x-request-id"] == request_id


@pytest.mark.parametrize("request_id", ["", "x" * 129, "with blank", 'quote"'])
def test_another_request_id_is_replaced(owner: Caller, request_id: str) -> None:
    shown = owner.ask("GET", "/queues", headers={"X-Request-Id": request_id}).headers["x-request-id"]
    assert shown != request_id
    assert re.fullmatch("[A-Za-z0-9._-]{1,128}", shown)


@covers("errors.md# Statuses")
def test_error_names_its_subject(owner: Caller) -> None:
    answer = owner.ask("POST", "/queues", {"alias": "abc"}, headers={"X-Request-Id": "mine"})
    content = problem(answer, 422)
    assert content["title"] == "Unprocessable Entity"
    assert content["request_id"] == "mine"
    assert content["errors"] == [{"pointer": "/alias", "detail": content["errors"][0]["detail"]}]
    assert answer.headers["content-type"].startswith("application/json")


def test_an_error_is_a_problem_document_where_that_is_asked_for(owner: Caller) -> None:
    answer = owner.ask("GET", "/nothing", headers={"Accept": "application/problem+json, application/json"})
    assert problem(answer, 404)["title"] == "Not Found"
    assert answer.headers["content-type"].startswith("application/problem+json")


def test_an_error_shows_nothing_internal(owner: Caller) -> None:
    for answer in (owner.ask("GET", "/queues/" + "'" * 21), owner.ask("POST", "/queues", b'{"alias": ')):
        assert not re.search(r"Traceback|SELECT|\.py|sqlite|postgres|dsk_", answer.text, re.IGNORECASE)


def test_malformed_http_gets_a_bare_400(operator: Caller) -> None:
    parts = urlsplit(operator.installation.urls[0])
    if parts.scheme != "http":
        pytest.skip("A socket of its own speaks cleartext.")
    with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=10) as connection:
        connection.sendall(b"NONSENSE\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400")
