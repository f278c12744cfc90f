"""Patterns and schemas of a tenant that are slow to match do not hold up others."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from discue.domain.patterns import LARGE_PATTERNS, MAX_MATCHED, MAX_PATTERNS, compiled_kib
from tests.security.neighbour import Tenant, tenant
from tests.support.served_process import ServedProcess, served_process

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


def _random_text(parts: Sequence[str], count: int) -> str:
    random = Random(1)  # noqa: S311 - no secret
    return "".join(random.choice(parts) for _ in range(count))


_SLOW = [
    ("[ab]{1,100}a[ab]{1,100}x", "ab"),
    ("[ab]{1,1000}a[ab]{1,1000}x", "ab"),
    ("[ab]*a[ab]{22}x", "ab"),
    ("^prefix(?:[ab]{1,100}a[ab]{1,100}x)*$", "ab"),
    ("^.*a.{14}$", "ab"),
    (".*a.{200}x", "ab"),
    ("x|y|z|(?:a|b)*a(?:a|b){13}c", "ab"),
    ("[😀😁]{1,60}😀[😀😁]{1,60}x", "😀😁"),
    (r"\p{Hiragana}{15,40}あ\p{Hiragana}{15,40}x", "あい"),
    (r"^[\s\S]*q[\s\S]{30}x", "aq"),
    (r"\w{30,100}q\w{30,100}-", "aq"),
    ("(?:foo|bar){10,40}foo(?:foo|bar){10,40}x", ["foo", "bar"]),
    (r"\A\b{start}[ab]*a[ab]{14}x", "ab"),
    ("^ (?x)[ab]*  a[ab]{14} #(((\n x", "ab"),
    ("(a{0,40}){0,40}x", "a"),
]
"""Patterns that keep an engine busy, and the parts of a text that does so."""


@pytest.mark.parametrize(("pattern", "parts"), _SLOW, ids=lambda value: str(value)[:30])
def test_slow_pattern_of_a_schema_matches_a_limited_text(
    server: ServedProcess, attacker: Tenant, pattern: str, parts: Sequence[str]
) -> None:
    kib = compiled_kib(pattern)
    assert kib is not None
    text = _random_text(parts, MAX_MATCHED // kib)[: MAX_MATCHED // kib - 4]
    for schema, most, more in (
        ({"schema": {"a": {"type": "string", "pattern": pattern}}}, {"a": text}, {"a": text + "aaaa"}),
        ({"json_schema": {"patternProperties": {pattern: True}, "unevaluatedProperties": True}}, {text: 1}, None),
        ({"json_schema": {"items": {"not": {"pattern": pattern}}}}, [text], [text, "", ""]),
    ):
        path = _messages_of_a_new_queue(attacker, schema)
        answer = _published_quickly(server, attacker, path, most)
        assert answer.status_code == httpx.codes.OK or "must match" in answer.text or "does not match" in answer.text
        if more is not None:
            answer = _published_quickly(server, attacker, path, more)
            assert answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY
            assert "has too much text" in answer.json()["errors"][0]["detail"]


def _messages_of_a_new_queue(attacker: Tenant, schema: dict[str, Any]) -> str:
    with attacker.client() as client:
        made = client.post("/queues", json={**schema, "max_message_bytes": 8_388_608}).raise_for_status().json()
    return f"/queues/{made['queue']['id']}/messages"


def _published_quickly(server: ServedProcess, attacker: Tenant, path: str, data: Any) -> httpx.Response:
    """Publish a message, up to three times, until a publish takes little time of a processor."""
    spent = 0.0
    with attacker.client() as client:
        for _ in range(3):
            before = server.cpu_seconds
            answer = client.post(path, json={"data": data})
            spent = server.cpu_seconds - before
            if spent < _CPU_SECONDS:
                return answer
    pytest.fail(f"{path} takes {spent:.3f} s of a processor")


@pytest.mark.parametrize(("pattern", "parts"), [_SLOW[0], _SLOW[2], _SLOW[4]], ids=lambda value: str(value)[:30])
def test_slow_patterns_of_a_filter_match_a_limited_text(
    server: ServedProcess, attacker: Tenant, pattern: str, parts: Sequence[str]
) -> None:
    condition = {"$or": [{"data": {"a": {"$regex": f"{pattern}{number}"}}} for number in range(10)]}
    with attacker.client() as client:
        topic = client.post("/topics", json={}).json()["topic"]["id"]
        channel = {"queue_id": attacker.queue, "filter": condition}
        client.post(f"/topics/{topic}/channels", json=channel).raise_for_status()
    kib = compiled_kib(f"{pattern}9")
    assert kib is not None
    longest = MAX_MATCHED // (10 * kib)
    for text in (_random_text(parts, longest), _random_text(parts, longest + 1), _random_text(parts, _DATA_BYTES)):
        _published_quickly(server, attacker, f"/topics/{topic}/messages", {"a": text})


def test_requests_are_answered_while_a_schema_is_compiled(server: ServedProcess, attacker: Tenant) -> None:
    patterns = {
        f"p{n}": {"pattern": rf"(?i){n}\p{{L}}{{1,5}}" if n < LARGE_PATTERNS else f"(?i){n}[a-z]{{1,64}}"}
        for n in range(MAX_PATTERNS)
    }
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
    path = _messages_of_a_new_queue(attacker, {"json_schema": document})
    assert _published_quickly(server, attacker, path, data).status_code in _CHECKED
