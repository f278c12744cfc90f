"""Every page in Chromium, in both themes, on a wide screen and on a phone."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from tests.support.dashboard_paths import paths_of
from tests.support.dashboard_shop import HOSTS, Shop
from tests.support.dashboards import DashboardService
from tests.support.wrapped_ids import WRAPPED_IDS

Axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe

_OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.mark.parametrize("width", [1_280, 390])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_is_accessible_and_fits(visiting: Callable[..., Any], shop: Shop, theme: str, width: int) -> None:
    axe, faults = Axe(), []
    with visiting(theme=theme, width=width) as visitor:
        for name, path in paths_of(shop).items():
            visitor.open(path)
            found = axe.run(visitor.page).response["violations"]
            faults += [(name, each["id"], node["html"]) for each in found for node in each["nodes"]]
            if visitor.page.evaluate(_OVERFLOW) > 0:
                faults.append((name, "wider than the screen", ""))

    assert faults == []


@pytest.fixture
def unnamed(service: DashboardService) -> Iterator[Mapping[str, str]]:
    """Pages of a queue and a listener without aliases: their ids are their names."""
    with service.api() as api:
        queue = f"/queues/{api.post('/queues', json={}).json()['queue']['id']}"
        fields = {"notify_url": f"http://{HOSTS}:9006/hooks", "retry": {"attempts": 1}}
        listener = f"{queue}/listeners/{api.post(f'{queue}/listeners', json=fields).json()['listener']['id']}"
        message = api.post(f"{queue}/messages", json={"data": {"order": 1}}).json()["message"]["id"]
        paths = (queue, f"{queue}/listeners", listener, f"{listener}/settings", f"{queue}/messages/{message}")
        yield {each: each for each in (*paths, f"/search?q={message}")}
        api.delete(queue).raise_for_status()


@pytest.mark.parametrize("width", [1_280, 390])
def test_no_id_wraps(
    visiting: Callable[..., Any], service: DashboardService, shop: Shop, unnamed: Mapping[str, str], width: int
) -> None:
    wrapped = []
    with visiting(width=width) as visitor:
        for name, path in {**paths_of(shop), **unnamed}.items():
            visitor.open(path)
            wrapped += [(name, each) for each in visitor.page.evaluate(WRAPPED_IDS)]

    assert wrapped == []


def test_pages_can_be_enlarged_to_200_percent(visiting: Callable[..., Any], shop: Shop) -> None:
    # A browser that shows a page at twice its size gives it half of the pixels.
    with visiting(width=640) as visitor:
        for name, path in paths_of(shop).items():
            visitor.open(path)
            assert visitor.page.evaluate(_OVERFLOW) <= 0, name
