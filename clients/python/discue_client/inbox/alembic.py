"""Operations of Alembic that create and drop the inbox.

Import this module in the migration, and call `op.create_discue_inbox()` and `op.drop_discue_inbox()`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic.operations import MigrateOperation, Operations

from discue_client.inbox.table import create_statements, drop_statements

if TYPE_CHECKING:
    from collections.abc import Iterable


@Operations.register_operation("create_discue_inbox")
class CreateDiscueInbox(MigrateOperation):
    """Creates the table."""

    @classmethod
    def create_discue_inbox(cls, operations: Operations) -> None:
        """Create the table of the inbox."""
        operations.invoke(cls())

    def reverse(self) -> MigrateOperation:
        return DropDiscueInbox()


@Operations.register_operation("drop_discue_inbox")
class DropDiscueInbox(MigrateOperation):
    """Drops the table, with its marks."""

    @classmethod
    def drop_discue_inbox(cls, operations: Operations) -> None:
        """Drop the table of the inbox."""
        operations.invoke(cls())

    def reverse(self) -> MigrateOperation:
        return CreateDiscueInbox()


@Operations.implementation_for(CreateDiscueInbox)
def _create(operations: Operations, _operation: CreateDiscueInbox) -> None:
    _execute(operations, create_statements(operations.get_context().dialect.name))


@Operations.implementation_for(DropDiscueInbox)
def _drop(operations: Operations, _operation: DropDiscueInbox) -> None:
    _execute(operations, drop_statements(operations.get_context().dialect.name))


def _execute(operations: Operations, statements: Iterable[str]) -> None:
    for statement in statements:
        operations.execute(statement)
