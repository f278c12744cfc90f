"""Patterns and schemas of a tenant that are slow to match: they are refused, or hold up nobody."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.security.neighbour import Tenant, tenant
from tests.support.served_process import ServedProcess, served_process

_SLOW = "[ab]{1,100}a[ab]{1,100}x"
_DATA_BYTES = 250_000
_CPU_SECONDS = 0.15
"""The longest that one publish may take of a processor, everything included, on a machine that runs other tests."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedProcess]:
    database: Path = tmp_path_factory.mktemp("patterns") / "discue.db"
    with served_process(f"sqlite:///{database}") as process:
        yield process


@pytest.fixture
def attacker(server: ServedProcess, request: pytest.FixtureRequest) -> Tenant:
    return tenant(server, f"com.example.{abs(hash(request.node.name)) % 10**12}")


def _refusal(answer: httpx.Response) -> str:
    assert answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY, answer.text
    return str(answer.json()["errors"][0]["detail"])


@pytest.mark.parametrize(
    "schema",
    [
        {"schema": {"a": {"type": "string", "pattern": _SLOW}}},
        {"json_schema": {"pattern": _SLOW}},
        {"json_schema": {"patternProperties": {_SLOW: True}}},
    ],
)
def test_slow_pattern_of_a_schema_is_refused(attacker: Tenant, schema: dict[str, Any]) -> None:
    with attacker.client() as client:
        assert "matches too slowly" in _refusal(client.post("/queues", json=schema))
        changed = client.put(attacker.messages.removesuffix("/messages"), json=schema)
        assert "matches too slowly" in _refusal(changed)


def test_slow_pattern_of_a_filter_is_refused_everywhere(attacker: Tenant) -> None:
    condition = {"data": {"a": {"$regex": _SLOW}}}
    queue = attacker.messages.removesuffix("/messages")
    with attacker.client() as client:
        listener = {"notify_url": "http://127.0.0.1:9/", "filter": condition}
        assert "matches too slowly" in _refusal(client.post(f"{queue}/listeners", json=listener))
        topic = client.post("/topics", json={}).json()["topic"]["id"]
        channel = {"queue_id": attacker.queue, "filter": condition}
        assert "matches too slowly" in _refusal(client.post(f"/topics/{topic}/channels", json=channel))
        made = client.post(f"{queue}/listeners", json={"notify_url": "http://127.0.0.1:9/", "status": "disabled"})
        path = f"{queue}/listeners/{made.json()['listener']['id']}"
        assert "matches too slowly" in _refusal(client.put(path, json={"filter": condition}))
        replay = {"from_at": 0, "filter": condition}
        assert "matches too slowly" in _refusal(client.post(f"{path}/replays", json=replay))


def test_requests_are_answered_while_patterns_are_measured(server: ServedProcess, attacker: Tenant) -> None:
    patterns = {f"p{n}": {"pattern": f"^(a|b){{1,9}}-[a-z0-9]{{1,30}}@[a-z]+{n}$"} for n in range(50)}
    answers: list[httpx.Response] = []

    def create() -> None:
        with attacker.client() as client:
            answers.append(client.post("/queues", json={"json_schema": {"properties": patterns}}))

    creating = threading.Thread(target=create)
    answered = 0
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        creating.start()
        while creating.is_alive():
            answered += client.get("/health/live").status_code == httpx.codes.OK
    creating.join()
    assert answers[0].status_code == httpx.codes.OK, answers[0].text
    assert answered >= 5


_CHECKED = {httpx.codes.OK, httpx.codes.REQUEST_ENTITY_TOO_LARGE, httpx.codes.UNPROCESSABLE_ENTITY}
_NUMBERS = [7] * (_DATA_BYTES // 2)
_OBJECTS = [{"a": 1}] * (_DATA_BYTES // 8)


@pytest.mark.parametrize(
    ("document", "data"),
    [
        ({"contains": {"const": 1}}, _NUMBERS),
        ({"items": {"type": "string"}}, _NUMBERS),
        ({"items": {"enum": list(range(1_000, 9_000))}}, _NUMBERS),
        ({"items": {"enum": [{"a": n} for n in range(2, 5_000)]}}, _OBJECTS),
        ({"items": {"anyOf": [{"const": n} for n in range(100, 228)]}}, _NUMBERS),
        ({"items": {"oneOf": [{"const": n} for n in range(100, 990)]}}, _NUMBERS),
        ({"items": {"anyOf": [*({"const": n} for n in range(100, 400)), {}]}}, _NUMBERS),
        ({"items": {"enum": [*(f"t{n}" for n in range(6_000)), None]}}, ["t5999"] * (_DATA_BYTES // 8)),
        ({"items": {"dependentRequired": {f"k{n}": ["a"] for n in range(3_000)}}}, _OBJECTS),
        ({"uniqueItems": True}, _NUMBERS),
        ({"additionalProperties": {"type": "integer"}}, {f"k{n}": 1 for n in range(_DATA_BYTES // 9)} | {"z": ""}),
        ({"propertyNames": {"pattern": "^k[0-9]+$"}}, {f"k{n}": 1 for n in range(_DATA_BYTES // 9)} | {"z": 1}),
        ({"allOf": [{"pattern": f"(x|y)+{n}$"} for n in range(4)]}, "xy" * (_DATA_BYTES // 2)),
        ({"properties": {"a": {"pattern": r"^(\w+\W?)+$"}}}, {"a": "ab " * (_DATA_BYTES // 3)}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_worst_message_of_a_schema_is_checked_quickly(
    server: ServedProcess, attacker: Tenant, document: Any, data: Any
) -> None:
    with attacker.client() as client:
        made = client.post("/queues", json={"json_schema": document}).raise_for_status().json()
        path = f"/queues/{made['queue']['id']}/messages"
        spent = []
        for _ in range(3):
            before = server.cpu_seconds
            answer = client.post(path, json={"data": data})
            spent.append(server.cpu_seconds - before)
            assert answer.status_code in {
                httpx.codes.OK,
                httpx.codes.REQUEST_ENTITY_TOO_LARGE,
                httpx.codes.UNPROCESSABLE_ENTITY,
            }
    assert min(spent) < _CPU_SECONDS
