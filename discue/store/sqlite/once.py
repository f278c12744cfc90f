"""Idempotency keys of appends on SQLite: each costs the page that it stands on, and next to nothing beside that."""

from collections.abc import Sequence

import apsw

from discue.store.engine import Append, Appended, IdempotencyRecord, TopicAppend
from discue.store.idempotency import Together, packed
from discue.store.tables import chunks, statement_of_rows

_KEEP = statement_of_rows(
    lambda values: f"INSERT OR IGNORE INTO idempotency_key (key, answers) VALUES {values}",
    columns=2,
)
_FOUND = statement_of_rows(
    lambda values: f"SELECT key, answers FROM idempotency_key WHERE key IN (VALUES {values})",
    columns=1,
)
_TAKE_BACK = statement_of_rows(
    lambda values: f"DELETE FROM idempotency_key WHERE key IN (VALUES {values})",
    columns=1,
)
_ANSWER = statement_of_rows(
    lambda values: (
        f"INSERT OR FAIL INTO idempotency_answers (organization, id, stored_at, size, content) VALUES {values}"
    ),
    columns=5,
)


def repeated_in(connection: apsw.Connection, items: Sequence[Append | TopicAppend]) -> set[int]:
    """Which of them have an idempotency key that is kept already, or that an earlier one has."""
    keyed = [(number, item.once.key[0]) for number, item in enumerate(items) if item.once is not None]
    known: set[int] = set()
    for chunk in chunks(sorted({key for _, key in keyed})):
        known.update(key for key, _ in connection.execute(_FOUND(len(chunk)), list(chunk)))
    repeated = set()
    for number, key in keyed:
        if key in known:
            repeated.add(number)
        known.add(key)
    return repeated


class Keys:
    """Of the appends of one transaction. They are kept first of all, and whoever comes second is known by that.

    `repeated` has the places of those in the batch.
    """

    def __init__(self, connection: apsw.Connection, appends: Sequence[Append]) -> None:
        self._connection = connection
        self._together: dict[int, list[tuple[int, IdempotencyRecord]]] = {}
        """By the id of the row that has their answers: keys of one queue, each with its place."""
        self.repeated: set[int] = set()
        self._keep(appends)

    def _keep(self, appends: Sequence[Append]) -> None:
        rows: dict[int, int] = {}
        groups: dict[tuple[int, int, int], Together] = {}
        for number, item in enumerate(appends):
            once = item.once
            if once is None:
                continue
            half = once.key[0]
            if half in rows:
                self.repeated.add(number)
                continue
            group = (item.organization, item.queue, item.config_version)
            together = groups.get(group)
            if together is None:
                together = groups[group] = Together()
            rows[half] = id_of_row = together.add(once)
            self._together.setdefault(id_of_row, []).append((number, once))
        if rows and (found := self._insert(rows)):
            for kept in self._together.values():
                self.repeated.update(number for number, once in kept if once.key[0] in found)

    def _insert(self, rows: dict[int, int]) -> set[int]:
        """Which of the keys are somebody else's."""
        found: set[int] = set()
        for chunk in chunks(sorted(rows.items())):
            self._connection.execute(_KEEP(len(chunk)), [value for row in chunk for value in row])
            if self._connection.changes() < len(chunk):
                known = self._connection.execute(_FOUND(len(chunk)), [key for key, _ in chunk])
                found.update(key for key, answers in known if answers != rows[key])
        return found

    def answer(self, appends: Sequence[Append], outcomes: Sequence[Appended | Exception]) -> None:
        """Store what was appended with the keys, and take back the keys of what was refused."""
        rows: list[tuple[int, int, int, int, bytes]] = []
        refused: list[int] = []
        for id_of_row, together in self._together.items():
            new = [each for each in together if each[0] not in self.repeated] if self.repeated else together
            if not new:
                continue
            # All are of one queue and one version of its configuration: appended at one time, or refused.
            number, onces = new[0][0], [once for _, once in new]
            outcome = outcomes[number]
            if isinstance(outcome, Appended):
                content = packed(onces)
                place = (appends[number].organization, id_of_row, outcome.entries[0].stored_at)
                rows.append((*place, len(content), content))
            else:
                refused += [once.key[0] for once in onces]
        for chunk in chunks(rows):
            self._connection.execute(_ANSWER(len(chunk)), [value for row in chunk for value in row])
        for halves in chunks(refused):
            self._connection.execute(_TAKE_BACK(len(halves)), list(halves))
