"""Every page in Chromium, in both themes, on a wide screen and on a phone."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.dashboard_paths import paths_of
from tests.support.dashboard_shop import Shop

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


def test_pages_can_be_enlarged_to_200_percent(visiting: Callable[..., Any], shop: Shop) -> None:
    # A browser that shows a page at twice its size gives it half of the pixels.
    with visiting(width=640) as visitor:
        for name, path in paths_of(shop).items():
            visitor.open(path)
            assert visitor.page.evaluate(_OVERFLOW) <= 0, name
