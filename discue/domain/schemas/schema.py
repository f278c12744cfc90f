"""What the messages of a queue must look like: in the rule language, or as JSON Schema (2020-12)."""

from hashlib import sha256
from itertools import islice
from typing import Any, Final

import msgspec

from discue.domain.errors import Fault, Unprocessable
from discue.domain.model import SchemaLanguage
from discue.domain.schemas import text as schema_text
from discue.domain.schemas.canonical_json import canonical_json
from discue.domain.schemas.json_schema import JsonSchema
from discue.domain.schemas.rules import faults_of_rules, json_schema_of_rules
from discue.domain.schemas.violations import NotSupportedError, SchemaValidator

FAULTS: Final = 100
"""At most so many places are named at once."""

FIELDS: Final[dict[SchemaLanguage, str]] = {"rules": "schema", "json_schema": "json_schema"}
"""The member of a queue that holds a schema in each of the languages."""

_WORK: Final = 67_108_864
_UNBOUNDED: Final = 2**53


class Schema(msgspec.Struct, frozen=True):
    """A schema that can be used. `text` is as it was sent, `id` the SHA-256 of its canonical form."""

    text: str
    language: SchemaLanguage
    id: str


def read_schema(text: bytes, language: SchemaLanguage) -> Schema:
    """The schema that a request has for a queue. It is known to be JSON.

    Raises Unprocessable, with a pointer into the request wherever it is wrong (100 at most).
    """
    value = schema_text.decoded(text, f"/{FIELDS[language]}")
    _checker(value, language)
    return Schema(text.decode(), language, sha256(canonical_json(value).encode()).hexdigest())


def compile_schema(text: str, language: SchemaLanguage) -> SchemaValidator:
    """What checks messages against a schema. Making it costs a hundred checks: it is to be kept."""
    return _checker(schema_text.decoded(text.encode(), f"/{FIELDS[language]}"), language)


def _checker(value: Any, language: SchemaLanguage) -> SchemaValidator:
    try:
        return _of_rules(value) if language == "rules" else _of_json_schema(value)
    except NotSupportedError:
        raise _refused((Fault(f"/{FIELDS[language]}", "is not a schema that is supported"),)) from None


def _of_rules(rules: Any) -> SchemaValidator:
    """Each value in a message is looked at by one rule: no bound on its size is needed."""
    faults = tuple(islice(faults_of_rules(rules, "/schema"), FAULTS))
    if faults:
        raise _refused(faults)
    return SchemaValidator(json_schema_of_rules(rules), _UNBOUNDED)


def _of_json_schema(document: Any) -> SchemaValidator:
    schema = JsonSchema(document, "/json_schema")
    faults = tuple(islice(schema.faults(), FAULTS))
    if faults:
        raise _refused(faults)
    return SchemaValidator(schema.form, _WORK // schema.weight.repeated if schema.weight.repeated else _UNBOUNDED)


def _refused(faults: tuple[Fault, ...]) -> Unprocessable:
    return Unprocessable(f"The schema cannot be used: {faults[0].pointer} {faults[0].detail}.", faults=faults)
