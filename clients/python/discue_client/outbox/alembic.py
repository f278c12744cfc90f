"""Operations of Alembic that create and drop the outbox.

Import this module in the migration, and call `op.create_discue_outbox()` and `op.drop_discue_outbox()`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic.operations import MigrateOperation, Operations

from discue_client.outbox.table import create_statements, drop_statements

if TYPE_CHECKING:
    from collections.abc import Iterable


@Operations.register_operation("create_discue_outbox")
class CreateDiscueOutbox(MigrateOperation):
    """Creates the table, and on PostgreSQL the trigger that wakes relays."""

    @classmethod
    def create_discue_outbox(cls, operations: Operations) -> None:
        """Create the table of the outbox."""
        operations.invoke(cls())

    def reverse(self) -> MigrateOperation:
        return DropDiscueOutbox()


@Operations.register_operation("drop_discue_outbox")
class DropDiscueOutbox(MigrateOperation):
    """Drops the table, with the messages in it."""

    @classmethod
    def drop_discue_outbox(cls, operations: Operations) -> None:
        """Drop the table of the outbox."""
        operations.invoke(cls())

    def reverse(self) -> MigrateOperation:
        return CreateDiscueOutbox()


@Operations.implementation_for(CreateDiscueOutbox)
def _create(operations: Operations, _operation: CreateDiscueOutbox) -> None:
    _execute(operations, create_statements(operations.get_context().dialect.name))


@Operations.implementation_for(DropDiscueOutbox)
def _drop(operations: Operations, _operation: DropDiscueOutbox) -> None:
    _execute(operations, drop_statements(operations.get_context().dialect.name))


def _execute(operations: Operations, statements: Iterable[str]) -> None:
    for statement in statements:
        operations.execute(statement)
