"""Schemas of queues, in the rule language or as JSON Schema (2020-12)."""

from hashlib import sha256
from itertools import islice
from typing import Any, Final

import msgspec

from discue.domain.errors import Fault, Unprocessable
from discue.domain.model import SchemaLanguage
from discue.domain.schemas.json_schema import JsonSchema
from discue.domain.schemas.rules import check_rules, rules_to_json_schema
from discue.domain.schemas.strict_json import canonical_json, decode_strictly
from discue.domain.schemas.validator import SchemaValidator, UnsupportedSchema

MAX_FAULTS: Final = 100
"""Maximum faults in one error."""

FIELDS: Final[dict[SchemaLanguage, str]] = {"rules": "schema", "json_schema": "json_schema"}
"""Field of a queue that contains a schema of each language."""

_MAX_CHECKED_BYTES: Final = 67_108_864
"""Limit of the message size times the number of subschemas that may check the same value again."""
_UNLIMITED: Final = 2**53


class Schema(msgspec.Struct, frozen=True):
    """A valid schema."""

    text: str
    """The text that the client sent."""
    language: SchemaLanguage
    id: str
    """SHA-256 of its canonical form."""


def parse_schema(text: bytes, language: SchemaLanguage) -> Schema:
    """Parse the schema of a queue. `text` must be valid JSON.

    Raises Unprocessable with a fault for each invalid place (at most 100).
    """
    value = decode_strictly(text, f"/{FIELDS[language]}")
    _compile(value, language)
    return Schema(text.decode(), language, sha256(canonical_json(value).encode()).hexdigest())


def compile_schema(text: str, language: SchemaLanguage) -> SchemaValidator:
    """Return the validator of a valid schema. Compiling costs about as much as 100 validations, so cache the result."""
    return _compile(decode_strictly(text.encode(), f"/{FIELDS[language]}"), language)


def _compile(value: Any, language: SchemaLanguage) -> SchemaValidator:
    try:
        return _compile_rules(value) if language == "rules" else _compile_json_schema(value)
    except UnsupportedSchema:
        raise _invalid_schema((Fault(f"/{FIELDS[language]}", "is not a supported schema"),)) from None


def _compile_rules(rules: Any) -> SchemaValidator:
    """Compile rules. Each value is checked by one rule, so the message size needs no limit."""
    faults = tuple(islice(check_rules(rules, "/schema"), MAX_FAULTS))
    if faults:
        raise _invalid_schema(faults)
    return SchemaValidator(rules_to_json_schema(rules), _UNLIMITED)


def _compile_json_schema(document: Any) -> SchemaValidator:
    schema = JsonSchema(document, "/json_schema")
    faults = tuple(islice(schema.faults(), MAX_FAULTS))
    if faults:
        raise _invalid_schema(faults)
    return SchemaValidator(
        schema.expanded, _MAX_CHECKED_BYTES // schema.cost.repeated if schema.cost.repeated else _UNLIMITED
    )


def _invalid_schema(faults: tuple[Fault, ...]) -> Unprocessable:
    return Unprocessable(f"Invalid schema: {faults[0].pointer} {faults[0].detail}.", faults=faults)
