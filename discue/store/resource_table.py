"""Tables of resources: how the rows of one kind are read, listed, inserted, updated and deleted."""

from collections.abc import Callable, Collection, Sequence
from operator import attrgetter, itemgetter
from typing import Generic, TypeVar

from discue.store.engine import Row, Transaction, Value
from discue.store.pagination import Listing, Selection, Table, listed
from discue.store.tables import placeholders, read_one, row_reader

T = TypeVar("T")


class ResourceTable(Generic[T]):
    """A table of resources that belong to organizations. Each row has a row id, a public id and a unique alias."""

    def __init__(
        self,
        name: str,
        resource: type[T],
        columns: str,
        *,
        changed: str = "",
        written: str = "",
        alias_column: str = "alias",
        read: Callable[[Row], T] | None = None,
        values: Callable[[T], Sequence[Value]] | None = None,
    ) -> None:
        """`columns` begin with `id`. `changed` are those that `update` writes, and `written` more that nothing reads.

        Without `read` and `values`, which convert between rows and resources, columns are fields of the same name.
        """
        names = f"{columns}, {written}".rstrip(", ").split(", ")
        kept = [*changed.split(", "), "organization", "id"] if changed else []
        self.name, self._alias_column = name, alias_column
        self.select = f"SELECT {columns} FROM {name} WHERE organization = $1"
        """A query of an organization's rows, to which conditions can be added."""
        self.read = read or row_reader(resource, columns)
        """Returns the resource of a row of `select`."""
        self._values: Callable[[T], Sequence[Value]] = values or attrgetter(*names)
        self._kept: Callable[[Sequence[Value]], Row] = itemgetter(*(names.index(each) for each in kept or ["id"]))
        assigned = ", ".join(f"{column} = ${number}" for number, column in enumerate(kept[:-2], 1))
        self._insert = f"INSERT INTO {name} ({', '.join(names)}) VALUES ({placeholders(1, len(names))})"
        self._update = f"UPDATE {name} SET {assigned} WHERE organization = ${len(kept) - 1} AND id = ${len(kept)}"

    async def get(self, tx: Transaction, organization: int, public_id: str) -> T | None:
        return await self.find(tx, "public_id = $2", organization, public_id)

    async def find(self, tx: Transaction, condition: str, organization: int, *values: Value) -> T | None:
        """Return the first resource of an organization that meets a condition on the values, which begin with $2."""
        return await read_one(tx, self.read, f"{self.select} AND {condition}", organization, *values)

    async def page(
        self, tx: Transaction, organization: int, selection: Selection, only: Collection[str] | None = None
    ) -> Listing[T]:
        """Read a page of the organization's resources, or of those in `only` (public ids)."""
        table = Table(self.name, self.select, (organization,), alias_column=self._alias_column)
        return await listed(tx, table, selection, self.read, only=only)

    async def insert(self, tx: Transaction, made: T) -> None:
        """Insert a resource. Raises UniqueViolation if its alias is taken."""
        await tx.execute(self._insert, *self._values(made))

    async def update(self, tx: Transaction, changed: T) -> bool:
        """Update a resource. Returns False if it was deleted; raises UniqueViolation if its alias is taken."""
        return await tx.execute(self._update, *self._kept(self._values(changed))) == 1

    async def delete(self, tx: Transaction, organization: int, row_id: int) -> bool:
        """Delete a resource by its row id. Returns False if it was deleted before."""
        sql = f"DELETE FROM {self.name} WHERE organization = $1 AND id = $2"
        return await tx.execute(sql, organization, row_id) == 1
