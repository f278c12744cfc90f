"""The app of Django."""

from __future__ import annotations

from django.apps import AppConfig


class InboxConfig(AppConfig):  # type: ignore[misc] # Django has no types
    """Has no models: only `once` uses the table."""

    name = "discue_client.inbox.django"
    label = "discue_inbox"
