"""Holds responses to the OpenAPI document: their status, headers and bodies must be what it says, and nothing more."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import httpx
import jsonschema_rs

from discue.api.openapi.document import document_of
from discue.product import ROUTES
from discue.store.aliases import NAMED_KINDS

_STANDARD = frozenset({"content-type", "content-length", "date", "server", "connection", "transfer-encoding"})
_COMPRESSED = frozenset({"content-encoding", "vary"})
_OF_PAGES = frozenset({"content-security-policy", "x-content-type-options", "referrer-policy"})
_ASTRAY = (400, 404, 405, 406, 414, 423, 429, 431, 500, 503, 401, 403)
"""Statuses of requests that reach no operation: the document does not have their path or method."""

_DOCUMENT = "urn:document"
_PROBLEM = {"$ref": "#/components/schemas/Problem"}

Json = Mapping[str, Any]


def registry_of(document: Json) -> jsonschema_rs.Registry:
    """Return the components of a document, converted once for the validators of all schemas that refer to them."""
    return jsonschema_rs.Registry([(_DOCUMENT, {"components": document["components"]})])


def validator_of(schema: Json, registry: jsonschema_rs.Registry) -> jsonschema_rs.Draft202012Validator:
    """Compile a schema of the document whose components are in the registry."""
    absolute = json.loads(json.dumps(schema).replace('"$ref": "#', f'"$ref": "{_DOCUMENT}#'))
    return jsonschema_rs.Draft202012Validator(absolute, registry=registry)


class Seen(NamedTuple):
    """A response, and the request that it answers."""

    method: str
    path: str
    status: int
    headers: httpx.Headers
    content: bytes

    def __str__(self) -> str:
        return f"{self.method} {self.path} → {self.status}"


class Description:
    """The document, ready to be compared with responses."""

    def __init__(self, document: Json) -> None:
        self._document = document
        self._schemas = registry_of(document)
        self._paths = defaultdict[int, list[tuple[re.Pattern[str], str]]](list)
        """By number of steps. Paths with fewer parameters come first."""
        for path in sorted(document["paths"], key=lambda path: path.count("{")):
            self._paths[path.count("/")].append((_pattern(path), path))
        self._validators: dict[str, jsonschema_rs.Draft202012Validator] = {}
        self._validators_of: dict[int, jsonschema_rs.Draft202012Validator] = {}
        """By the identity of schemas, which the document keeps: serializing one takes as long as validating."""

    def faults(self, seen: Seen) -> list[str]:
        """Return a sentence for each difference between a response and its description."""
        path = self._path(seen.path.removeprefix("/v1") or "/")
        method = "get" if seen.method == "HEAD" else seen.method.lower()
        operation = self._document["paths"].get(path, {}).get(method)
        if operation is None:
            return list(self._astray(seen))
        response = operation["responses"].get(str(seen.status))
        if response is None:
            declared = ", ".join(operation["responses"])
            return [f"the status {seen.status} is not declared for {method.upper()} {path} (declared: {declared})"]
        followed = self._followed(response)
        codes = operation["x-error-codes"].get(str(seen.status), [])
        return [*self._header_faults(seen, followed), *self._body_faults(seen, followed), *_code_faults(seen, codes)]

    def _path(self, path: str) -> str | None:
        return next((template for pattern, template in self._paths[path.count("/")] if pattern.fullmatch(path)), None)

    def _astray(self, seen: Seen) -> Iterator[str]:
        # What `PUT` names is created, unless the name is invalid.
        if seen.status not in _ASTRAY and (seen.method, seen.status) != ("PUT", 422):
            yield f"the status {seen.status} cannot be, where there is no operation"
        elif seen.method != "HEAD":
            yield from self._schema_faults(_PROBLEM, json.loads(seen.content))
        if seen.status == 405 and "allow" not in seen.headers:
            yield "a 405 needs Allow"

    def _header_faults(self, seen: Seen, response: Json) -> Iterator[str]:
        declared = {name.lower(): self._followed(header) for name, header in response.get("headers", {}).items()}
        # Looked up once for all: a lookup in headers of httpx encodes their names again.
        given = dict(seen.headers.items())
        for name, header in declared.items():
            value = given.get(name)
            if value is None:
                if header.get("required"):
                    yield f"the header {name} is missing"
                continue
            typed = int(value) if header["schema"]["type"] == "integer" and value.isdecimal() else value
            yield from (f"the header {name}: {fault}" for fault in self._schema_faults(header["schema"], typed))
        known = declared.keys() | _STANDARD | _COMPRESSED | _OF_PAGES
        yield from (f"the header {name} is not declared" for name in given.keys() - known)

    def _body_faults(self, seen: Seen, response: Json) -> Iterator[str]:
        content = response.get("content")
        if content is None:
            if seen.content:
                yield "a body came where none is declared"
            return
        media_type = seen.headers.get("content-type", "").partition(";")[0]
        if media_type not in content:
            yield f"the content type {media_type!r} is not declared (declared: {', '.join(content)})"
        elif seen.method != "HEAD" and media_type.endswith("json"):
            yield from self._schema_faults(content[media_type]["schema"], json.loads(seen.content))

    def _schema_faults(self, schema: Json, value: Any) -> Iterator[str]:
        for error in self._validator(schema).iter_errors(value):
            place = "".join(f"/{step}" for step in error.instance_path)
            yield f"at {place or 'the whole'}: {error.message[:300]}"

    def _validator(self, schema: Json) -> jsonschema_rs.Draft202012Validator:
        found = self._validators_of.get(id(schema))
        if found is None:
            text = json.dumps(schema)
            found = self._validators.get(text) or validator_of(schema, self._schemas)
            self._validators_of[id(schema)] = self._validators[text] = found
        return found

    def _followed(self, entry: Json) -> Json:
        found: Any = entry
        if "$ref" in entry:
            found = self._document
            for step in entry["$ref"].removeprefix("#/").split("/"):
                found = found[step]
        followed: Json = found
        return followed


_PAGE = "[a-z][a-z_-]*"


def _code_faults(seen: Seen, declared: Sequence[str]) -> Iterator[str]:
    if seen.status < 400 or seen.method == "HEAD":
        return
    code = json.loads(seen.content)["code"]
    if code not in declared:
        yield f"the code {code} is not declared (declared for {seen.status}: {', '.join(declared)})"


_FORMS = {"schema_id": "[0-9a-f]{64}", "code": "[a-z_]{1,64}", "page": _PAGE, "part": _PAGE}


_ID = "[0-9A-Za-z]{21}"
_NAME = r"(?!\.{1,2}(?:/|$))(?:[A-Za-z0-9._-]|%[0-9A-F]{2})+"
_FORMS |= {f"{kind}_id": _NAME for kind in NAMED_KINDS}


def _pattern(path: str) -> re.Pattern[str]:
    steps = [_FORMS.get(step[1:-1], _ID) if step[:1] == "{" else re.escape(step) for step in path.split("/")]
    return re.compile("/".join(steps))


@cache
def description() -> Description:
    """Describe the routes of the product itself."""
    return Description(document_of(ROUTES, "/v1"))


class DescribedTransport(httpx.HTTPTransport):
    """Sends requests, and fails where a response is not what the document says.

    `others` are paths of routes that are not the product's.
    """

    def __init__(self, others: Iterable[str]) -> None:
        super().__init__(verify=False, trust_env=False)
        self._others = [_pattern(path) for path in others]

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        path = request.url.raw_path.decode().partition("?")[0]
        if not any(other.fullmatch(path.removeprefix("/v1")) for other in self._others):
            content = response.read()
            seen = Seen(request.method, path, response.status_code, response.headers, content)
            faults = description().faults(seen)
            listed = "".join(f"\n- {fault}" for fault in faults)
            assert not faults, f"{seen} is not as the OpenAPI document says:{listed}\n{content[:2_000]!r}"
        return response
