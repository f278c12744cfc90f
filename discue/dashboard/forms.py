"""Reads forms and queries (application/x-www-form-urlencoded), with limits."""

import asyncio
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

from discue.domain.errors import BadRequest

FORM_TYPE: Final = "application/x-www-form-urlencoded"
MAX_FIELDS: Final = 100
FORM_BYTES: Final = 16_384
"""The largest form, except those with the data of a message."""


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


def _parse(text: str) -> Mapping[str, str]:
    pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    return {name: value for name, value in pairs if "\0" not in value}
