"""Fields of forms as values, and forms that change what is stored."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from discue.control import queues
from discue.control.context import ControlContext
from discue.control.listener_fields import ATTEMPTS, DELAYS_LIMIT, FINAL_LIMIT
from discue.dashboard.visit import Visit
from discue.domain.errors import PreconditionFailed, invalid, malformed
from discue.domain.etags import EntityTag, EntityTags, version_of
from discue.domain.ids import is_public_id
from discue.domain.json_text import MOST_LEVELS, decode_value, is_too_deep
from discue.domain.model import Queue
from discue.domain.retry import RetryOptions
from discue.store.pagination import Selection

DATA_FORM_BYTES: Final = 1_048_576
"""The largest form with the data of a message."""

VERSION: Final = "version"
"""The field with the version of what a form was opened for."""

QUEUES_OFFERED: Final = 50
"""Queues that a form proposes: the newest. All others can be typed."""

_ALWAYS_INDENTED: Final = 20_000
"""Characters of JSON that is indented, however short it is without indents."""
_MOST_GROWTH: Final = 4
_LONGEST_KEY: Final = 255
_LONGEST_NUMBER: Final = 12
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Edit:
    """A form that changes a resource. It does not overwrite what others have changed since it was opened."""

    visit: Visit
    stored: msgspec.Struct
    fields: Mapping[str, str]
    """The stored values as texts, by the names of the form's fields."""

    @property
    def version(self) -> str:
        return version_of(self.stored)

    @property
    def values(self) -> Mapping[str, str]:
        return {**self.fields, **self.visit.form}

    @property
    def newer(self) -> Mapping[str, str]:
        """The stored values that differ from what was typed, after a change by others; empty otherwise."""
        if not isinstance(self.visit.error, PreconditionFailed):
            return {}
        return {name: self.fields[name] for name in touched(self.visit.form, self.fields)}

    @property
    def shown(self) -> dict[str, object]:
        """The values that the template of a form reads: texts, version, and what others have changed."""
        return {"form": self.values, "form_version": self.version, "newer": self.newer}

    @property
    def changes(self) -> Mapping[str, str]:
        """The texts that were typed and differ from what is stored. Other fields keep their exact stored values.

        Raises Unprocessable for an empty name, which is the default of new resources only.
        """
        changes = touched(self.visit.form, self.fields)
        if "alias" in changes and not changes["alias"].strip():
            raise invalid("/alias", "must not be empty")
        return changes

    @property
    def control(self) -> ControlContext:
        """The context for the change, which raises PreconditionFailed if others have changed the resource."""
        return matching(self.visit)


def touched(form: Mapping[str, str], shown: Mapping[str, str]) -> dict[str, str]:
    """Return the texts of a form that differ from those that it showed at first. Blanks around them do not count."""
    return {name: form[name] for name, text in shown.items() if name in form and plain(form[name]) != plain(text)}


def matching(visit: Visit) -> ControlContext:
    """Return the context for a change of the version that the form was opened for. A form without one matches none."""
    return dataclasses.replace(visit.control, match=EntityTags((EntityTag(visit.form.get(VERSION, "")),)))


def plain(text: str) -> str:
    """Return a text without the blanks around it, and with the line breaks that it had before a browser sent it."""
    return _with_line_breaks(text).strip()


def _with_line_breaks(text: str) -> str:
    # Browsers send every line break as CR LF, whatever it was before.
    return text.replace("\r\n", "\n")


def value_of(text: str, kind: str, pointer: str = "/data") -> bytes:
    """Return what was typed as a JSON value: itself, or a string of it. Raises BadRequest."""
    text = _with_line_breaks(text)
    if kind == "text":
        return _encode(text)
    content = text.encode()
    if is_too_deep(content):
        # Decoders of other versions of Python read less than that of this one.
        raise malformed(pointer, f"must be nested at most {MOST_LEVELS} levels deep", code="invalid_json")
    try:
        decode_value(content)
    except (msgspec.DecodeError, RecursionError) as error:
        fault = str(error).removeprefix("JSON is malformed: ").replace("Input data was truncated", "its end is missing")
        raise malformed(pointer, f"must be JSON: {fault}", code="wrong_type") from None
    return content.strip()


def is_number(text: str) -> bool:
    """Return whether a text consists of digits only, of 1 to 12."""
    return text.isascii() and text.isdecimal() and len(text) <= _LONGEST_NUMBER


def number_of(text: str, name: str, within: range) -> int | None:
    """Return a number that was typed; None for an empty field. Raises Unprocessable."""
    text = text.strip()
    if not text:
        return None
    if not is_number(text) or int(text) not in within:
        raise invalid(f"/{name}", f"must be a number from {within.start} to {within.stop - 1}")
    return int(text)


def decimal_of(text: str, name: str) -> float | None:
    """Return a number with decimals that was typed; None for an empty field. Raises Unprocessable."""
    try:
        return float(text) if text.strip() else None
    except ValueError:
        raise invalid(f"/{name}", "must be a number") from None


def indented(text: str) -> str:
    """Return stored JSON as a form shows it: with indents, unless these would make it many times as long."""
    # Each element of a list is indented by its depth: 64 kB can become 5 MB.
    shown = msgspec.json.format(text.encode(), indent=2).decode()
    return shown if len(shown) <= max(_ALWAYS_INDENTED, _MOST_GROWTH * len(text)) else text


def key_of(text: str) -> str | None:
    """Return the key of a message; None for an empty field. Raises Unprocessable."""
    text = text.strip()
    if len(text) > _LONGEST_KEY:
        raise invalid("/key", f"must have 1 to {_LONGEST_KEY} characters")
    return text or None


async def queue_of(visit: Visit, name: str) -> str:
    """Return the id of the queue that a field of the form names, by its name or id. Raises Unprocessable."""
    given = visit.form.get(name, "").strip()
    found: list[str] = []
    if is_public_id(given):
        found = list(await queues.names(visit.control, visit.principal, {given}))
    elif given:
        wanted = Selection(alias=given, per_page=2)
        page = await queues.page(visit.control, visit.principal, wanted, shown_listeners=0)
        found = [each.queue.public_id for each in page.items]
    if len(found) != 1:
        raise invalid(f"/{name}", "must be the name or id of a queue")
    return found[0]


async def queue_name(visit: Visit, queue: str) -> str:
    """Return the name of the queue with an id; the id if there is no such queue."""
    return (await queues.names(visit.control, visit.principal, {queue})).get(queue, queue)


async def queues_offered(visit: Visit) -> list[str]:
    return [each.alias for each in await newest_queues(visit, QUEUES_OFFERED)]


async def newest_queues(visit: Visit, among: int) -> list[Queue]:
    """Return the queues among the newest ones, without the queue of system events, which takes no messages."""
    page = await queues.page(visit.control, visit.principal, Selection(per_page=among), shown_listeners=0)
    return [each.queue for each in page.items if not each.queue.is_system]


def faults_below(faults: Mapping[str, str], pointer: str) -> list[tuple[str, str]]:
    """Return the faults of a value and of what is in it, by their places in it."""
    return [
        (place.removeprefix(pointer) or "/", faults[place])
        for place in faults
        if place == pointer or place.startswith(f"{pointer}/")
    ]


def instant_of(text: str, pointer: str) -> int:
    """Return a time in milliseconds since the epoch; UTC, unless it has an offset. Raises BadRequest."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise malformed(pointer, "must be a time such as 2026-07-01T12:00, in UTC", code="wrong_type") from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000)


def typed(instant: int | None) -> str:
    """Return a time as a browser puts it into the field of a form, to the second; "" for None."""
    if instant is None:
        return ""
    moment = datetime.fromtimestamp(instant // 1_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}" if moment.second else f"{moment:%Y-%m-%dT%H:%M}"


RETRY: Final = ("retry/schedule", "retry/attempts", "retry/jitter", "retry/final_statuses")

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
    items = text.replace(",", " ").split(maxsplit=_MOST_ITEMS)[:_MOST_ITEMS]
    if not items:
        return None
    return [] if [each.lower() for each in items] == [_NONE] else items
