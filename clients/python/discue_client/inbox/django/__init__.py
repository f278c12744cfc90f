"""The inbox in Django: an app with a migration, and `once` in the transaction of the request.

    INSTALLED_APPS = [..., "discue_client.inbox.django"]

`python manage.py migrate` creates the table.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from django.db import connections, transaction

from discue_client.inbox.once import KEPT, forgetting, id_of, marking, now

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from datetime import timedelta

    from discue_client.webhook import Event


@contextmanager
def once(message: Event[Any] | str, *, consumer: str = "", using: str = "default") -> Iterator[bool]:
    """Mark a message as `discue_client.inbox.once` does, in an `atomic` block of the database `using`.

    In async code, run the function that contains the block with `sync_to_async`.
    """
    mark = (id_of(message), consumer, now())
    # `atomic` is also a decorator, and Django has no types that tell which of the two it is.
    block = cast("AbstractContextManager[None]", transaction.atomic(using=using))
    with block:
        with connections[using].cursor() as cursor:
            cursor.execute(*marking("django", mark))
            first = cursor.rowcount == 1
        yield first


def forget(*, older_than: timedelta = KEPT, limit: int = 10_000, using: str = "default") -> int:
    """Delete up to `limit` old marks, and return their number."""
    with connections[using].cursor() as cursor:
        cursor.execute(*forgetting("django", older_than, limit))
        count: int = cursor.rowcount
        return count
