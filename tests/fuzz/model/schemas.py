"""Schemas of queues, and what fits them: by rules of the model's own, for the few schemas that it has."""

import json
from hashlib import sha256
from typing import Any

from tests.fuzz.model.collection import Collection, Item

FIELDS = {"rules": "schema", "json_schema": "json_schema"}

SCHEMAS: tuple[dict[str, Any], ...] = (
    {},
    {"schema": {"number": {"type": "number", "max": 1}}},
    {"schema": {"number": {"type": "number"}, "text": {"type": "string", "max": 2, "required": False}}},
    {"schema": {"inner": {"type": "object", "strict": False, "props": {"text": {"type": "string", "enum": ["ab"]}}}}},
    {"schema": {"list": {"type": "array", "items": {"type": "number", "min": 1}}}},
    {"json_schema": {"type": "object", "required": ["number"], "properties": {"number": {"type": "number"}}}},
    {"json_schema": {"properties": {"text": {"type": "string"}}, "additionalProperties": False}},
    {"json_schema": True},
    {"schema": {"number": {"type": "number", "min": 2, "max": 1}}},
    {"json_schema": {"type": "nothing"}},
    {"schema": {"text": {"type": "string"}}, "json_schema": True},
)
_REFUSED = 8
"""The first of those that can be no schema."""


def faults(rule: dict[str, Any], value: Any, place: str) -> set[str]:
    """Return the pointers at which a value violates a rule of the schema language."""
    kind = rule["type"]
    if value is None:
        return {place} if rule.get("required", True) else set()
    if kind == "object":
        return _faults_of_members(rule, value, place) if isinstance(value, dict) else {place}
    if kind == "array" and isinstance(value, list):
        return {fault for index, each in enumerate(value) for fault in faults(rule["items"], each, f"{place}/{index}")}
    if type(value) is not (str if kind == "string" else int) or value not in rule.get("enum", [value]):
        return {place}
    size = len(value) if isinstance(value, str) else value
    return set() if rule.get("min", size) <= size <= rule.get("max", size) else {place}


def _faults_of_members(rule: dict[str, Any], value: dict[str, Any], place: str) -> set[str]:
    props = rule["props"]
    found = {fault for name, each in props.items() for fault in faults(each, value.get(name), f"{place}/{name}")}
    return found | ({f"{place}/{name}" for name in value.keys() - props} if rule.get("strict", True) else set())


def faults_of_document(document: Any, value: Any) -> bool:
    """Whether a value does not fit a JSON Schema, of the words that `SCHEMAS` use."""
    if document is True:
        return False
    if not isinstance(value, dict):
        return "type" in document
    kinds = {"number": int, "string": str}
    props = document["properties"]
    return (
        not value.keys() >= set(document.get("required", []))
        or any(type(value[name]) is not kinds[props[name]["type"]] for name in value.keys() & props)
        or (document.get("additionalProperties") is False and not value.keys() <= props.keys())
    )


class Queues(Collection):
    def content(self, variant: int) -> dict[str, Any]:
        return SCHEMAS[variant % len(SCHEMAS)] if variant % 2 else {}

    def unfit(self, body: dict[str, Any]) -> set[str]:
        sent = {name: body[name] for name in FIELDS.values() if name in body}
        return {f"/{name}" for name in sent} if sent in SCHEMAS[_REFUSED:] else set()

    def made(self, body: dict[str, Any], answer: Any) -> Item:
        item = super().made(body, answer)
        self.set(item, body)
        return item

    def set(self, item: Item, body: dict[str, Any]) -> None:
        """Apply a request to a queue's schema: null clears the field of the same name."""
        for name in FIELDS.values():
            if body.get(name, False) is not False and body[name] is not None:
                item.details = {name: body[name], "schema_id": id_of(body[name])}
                return
        if any(name in body for name in item.details):
            item.details = {}

    def require_shown(self, item: Item, shown: Any) -> None:
        super().require_shown(item, shown)
        assert {*FIELDS.values(), "schema_id"} & shown.keys() == item.details.keys()


def id_of(schema: Any) -> str:
    """Return the schema's id. Only for schemas that canonical JSON writes exactly as `json.dumps` does."""
    return sha256(json.dumps(schema, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def refused(queue: Item, data: Any) -> set[str]:
    """Return where data violates the queue's schema; for JSON Schema, only whether it does."""
    if not queue.details:
        return set()
    value = data
    if isinstance(data, str):
        try:
            value = json.loads(data)
        except ValueError:
            return {"/data"}
    if "schema" in queue.details:
        return faults({"type": "object", "props": queue.details["schema"]}, value, "/data")
    return {"/data"} if faults_of_document(queue.details["json_schema"], value) else set()
