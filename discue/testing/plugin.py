"""The fixtures for pytest. Importing this module imports nothing of the service."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from discue.testing.kit import Kit, KitClock
    from discue.testing.listeners import ScriptedListener
    from discue.testing.serving import ServerPool
    from discue_client import Discue


@pytest.fixture(scope="session")
def discue_servers() -> Iterator[ServerPool]:
    """The running server. A test whose clock was moved does not leave it to the next one."""
    from discue.testing import ServerPool  # noqa: PLC0415 - only tests that use it pay for the import

    with ServerPool() as pool:
        yield pool


@pytest.fixture
def discue(discue_servers: ServerPool) -> Iterator[Kit]:
    """A running discue, with an organization of this test's own."""
    with discue_servers.kit() as kit:
        yield kit


@pytest.fixture
def discue_client(discue: Kit) -> Discue:
    """A client of the organization, with every scope."""
    return discue.client


@pytest.fixture
def discue_clock(discue: Kit) -> KitClock:
    """The clock of the server: `discue_clock.advance("1h")`."""
    return discue.clock


@pytest.fixture
def discue_listener(discue: Kit) -> Callable[..., ScriptedListener]:
    """Creates listeners: `discue_listener("orders").respond(503, times=2)`."""
    return discue.listener
