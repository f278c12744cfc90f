"""Counts the statements that pages make, and not those that a service makes meanwhile."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from itertools import product
from typing import Any

import pytest

from discue.dashboard.app import Dashboard
from discue.dashboard.portal.app import Portal
from discue.store.postgres.connection import PostgresTransaction
from discue.store.sqlite.engine import SqliteTransaction
from discue.store.store import Store

_is_of_page: ContextVar[bool] = ContextVar("is_of_page", default=False)
"""Whether a task makes a page."""


@contextmanager
def counted(store: Store) -> Iterator[list[str]]:
    """The statements of pages while the block runs, without those of lanes and jobs, which work meanwhile."""
    made: list[str] = []
    of_page: set[int] = set()

    def responding(respond: Callable[..., Any]) -> Callable[..., Any]:
        async def respond_to_page(self: Any, request: Any) -> Any:
            _is_of_page.set(True)
            return await respond(self, request)

        return respond_to_page

    def counting_works(run: Callable[..., Any]) -> Callable[..., Any]:
        def running(work: Callable[[Any], Any]) -> Any:
            return run(partial(working, work) if _is_of_page.get() else work)

        return running

    async def working(work: Callable[[Any], Any], tx: Any) -> Any:
        of_page.add(id(tx))
        try:
            return await work(tx)
        finally:
            of_page.discard(id(tx))

    def counting(ask: Callable[..., Any]) -> Callable[..., Any]:
        async def asking(self: Any, sql: str, *values: Any) -> Any:
            if id(self) in of_page:
                made.append(sql)
            return await ask(self, sql, *values)

        return asking

    with pytest.MonkeyPatch.context() as patch:
        for application in (Dashboard, Portal):
            patch.setattr(application, "respond", responding(application.respond))
        for name in ("read", "search", "page", "write", "write_urgently"):
            patch.setattr(store, name, counting_works(getattr(store, name)))
        for engine, name in product((SqliteTransaction, PostgresTransaction), ("row", "rows", "execute")):
            patch.setattr(engine, name, counting(getattr(engine, name)))
        yield made
