"""Clients that race for one thing, at two workers on one database: one wins, the others get the contract's status."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import httpx
import pytest

from tests.support.databases import ENGINE_NAMES, new_database
from tests.support.served_api import Service, served

RACERS = 6
PLACE = {"hostname": "hooks.example.com"}
URLS = {"notify_url": "http://127.0.0.1:9/", "liveness_url": "http://127.0.0.1:9/"}


class Pair(NamedTuple):
    """Two workers on one database, and the first key of the operator's organization."""

    first: Service
    second: Service

    def client(self, number: int) -> httpx.Client:
        """At the one or the other."""
        return (self.first, self.second)[number % 2].client(self.first.operator)

    def race(self, request: Callable[[httpx.Client], httpx.Response]) -> list[httpx.Response]:
        """Send requests at the same moment and return all responses."""
        start = threading.Barrier(RACERS)

        def run(number: int) -> httpx.Response:
            client = self.client(number)
            start.wait(60)
            return request(client)

        with ThreadPoolExecutor(RACERS) as threads:
            return list(threads.map(run, range(RACERS)))


@pytest.fixture(scope="module", params=ENGINE_NAMES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("races")
    with (
        new_database(request, request.param, folder) as database,
        served(folder, database=database) as first,
        served(folder, database=database) as second,
    ):
        yield Pair(first, second)


def statuses(answers: list[httpx.Response]) -> list[int]:
    return sorted(answer.status_code for answer in answers)


def queue(pair: Pair) -> str:
    return str(pair.client(0).post("/queues", json={}).json()["queue"]["id"])


def published(pair: Pair, queue_id: str) -> int:
    return int(pair.client(0).get(f"/queues/{queue_id}").json()["queue"]["messages"]["published_count"])


def listed(pair: Pair, path: str) -> int:
    """Return the number of resources in a list."""
    answer = pair.client(0).get(f"{path}?per_page=100").json()
    return sum(len(value) for value in answer.values() if isinstance(value, list))


def require_one_effect(answers: list[httpx.Response]) -> None:
    """All have the same answer, of which one is not a repetition."""
    assert statuses(answers) == [200] * RACERS, [answer.text for answer in answers]
    assert len({str(_identified(answer.json())) for answer in answers}) == 1
    assert ["idempotency-replayed" in answer.headers for answer in answers].count(False) == 1


def _identified(body: dict[str, Any]) -> Any:
    """Return a response without links, which name the worker's port, and secrets: its repetition has the rest."""
    shown = next(value for name, value in body.items() if name != "_links")
    return [(each["id"], each["alias"], each["created_at"]) for each in (shown if isinstance(shown, list) else [shown])]


@pytest.mark.parametrize("round_number", range(4))
def test_one_message_is_stored(pair: Pair, round_number: int) -> None:
    queue_id = queue(pair)
    headers = {"idempotency-key": f"{queue_id}-{round_number}"}
    path = f"/queues/{queue_id}/messages"
    require_one_effect(pair.race(lambda client: client.post(path, json={"data": "1"}, headers=headers)))
    assert published(pair, queue_id) == 1


def test_one_batch_is_stored(pair: Pair) -> None:
    queue_id = queue(pair)
    body = {"messages": [{"data": str(number)} for number in range(20)]}
    headers, path = {"idempotency-key": queue_id}, f"/queues/{queue_id}/messages/batch"
    require_one_effect(pair.race(lambda client: client.post(path, json=body, headers=headers)))
    assert published(pair, queue_id) == 20


CREATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "queue": ("/queues", {}),
    "named queue": ("/queues", {"alias": "orders"}),
    "key": ("/api_keys", {}),
    "organization": ("/organizations", {}),
    "listener": ("/queues/{queue}/listeners", URLS),
    "domain": ("/domains", PLACE),
    "user": ("/users", {"email": "once@example.com", "role": "viewer"}),
}


@pytest.mark.parametrize("name", CREATIONS)
def test_one_resource_is_created(pair: Pair, name: str) -> None:
    template, body = CREATIONS[name]
    path = template.replace("{queue}", queue(pair))
    before = listed(pair, path)
    headers = {"idempotency-key": f"one-{name.replace(' ', '-')}"}
    require_one_effect(pair.race(lambda client: client.put(path, json=body, headers=headers)))
    assert listed(pair, path) == before + 1


def test_one_idempotency_key_has_one_body(pair: Pair) -> None:
    """Among different requests with one key, one succeeds and the others are refused."""
    numbers = iter(range(RACERS))
    headers = {"idempotency-key": "many-bodies"}
    answers = pair.race(
        lambda client: client.post("/queues", json={"alias": f"bodies-{next(numbers)}"}, headers=headers)
    )
    assert statuses(answers) == [200] + [422] * (RACERS - 1)
    everything = pair.client(0).get("/queues?per_page=100").json()["queues"]
    assert len([each for each in everything if each["alias"].startswith("bodies-")]) == 1


def test_one_of_many_deletions_succeeds(pair: Pair) -> None:
    queue_id = queue(pair)
    client = pair.client(0)
    listener = client.post(f"/queues/{queue_id}/listeners", json=URLS).json()["listener"]["id"]
    message = client.post(f"/queues/{queue_id}/messages", json={"data": "1"}).json()["message"]["id"]
    key = client.post("/api_keys", json={}).json()["api_key"]["id"]
    domain = client.post("/domains", json=PLACE).json()["domain"]["id"]
    user = client.post("/users", json={"email": "gone@example.com", "role": "viewer"}).json()["user"]["id"]
    organization = client.post("/organizations", json={}).json()["organization"]["id"]
    for path in (
        f"/queues/{queue_id}/listeners/{listener}",
        f"/queues/{queue_id}/messages/{message}",
        f"/api_keys/{key}",
        f"/domains/{domain}",
        f"/users/{user}",
        f"/organizations/{organization}",
        f"/queues/{queue_id}",
    ):
        answers = pair.race(lambda client, path=path: client.delete(path))  # type: ignore[misc]
        assert statuses(answers) == [200] + [404] * (RACERS - 1), path


def test_alias_wanted_by_many_creations_is_given_once(pair: Pair) -> None:
    path = f"/queues/{queue(pair)}/listeners"
    for collection, body in (
        ("/queues", {"alias": "raced"}),
        ("/api_keys", {"alias": "raced"}),
        ("/organizations", {"alias": "com.example.raced"}),
        (path, {"alias": "raced", **URLS}),
        ("/domains", {"alias": "raced", **PLACE}),
        ("/users", {"email": "Raced@example.com", "role": "viewer"}),
    ):
        answers = pair.race(lambda client, to=collection, body=body: client.post(to, json=body))  # type: ignore[misc]
        assert statuses(answers) == [200] + [422] * (RACERS - 1), collection


def test_alias_wanted_by_many_renames_is_given_once(pair: Pair) -> None:
    client = pair.client(0)
    for plural, singular, made, name in (
        ("queues", "queue", {}, {"alias": "renamed"}),
        ("domains", "domain", PLACE, {"alias": "renamed"}),
        ("api_keys", "api_key", {}, {"alias": "renamed"}),
    ):
        ids = [client.post(f"/{plural}", json=made).json()[singular]["id"] for _ in range(RACERS)]
        paths = iter([f"/{plural}/{each}" for each in ids])
        answers = pair.race(lambda racer, paths=paths, name=name: racer.put(next(paths), json=name))  # type: ignore[misc]
        assert statuses(answers) == [200] + [422] * (RACERS - 1), plural


def test_invitation_is_accepted_once_by_many_requests(pair: Pair) -> None:
    made = pair.client(0).post("/users", json={"email": "invited@example.com", "role": "viewer"}).json()
    answer = {"token": made["invitation"]["token"], "password": "correct horse battery"}
    answers = pair.race(lambda client: client.post("/invitations", json=answer))
    assert statuses(answers) == [200] + [404] * (RACERS - 1)


def test_last_owner_survives_many_deletions(pair: Pair) -> None:
    client = pair.client(0)
    bodies = [{"email": f"owner-{n}@example.com", "role": "owner", "password": "correct horse"} for n in range(RACERS)]
    ids = [client.post("/users", json=body).json()["user"]["id"] for body in bodies]
    paths = iter([f"/users/{each}" for each in ids])
    answers = pair.race(lambda racer: racer.delete(next(paths)))
    assert statuses(answers) == [200] * (RACERS - 1) + [409]


def test_one_of_many_changes_with_one_if_match_succeeds(pair: Pair) -> None:
    queue_id = queue(pair)
    message = pair.client(0).post(f"/queues/{queue_id}/messages", json={"data": "1"}).json()["message"]["id"]
    domain = pair.client(0).post("/domains", json=PLACE).json()["domain"]["id"]
    paths = (f"/queues/{queue_id}", f"/queues/{queue_id}/messages/{message}", f"/domains/{domain}")
    for answers in [race_to_change(pair, path) for path in paths]:
        assert statuses(answers) == [200] + [412] * (RACERS - 1)


def race_to_change(pair: Pair, path: str) -> list[httpx.Response]:
    """Each racer wants another alias, and what it saw still to be there."""
    bound = {"if-match": pair.client(0).get(path).headers["etag"]}
    aliases = iter([f"alias-{number}" for number in range(RACERS)])
    return pair.race(lambda client: client.put(path, json={"alias": next(aliases)}, headers=bound))
