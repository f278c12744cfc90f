"""The names of changed settings in events."""

import msgspec
import pytest

from discue.control.changes import changed_settings
from discue.domain.model import Authentication, DeliveryOptions, Listener, Organization, Queue, User

_LISTENER = Listener(1, 2, "l", 3, "q", "billing", "enabled", "https://example.com/a", "", 1, 5, 5)
_QUEUE = Queue(1, 2, "q", "orders", None, None, 1, 5, 5, schema="{}", schema_id="a")
_USER = User(1, 2, "u", "ada@example.com", "Ada", "admin", 5, 5)
_ORGANIZATION = Organization(1, "o", "com.example", "active", False, {"queues": 5, "retention_seconds": 60}, 5, 5)


@pytest.mark.parametrize(
    ("stored", "changes", "names"),
    [
        (_LISTENER, {"config_version": 2, "updated_at": 6}, ()),
        (_LISTENER, {"status": "disabled", "disabled_by": "request", "status_changed_at": 6}, ("disabled",)),
        (_LISTENER, {"alias": "paid", "notify_url": "https://example.com/b?token=secret"}, ("name", "notify_url")),
        (
            _LISTENER,
            {
                "options": DeliveryOptions(
                    headers=(("x-token", "secret"),), timeout_seconds=5, authentication=Authentication("basic")
                ),
                "customer": "acme",
            },
            ("headers", "timeout", "authentication", "customer"),
        ),
        (_QUEUE, {"schema": "true", "schema_id": "b", "schema_language": "json_schema"}, ("schema",)),
        (_QUEUE, {"retention_seconds": 1}, ("retention",)),
        (_USER, {"password_hash": "secret", "role": "owner"}, ("role", "password")),
        (_ORGANIZATION, {"state": "suspended", "settings": {"queues": 6}}, ("suspended", "queues", "retention")),
    ],
)
def test_changed_settings_are_named_without_their_values(
    stored: msgspec.Struct, changes: dict[str, object], names: tuple[str, ...]
) -> None:
    assert changed_settings(stored, msgspec.structs.replace(stored, **changes)) == names
