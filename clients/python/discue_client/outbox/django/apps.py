"""The app of Django."""

from __future__ import annotations

from django.apps import AppConfig


class OutboxConfig(AppConfig):  # type: ignore[misc] # Django has no types
    """Has no models: the table is only written to, by `publish`."""

    name = "discue_client.outbox.django"
    label = "discue_outbox"
