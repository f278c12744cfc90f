"""The names of the settings that a change of a resource has changed, for the event of the change."""

from collections.abc import Sequence
from typing import Final

import msgspec

from discue.domain.model import DeliveryOptions

_LEFT_OUT: Final = frozenset(
    {
        *(
            "config_version",
            "updated_at",
            "status_changed_at",
            "disabled_by",
            "schema_id",
            "schema_set_at",
            "secrets",
            "title",
        ),
        *("secret_hash", "last_used_at", "invitation_hash", "invitation_expires_at", "verification"),
    }
)
"""Fields that follow from others, or that no request changes."""

_STATES: Final = frozenset({"state", "status"})

_NAMES: Final = {
    "alias": "name",
    "password_hash": "password",
    "retention_seconds": "retention",
    "schema_language": "schema",
    "timeout_seconds": "timeout",
}
"""The names of fields in the API, where they differ."""


def changed_settings(before: msgspec.Struct, after: msgspec.Struct) -> Sequence[str]:
    """Return the names of the settings in which a resource differs, as in the API.

    A status or a state is named by its new value. Other values are left out: they can be secret.
    """
    found: dict[str, None] = {}
    for name in before.__struct_fields__:
        old, new = getattr(before, name), getattr(after, name)
        if name in _LEFT_OUT or old == new:
            continue
        if isinstance(new, DeliveryOptions):
            names = changed_settings(old, new)
        elif isinstance(new, dict):
            names = [_NAMES.get(key, key) for key in sorted(old | new) if old.get(key) != new.get(key)]
        else:
            names = [new if name in _STATES else _NAMES.get(name, name)]
        found |= dict.fromkeys(names)
    return tuple(found)
