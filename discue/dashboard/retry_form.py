"""The retry policy in the forms of queues and listeners."""

from collections.abc import Mapping
from typing import Final

from discue.control.listener_options import ATTEMPTS, DELAYS_LIMIT, FINAL_LIMIT
from discue.dashboard.fields import decimal_of, is_number, number_of
from discue.domain.errors import invalid
from discue.domain.retry import RetryOptions

RETRY: Final = ("retry/schedule", "retry/attempts", "retry/jitter", "retry/final_statuses")
"""The fields of the policy."""

_NONE: Final = "none"
"""The text of an empty list, which is not the default."""
_MOST_ITEMS: Final = max(DELAYS_LIMIT, FINAL_LIMIT) + 1
"""Items of a list that are read: one more than a policy can have, so that a longer list is refused like this one."""


def retry_texts(retry: RetryOptions | None) -> dict[str, str]:
    """Return a policy as texts: "" for what is not set."""
    retry = retry or RetryOptions()
    return {
        "retry/schedule": _listed(retry.schedule),
        "retry/attempts": "" if retry.attempts is None else str(retry.attempts),
        "retry/jitter": "" if retry.jitter is None else str(retry.jitter),
        "retry/final_statuses": _listed(retry.final_statuses),
    }


def retry_of(texts: Mapping[str, str]) -> RetryOptions:
    """Return the policy that texts stand for. Raises Unprocessable for what is not a number."""
    schedule, statuses = _items(texts["retry/schedule"]), _items(texts["retry/final_statuses"])
    if schedule is not None and not all(map(is_number, schedule)):
        raise invalid("/retry/schedule", "must be numbers of seconds, separated by commas")
    return RetryOptions(
        None if schedule is None else tuple(map(int, schedule)),
        decimal_of(texts["retry/jitter"], "retry/jitter"),
        number_of(texts["retry/attempts"], "retry/attempts", ATTEMPTS),
        None if statuses is None else tuple(int(each) if is_number(each) else each.lower() for each in statuses),
    )


def _listed(items: tuple[int | str, ...] | None) -> str:
    if items is None:
        return ""
    return ", ".join(map(str, items)) or _NONE


def _items(text: str) -> list[str] | None:
    """Return the items of a list; None for an empty field."""
    items = text.replace(",", " ").split(maxsplit=_MOST_ITEMS)[:_MOST_ITEMS]
    if not items:
        return None
    return [] if [each.lower() for each in items] == [_NONE] else items
