"""The state of a database, as read before it is opened."""

import msgspec


class DatabaseInspection(msgspec.Struct, frozen=True):
    """What stands there. `version` is 0 without a schema; `pending` are the names of migrations to come.

    `encryption` is what the database says of that, as `store.encryption.parsed` takes it.
    """

    exists: bool
    version: int
    pending: tuple[str, ...]
    encryption: str = ""
