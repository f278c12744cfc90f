"""Reads forms and queries (application/x-www-form-urlencoded), with limits."""

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl

from discue.domain.errors import BadRequest, DiscueError

FORM_TYPE: Final = "application/x-www-form-urlencoded"
MAX_FIELDS: Final = 100
FORM_BYTES: Final = 16_384
"""The largest form, except those with the data of a message."""

_NEXT_PATH: Final = re.compile(r"(?:/[0-9A-Za-z_-]+)*(?:\?[0-9A-Za-z_=&.:%-]*)?")
"""The path of a page with its query: nothing that leads to another site."""

_PLAIN_LABELS: Final = (
    "authentication/audience authentication/client_id authentication/client_secret authentication/password "
    "customer data description email format headers key kind missed_runs mode new_password reason role schema status "
    "schema_language state time_zone trace type types"
)
"""Fields whose labels are made from their names."""

LABELS: Final[Mapping[str, str]] = {
    **{f"/{name}": name.rpartition("/")[2].replace("_", " ").capitalize() for name in _PLAIN_LABELS.split()},
    "/again": "Repeat the new password",
    "/alias": "Name",
    "/authentication/certificate": "Certificate, in PEM",
    "/authentication/private_key": "Private key, in PEM",
    "/authentication/scope": "Scopes",
    "/authentication/token_url": "Token URL",
    "/authentication/type": "Authentication",
    "/authentication/username": "User name",
    "/catch_up_limit": "Runs to catch up on, at most",
    "/code": "Code from the app",
    "/cron": "When",
    "/days": "Days until it expires",
    "/delay": "Delay in seconds",
    "/display_name": "Name",
    "/ends_at": "Last run before, in UTC",
    "/expires_in": "Expires after, in seconds",
    "/filter": "Filter, as JSON",
    "/from": "From, in UTC",
    "/hostname": "Host",
    "/hours": "Hours until the current secret expires",
    "/json_schema": "Schema",
    "/lease_seconds": "Lease, in seconds",
    "/liveness_url": "Liveness URL",
    "/max_in_flight": "Requests in flight",
    "/max_message_bytes": "Largest message, in bytes",
    "/name": "Queue name, to confirm",
    "/notify_url": "URL",
    "/on_missed": "After a missed message",
    "/pace": "Messages per second",
    "/preset": "Access",
    "/password": "Your password",
    "/pattern": "Type pattern",
    "/example": "Example of the data, as JSON",
    "/queue": "Event types",
    "/queue_id": "Queue",
    "/rate_limit/burst": "Burst, in requests",
    "/rate_limit/per_second": "Requests per second",
    "/retention": "Retention, in seconds",
    "/retry/attempts": "Maximum attempts",
    "/retry/final_statuses": "Statuses that are not retried",
    "/retry/jitter": "Random extra delay, as a fraction",
    "/retry/schedule": "Delays between attempts, in seconds",
    "/scopes": "Access",
    "/starts_at": "First run from, in UTC",
    "/timeout": "Timeout, in seconds",
    "/times": "Applies to",
    "/transform": "Expression",
    "/trial": "Try first",
    "/until": "Until, in UTC",
}
"""The labels of fields in forms, by the JSON pointers that errors name them with."""


class FieldFaults(Mapping[str, str]):
    """The faults of fields by their JSON pointers. Reading a fault marks it as shown on the page."""

    def __init__(self, error: DiscueError | None, wrong: Sequence[DiscueError] = ()) -> None:
        """`error` is the reason why a form was not accepted; `wrong` are errors in the query."""
        self._error = error
        self._wrong = wrong
        errors = [*wrong] if error is None else [*wrong, error]
        self._details = {fault.pointer: fault.detail for each in errors for fault in each.faults}
        self._shown: set[str] = set()

    def __getitem__(self, pointer: str) -> str:
        detail = self._details[pointer]
        self._shown.add(pointer)
        return detail

    def __contains__(self, pointer: object) -> bool:
        return pointer in self._details

    def __iter__(self) -> Iterator[str]:
        return iter(self._details)

    def __len__(self) -> int:
        return len(self._details)

    def problems(self) -> list[str]:
        """Return what is wrong and not shown yet at a field, with the labels of the fields."""
        missing = [pointer for pointer in self._details if pointer not in self._shown]
        if self._error is None:
            return [each.detail for each in self._wrong if any(fault.pointer in missing for fault in each.faults)]
        if self._shown and not missing:
            return ["Nothing was saved. See the marked field."]
        if missing and all(pointer in LABELS for pointer in missing):
            return [f"{LABELS[pointer]}: {self._details[pointer]}." for pointer in missing]
        return [self._error.detail]


async def fields_of(content: bytes) -> Mapping[str, str]:
    """Return the fields of a form as `parse_form` does. A large form is parsed on a thread."""
    return await asyncio.to_thread(parse_form, content) if len(content) > FORM_BYTES else parse_form(content)


def parse_form(content: bytes) -> Mapping[str, str]:
    """Return the fields of a form. The last value of a name counts. Raises BadRequest."""
    try:
        return _parse(content.decode("ascii"))
    except (UnicodeDecodeError, ValueError):
        raise BadRequest("The form cannot be read.", code="invalid_parameter") from None


def parse_query(query: str) -> Mapping[str, str]:
    """Return the parameters of a query. The last value of a name counts. Raises BadRequest."""
    try:
        return _parse(query)
    except ValueError:
        raise BadRequest("The query of the address cannot be read.", code="invalid_parameter") from None


def safe_path(given: str) -> str:
    """Return a path below `/dashboard` that a link or a form asks for; "", the start page, for a malformed one."""
    return given if _NEXT_PATH.fullmatch(given) is not None else ""


def next_path(fields: Mapping[str, str]) -> str:
    return safe_path(fields.get("next", ""))


def _parse(text: str) -> Mapping[str, str]:
    pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    return {name: value for name, value in pairs if "\0" not in value}
