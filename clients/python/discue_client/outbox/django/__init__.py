"""The outbox in Django: an app with a migration, and `publish` in the transaction of the request.

    INSTALLED_APPS = [..., "discue_client.outbox.django"]

`python manage.py migrate` creates the table.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from django.db import connections, transaction

from discue_client.outbox.publish import insert_sql
from discue_client.outbox.rows import new_row
from discue_client.outbox.waking import wake

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from discue_client.messages import MessageFields


def publish(queue: str, data: object, *, using: str = "default", **fields: Unpack[MessageFields]) -> None:
    """Store a message in the current transaction of the database `using`; it is published once that has committed.

    Outside `atomic`, the message is committed at once. The other arguments are those of `client.publish`. Raises
    TypeError or ValueError for a message that cannot be sent. In async code, call it with `sync_to_async`.
    """
    row = new_row(queue, data, **fields)
    with connections[using].cursor() as cursor:
        cursor.execute(insert_sql("%s" for _ in row), list(row))
    transaction.on_commit(partial(wake), using=using)
