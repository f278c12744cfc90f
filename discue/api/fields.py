"""Fields that several resources share: `alias`, its synonym `name`, and `status`."""

from typing import Literal, NamedTuple, Protocol

from msgspec import UNSET

from discue.api.bodies import Text
from discue.domain.errors import Fault, Unprocessable


class _Nameable(Protocol):
    @property
    def alias(self) -> Text: ...
    @property
    def name(self) -> Text: ...


class Given(NamedTuple):
    """What a request gives, None for neither."""

    alias: str | None
    name: str | None


def names_given(body: _Nameable) -> Given:
    """In a `POST`, where null is as good as nothing."""
    return Given(*(text if isinstance(text, str) else None for text in (body.alias, body.name)))


def names_changed(body: _Nameable, public_id: str) -> Given:
    """In a `PUT`, where null clears: the resource is called by its id again."""
    given = names_given(body)
    if given == (None, None) and None in (body.alias, body.name):
        return Given(public_id, None)
    return given


def status_of(sent: Text) -> Literal["enabled", "disabled"] | None:
    """The status that a request asks for, None for what it leaves alone; null clears: enabled.

    Raises Unprocessable for another word.
    """
    if sent is UNSET:
        return None
    if sent is None or sent == "enabled":
        return "enabled"
    if sent == "disabled":
        return "disabled"
    rule = "must be enabled or disabled"
    raise Unprocessable(f"The status {rule}.", faults=(Fault("/status", rule),))
