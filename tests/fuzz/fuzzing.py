"""Runs a fuzzer that knows the OpenAPI document against a running service, with all of its checks."""

import itertools
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias, cast
from unittest import mock
from urllib.parse import urlsplit

import httpx
import schemathesis
from requests import PreparedRequest
from requests.adapters import HTTPAdapter
from schemathesis import Case, CheckContext, HookContext, Response
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import from_schema
from schemathesis.engine.core import EventStream
from schemathesis.engine.events import FatalError, NonFatalError, ScenarioFinished
from schemathesis.engine.recorder import CheckFailureInfo, ScenarioRecorder
from schemathesis.errors import UnsupportedSchema
from schemathesis.specs.openapi.checks import positive_data_acceptance

from discue.api.openapi.document import HEADER_PARAMETERS
from discue.domain.ids import is_public_id
from tests.support.described_responses import Seen, description
from tests.support.served_api import Service

AnyCase: TypeAlias = Case[Any]

PHASES: Final = ("examples", "coverage", "fuzzing", "stateful")

_SEED = 20_261
_NOBODY = "0" * 21
_LISTED = 20
_TAGS = HEADER_PARAMETERS["If-Match"]["schema"]["pattern"]
_ID = re.compile(r'"(?:id|queue_id|schema_id)":"([0-9A-Za-z]{21}|[0-9a-f]{64})"')

_fitting_is_taken = cast("Callable[..., object]", positive_data_acceptance)

# A request that fits the document may be refused where no schema can say so. 401, 404: it names an unknown resource, or
# has no key. 403: a key cannot grant more than it has. 406, 415: headers that the fuzzer generated. 409: the
# last key. 412: a random entity tag matches nothing. 422: an alias, a domain or an email is taken; alias and
# name differ; URLs, patterns and JSON Schemas have rules beyond their grammar.
_REFUSED_THOUGH_FITTING = (401, 403, 404, 406, 409, 412, 415, 422)
# An invalid request may be too large before it is validated.
_REFUSED = ("400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "429", "5xx")
_NOT_A_FAULT = ("2xx", "3xx", "4xx")


_FOLLOWS = {"limit", "startAfter", "startAfterId"}
_PAGES = {"per_page", "after", "before"}


def _is_refused_as_a_whole(case: AnyCase) -> bool:
    """Whether parameters do not go together that are good one by one, name no listener or queue, or are no tags.

    (The fuzzer takes `0` for an entity tag.) What `PUT` on an alias creates may need more fields than a change. A test
    of a transform needs one if the listener has none.
    """
    query: Mapping[str, Any] = case.query or {}
    headers: Mapping[str, Any] = case.headers or {}
    tags = [headers[name] for name in ("If-Match", "If-None-Match") if name in headers]
    named = [text for text in (case.path_parameters or {}).values() if not is_public_id(str(text))]
    needs_transform = case.path.endswith("/transform-tests")
    return (
        (case.method.upper() == "PUT" and bool(named))
        or (needs_transform and not (isinstance(case.body, dict) and case.body.get("transform")))
        or bool(
            {"limit", "startAfter", "startAfterId"} & query.keys() and {"per_page", "after", "before"} & query.keys()
        )
        or ({"alias", "name"} <= query.keys() and query["alias"] != query["name"])
        or bool({"state", "listener", "queue"} & query.keys())
        or "page" in query
        or not all(re.search(_TAGS, tag) for tag in tags)
    )


@dataclass
class Findings:
    """The result of a run: the number of requests, the failures, and the ids in responses.

    `passed_over` are operations for which the fuzzer could not generate every case: it cannot negate each schema.
    """

    cases: int = 0
    statuses: dict[int, int] = field(default_factory=dict)
    passed_over: set[str] = field(default_factory=set)
    failures: dict[str, str] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)

    def note(self, recorder: ScenarioRecorder) -> None:
        self.cases += len(recorder.interactions)
        for interaction in recorder.interactions.values():
            if interaction.response is not None:
                status = interaction.response.status_code
                self.statuses[status] = self.statuses.get(status, 0) + 1
                self.ids.update(_ID.findall(interaction.response.content.decode(errors="replace")))
        for nodes in recorder.checks.values():
            for node in nodes:
                if node.failure_info is not None:
                    self._failed(f"{node.name} {recorder.label}", node.failure_info)

    def error(self, where: str, error: Exception) -> None:
        self.failures.setdefault(f"error {where}: {type(error).__name__}", str(error)[:2_000])

    def _failed(self, where: str, info: CheckFailureInfo) -> None:
        failure = info.failure
        what = f"{failure.message[:1_200]}\n{info.code_sample[:1_500]}"
        self.failures.setdefault(f"{where}: {failure.operation} {failure.title}", what)

    def __str__(self) -> str:
        listed = itertools.islice(self.failures.items(), _LISTED)
        return "\n\n".join(f"{where}\n{what}" for where, what in listed)


class Limit:
    """Ends a run after so many requests, or that time."""

    def __init__(self, cases: int, seconds: float) -> None:
        self._cases = cases
        self._ends_at = time.monotonic() + seconds

    def is_reached(self, found: Findings) -> bool:
        return found.cases >= self._cases or time.monotonic() > self._ends_at


class Round(NamedTuple):
    """A round of a run: phases of the fuzzer, and the number of examples or sequences of each operation."""

    phases: tuple[str, ...]
    examples: int


def _configuration(service: Service, key: str, each: Round, number: int) -> SchemathesisConfig:
    """All checks. The same rounds make the same requests each time."""
    return SchemathesisConfig.from_dict(
        {
            "seed": _SEED + number,
            "base-url": f"{service.url}/v1",
            "headers": {"X-API-KEY": key},
            "continue-on-failure": True,
            "phases": {name: {"enabled": name in each.phases} for name in PHASES},
            "generation": {"max-examples": each.examples, "no-shrink": True, "database": "none"},
            "checks": {
                "negative_data_rejection": {"expected-statuses": list(_REFUSED)},
                "not_a_server_error": {"expected-statuses": list(_NOT_A_FAULT)},
                "positive_data_acceptance": {"enabled": False},  # `fitting_input_is_taken` asks it, where it can know.
            },
        }
    )


@schemathesis.hook
def map_body(_context: HookContext, body: Any) -> Any:
    """To JSON Schema 17.0 is an integer. The API wants it to be written as 17, which no schema can say."""
    if isinstance(body, float) and body.is_integer():
        return int(body)
    if isinstance(body, dict):
        return {name: map_body(_context, value) for name, value in body.items()}
    return [map_body(_context, value) for value in body] if isinstance(body, list) else body


@schemathesis.check
def as_described(_context: CheckContext, response: Response, case: AnyCase) -> None:
    """Apply the checks of the API's tests to a response, including that every header is declared."""
    path = urlsplit(str(response.request.url)).path
    headers = httpx.Headers([(name, value) for name, values in response.headers.items() for value in values])
    seen = Seen(case.method, path, response.status_code, headers, response.content)
    faults = description().faults(seen)
    assert not faults, f"{seen}: {'; '.join(faults)}"


@schemathesis.check
def fitting_input_is_taken(context: CheckContext, response: Response, case: AnyCase) -> None:
    legitimate = response.status_code in _REFUSED_THOUGH_FITTING or (
        response.status_code == 400 and _is_refused_as_a_whole(case)
    )
    if not legitimate:
        _fitting_is_taken(context, response, case)


@schemathesis.check
def nothing_internal_shows(_context: CheckContext, response: Response, case: AnyCase) -> None:
    if case.path.startswith("/docs"):
        # The documentation names what the service is made of.
        return
    text = response.content[:100_000].decode(errors="replace").lower()
    assert not any(word in text for word in ("traceback", "sqlite", "asyncpg", '.py"', "msgspec"))


def fuzz(service: Service, key: str, own_ids: frozenset[str], rounds: Iterable[Round], limit: Limit) -> Findings:
    """Every operation of the document with fitting and with wrong input, and in sequences along its links.

    Ends with the rounds, at the limit, or after a round in which something was wrong.
    """
    found = Findings()
    with _requests_of_the_run(own_ids):
        for number, each in enumerate(rounds):
            if found.failures or limit.is_reached(found):
                break
            config = _configuration(service, key, each, number)
            schema = schemathesis.openapi.from_url(f"{service.url}/openapi.json", config=config)
            _execute(from_schema(schema).execute(), found, limit)
    return found


def _execute(stream: EventStream, found: Findings, limit: Limit) -> None:
    for event in stream:
        if isinstance(event, ScenarioFinished):
            found.note(event.recorder)
            if limit.is_reached(found):
                stream.stop()
        elif isinstance(event, NonFatalError) and isinstance(event.value, UnsupportedSchema):
            found.passed_over.add(event.label)
        elif isinstance(event, NonFatalError):
            found.error(event.label, event.value)
        elif isinstance(event, FatalError):
            found.error("fatal", event.exception)


@contextmanager
def _requests_of_the_run(own_ids: frozenset[str]) -> Iterator[None]:
    """Each comes from an address of its own: wrong keys would lock out the others.

    What would change the run's own organization or its key goes to nobody's instead: it would end the run.
    """
    send, numbers = HTTPAdapter.send, itertools.count()

    def altered(adapter: HTTPAdapter, request: PreparedRequest, *args: Any, **kwargs: Any) -> Any:
        number = next(numbers)
        address = f"100.{64 + number // 62_500}.{number // 250 % 250}.{number % 250 + 1}"
        request.headers["X-Forwarded-For"] = address
        if request.method not in {"GET", "HEAD"}:
            for own in own_ids:
                request.url = str(request.url).replace(own, _NOBODY)
        # A long poll delays the run by its wait.
        request.url = re.sub(r"([?&]wait=)[0-9]+", r"\g<1>0", str(request.url))
        return send(adapter, request, *args, **kwargs)

    with mock.patch.object(HTTPAdapter, "send", altered):
        yield
