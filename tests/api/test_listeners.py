"""Listeners as clients see them."""

from collections.abc import Iterator

import pytest

from tests.support.served_api import Cast, Service, cast_of, served

URLS = {"notify_url": "http://127.0.0.1:9/notify", "liveness_url": "http://127.0.0.1:9/live"}


def test_a_listener_is_created_read_changed_and_deleted(cast: Cast) -> None:
    queue = cast.queue()
    created = cast.alice.post(f"/queues/{queue}/listeners", json={**URLS, "alias": "billing"}).json()
    listener = created["listener"]
    assert listener.pop("secret").startswith("whsec_")
    assert (listener["alias"], listener["queue_id"], listener["status"]) == ("billing", queue, "enabled")
    assert listener["liveness"] == {
        "state": "unknown",
        "success_count": 0,
        "failure_count": 0,
        "last_success_at": 0,
        "last_failure_at": 0,
        "last_failure_status": 0,
        "last_failure_msg": "",
    }
    assert listener["messages"] == {
        "acknowledged_count": 0,
        "missed": [],
        "missed_count": 0,
        "pending_count": 0,
        "last_success_at": 0,
        "last_failure_at": 0,
    }
    path = f"/queues/{queue}/listeners/{listener['id']}"
    assert cast.alice.get(path).json()["listener"] == listener
    changed = cast.alice.put(path, json={"status": "disabled"}).json()["listener"]
    assert (changed["status"], changed["notify_url"]) == ("disabled", URLS["notify_url"])
    assert cast.alice.delete(path).json() == {"_links": {"self": {"href": cast.service.url + path}}}
    assert cast.alice.get(path).status_code == 404


def test_listener_secret_is_shown_once(cast: Cast) -> None:
    queue = cast.queue()
    listener = cast.listener(queue)
    for path in (f"/queues/{queue}/listeners/{listener}", f"/queues/{queue}/listeners", "/listeners"):
        assert "whsec_" not in cast.alice.get(path).text


@pytest.mark.parametrize("missing", ["notify_url", "liveness_url"])
def test_listener_urls_are_required_and_cannot_be_cleared(cast: Cast, missing: str) -> None:
    queue = cast.queue()
    path = f"/queues/{queue}/listeners"
    for fields in ({name: url for name, url in URLS.items() if name != missing}, {**URLS, missing: None}):
        answer = cast.alice.post(path, json=fields)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, f"/{missing}")
    assert cast.alice.put(f"{path}/{cast.listener(queue)}", json={missing: None}).status_code == 400


@pytest.mark.parametrize(
    "url",
    ["ftp://example.com/", "/relative", "http://user:pw@example.com/", "http://example.com/#x", "http://" + "a" * 260],
)
def test_a_url_that_is_none_is_422_and_pointed_at(cast: Cast, url: str) -> None:
    answer = cast.alice.post(f"/queues/{cast.queue()}/listeners", json={**URLS, "notify_url": url})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/notify_url")


@pytest.mark.parametrize("url", ["http://EXAMPLE.com:80/A/../b?q=%7e", "https://example.com", "http://exämple.com/ü"])
def test_a_url_comes_back_as_it_was_sent(cast: Cast, url: str) -> None:
    queue = cast.queue()
    listener = cast.listener(queue, notify_url=url, liveness_url=url)
    shown = cast.alice.get(f"/queues/{queue}/listeners/{listener}").json()["listener"]
    assert (shown["notify_url"], shown["liveness_url"]) == (url, url)


def test_a_status_that_is_none_is_422(cast: Cast) -> None:
    answer = cast.alice.post(f"/queues/{cast.queue()}/listeners", json={**URLS, "status": "paused"})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/status")


def test_an_alias_is_taken_within_its_queue_only(cast: Cast) -> None:
    first, second = cast.queue(), cast.queue()
    cast.listener(first, alias="billing")
    assert cast.alice.post(f"/queues/{first}/listeners", json={**URLS, "alias": "billing"}).status_code == 422
    cast.listener(second, alias="billing")
    links = cast.alice.get("/listeners").json()["_links"]
    assert links["billing"]["href"].split("/")[-3] == second


def test_listener_is_not_found_under_another_queue(cast: Cast) -> None:
    first, second = cast.queue(), cast.queue()
    listener = cast.listener(first)
    assert cast.alice.get(f"/queues/{second}/listeners/{listener}").status_code == 404
    assert cast.alice.delete(f"/queues/{second}/listeners/{listener}").status_code == 404
    assert cast.alice.get(f"/queues/{first}/listeners/{listener}").status_code == 200


def test_messages_wait_for_it_to_be_counted(cast: Cast) -> None:
    queue = cast.queue()
    cast.message(queue)
    listener = cast.listener(queue)
    cast.message(queue)
    shown = cast.alice.get(f"/queues/{queue}/listeners/{listener}").json()["listener"]
    assert shown["messages"]["pending_count"] == 1


def test_a_key_for_one_queue_sees_its_listeners_alone(cast: Cast) -> None:
    mine, other = cast.queue(), cast.queue()
    listener, _ = cast.listener(mine), cast.listener(other)
    key = cast.alice.post("/api_keys", json={"scopes": {"listeners": {"targets": [mine]}}}).json()["api_key"]["key"]
    bob = cast.service.client(key)
    for path in ("/listeners", f"/queues/{mine}/listeners"):
        assert [shown["id"] for shown in bob.get(path).json()["listeners"]] == [listener]
    assert bob.post(f"/queues/{other}/listeners", json=URLS).status_code == 403


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with served(tmp_path_factory.mktemp("strict"), allow_private_targets=False) as running:
        yield running


@pytest.mark.parametrize("host", ["127.0.0.1", "0x7f000001", "2130706433", "[::ffff:127.0.0.1]", "169.254.169.254"])
def test_a_literal_address_that_is_refused_is_422(strict: Service, host: str) -> None:
    cast = cast_of(strict)
    fields = {"notify_url": "https://example.com/", "liveness_url": f"http://{host}/"}
    answer = cast.alice.post(f"/queues/{cast.queue()}/listeners", json=fields)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/liveness_url")
