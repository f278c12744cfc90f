"""Every route and every job declares what it reads."""

from dataclasses import replace

import pytest

from discue.api.route import Route
from discue.domain.reservations import ReadBound
from discue.observability.logs import Log
from discue.observability.supervisor import Supervisor
from discue.product import ROUTES
from docs import reservations_table


def test_route_without_a_reservation_is_rejected() -> None:
    with pytest.raises(TypeError, match="reads"):
        Route(("GET",), "/nothing", ROUTES[0].handler, None)  # type: ignore[call-arg]


def test_job_without_a_reservation_is_rejected() -> None:
    async def work() -> None:
        raise AssertionError

    with pytest.raises(TypeError, match="reads"):
        Supervisor(Log()).every(1, "work", work)  # type: ignore[call-arg]


def test_bound_without_a_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    unnamed = replace(ROUTES[0], reads=ReadBound(17, 4_711))
    monkeypatch.setattr(reservations_table, "ROUTES", (unnamed,))
    with pytest.raises(LookupError, match="4711"):
        reservations_table.reservations_table()
