"""A fuzzer that knows the OpenAPI document finds nothing, and no other organization sees what it made."""

import os
import re

import httpx

from discue.product import ROUTES
from tests.fuzz.fuzzing import Findings, Limit, Round, fuzz
from tests.support.api_world import BODIES
from tests.support.served_api import Cast, Service, cast_of

CASES = int(os.environ.get("FUZZ_CASES", "0"))
"""How many requests a long run makes on each engine; 0 for a short one, which is always the same."""

_SHORT = (Round(("examples",), 1), Round(("fuzzing",), 2), Round(("stateful",), 2))
_LONG = (
    Round(("examples", "fuzzing", "stateful"), 15),
    Round(("coverage",), 1),
    *[Round(("fuzzing", "stateful"), 20)] * 100,
)
"""Random requests run first: walking through all limits of all fields takes thousands of requests."""

_LONGEST_SECONDS = 90 + CASES / 12
ID = re.compile("[0-9A-Za-z]{21}")
_PROBED = 60 if CASES else 20
_FEWEST_MADE = 20


def test_fuzzing_finds_no_failure_and_no_leaked_id(service: Service) -> None:
    cast = cast_of(service)
    found = run(cast)
    print(f"{found.cases} requests: {sorted(found.statuses.items())}")
    print(f"passed over: {sorted(found.passed_over)}")
    assert not found.failures, f"{len(found.failures)} faults after {found.cases} requests:\n{found}"
    assert not service.log.errors
    assert found.cases >= CASES, f"only {found.cases} requests within {_LONGEST_SECONDS} s"
    made = [cast.organization_id, *sorted(found.ids)]
    assert len(made) >= _FEWEST_MADE
    nothing_is_reached(cast.charlie, made[-_PROBED:])
    nothing_is_listed(cast.charlie, made)


def run(cast: Cast) -> Findings:
    """With alice's key."""
    (key,) = cast.alice.get("/api_keys").json()["api_keys"]
    own_ids = frozenset({cast.organization_id, key["id"]})
    limit = Limit(CASES or 100_000, _LONGEST_SECONDS)
    return fuzz(cast.service, cast.alice.headers["x-api-key"], own_ids, _LONG if CASES else _SHORT, limit)


def nothing_is_reached(stranger: httpx.Client, made: list[str]) -> None:
    """By no operation, whatever the id is of."""
    for route in ROUTES:
        if route.needs is None or "{" not in route.path:
            continue
        for path in [re.sub(r"\{\w+\}", public_id, route.path) for public_id in made]:
            # The id of a schema is a name like any other, and `PUT` creates what it names.
            methods = [method for method in route.methods if method != "PUT" or ID.fullmatch(path.split("/")[2])]
            for method in methods:
                answer = stranger.request(method, path, json=BODIES.get(route.request.__name__))
                assert answer.status_code == 404, f"{method} {path}: {answer.status_code} {answer.text[:500]}"


def nothing_is_listed(stranger: httpx.Client, made: list[str]) -> None:
    for route in ROUTES:
        if route.needs is not None and route.methods == ("GET",) and "{" not in route.path:
            text = stranger.get(route.path).text
            assert not [public_id for public_id in made if f'"{public_id}"' in text], route.path
