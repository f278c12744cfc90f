"""Parameters of a query, one by one. What is wrong with one is a BadRequest that names it."""

from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs

from discue.domain.errors import BadRequest, Fault
from discue.domain.ids import is_public_id

Parameters = Mapping[str, Sequence[str]]

LONGEST_NUMBER = 9
_FIELDS_LIMIT = 64


def parameters_of(query: str) -> dict[str, list[str]]:
    """The query's parameters, blank ones too. Raises BadRequest when there are too many."""
    try:
        return parse_qs(query, keep_blank_values=True, max_num_fields=_FIELDS_LIMIT)
    except ValueError:
        raise BadRequest(f"The query can have {_FIELDS_LIMIT} parameters at most.") from None


def number_in(parameters: Parameters, name: str, default: int, largest: int, smallest: int = 1) -> int:
    """A whole number."""
    text = single_in(parameters, name)
    if text is None:
        return default
    digits = text.isascii() and text.isdecimal() and len(text) <= LONGEST_NUMBER
    if not digits or not smallest <= int(text) <= largest:
        raise wrong(name, f"must be a whole number from {smallest} to {largest}")
    return int(text)


def id_in(parameters: Parameters, name: str) -> str | None:
    text = single_in(parameters, name)
    if text is not None and not is_public_id(text):
        raise wrong(name, "must be an id")
    return text


def single_in(parameters: Parameters, name: str) -> str | None:
    """The value of a parameter that can be given once only."""
    values = parameters.get(name)
    if values is None:
        return None
    if len(values) > 1:
        raise wrong(name, "must be given once")
    return values[0]


def wrong(name: str, rule: str) -> BadRequest:
    return BadRequest(f"The query parameter {name} {rule}.", faults=(Fault(f"?{name}", rule),))
