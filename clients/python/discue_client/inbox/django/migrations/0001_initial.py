"""Creates the inbox."""

from __future__ import annotations

from typing import Any

from django.db import migrations

from discue_client.inbox.table import create_statements, drop_statements


def _create(_apps: Any, editor: Any) -> None:
    for statement in create_statements(editor.connection.vendor):
        editor.execute(statement)


def _drop(_apps: Any, editor: Any) -> None:
    for statement in drop_statements(editor.connection.vendor):
        editor.execute(statement)


class Migration(migrations.Migration):  # type: ignore[misc] # Django has no types
    initial = True
    dependencies: list[tuple[str, str]] = []  # noqa: RUF012 - Django reads it from the class
    operations = [migrations.RunPython(_create, _drop)]  # noqa: RUF012 - as above
