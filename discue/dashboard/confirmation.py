"""The page on which a user confirms who they are, and the form that it keeps meanwhile.

A form whose sign-in is too old stays in the browser: its fields become hidden fields of this page. Once the user has
confirmed, a redirect makes the browser send them to the page of the form, as if they came from there. The service
stores nothing, so there is nothing that others could read, or that must expire.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

OWN: Final = "confirm-"
"""The names of the fields of this page begin with it: all others belong to the form that it keeps."""
PASSWORD: Final = f"{OWN}password"
CODE: Final = f"{OWN}code"
FOLLOWING: Final = f"{OWN}next"
SENDER: Final = f"{OWN}user"

_NOTHING: Final[Mapping[str, str]] = {}


class Confirmation(NamedTuple):
    """The page that follows once a user has confirmed who they are, and the form that it gets."""

    following: str
    """The path of the page to show, or to send the form to."""
    sender: str = ""
    """The id of the user who has sent the form; empty: none is kept."""
    fields: Mapping[str, str] = _NOTHING
    """The form that is kept."""


def without_own(fields: Mapping[str, str]) -> Mapping[str, str]:
    """Return the fields that do not belong to this page."""
    return {name: value for name, value in fields.items() if not name.startswith(OWN)}
