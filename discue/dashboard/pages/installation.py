"""The workers of the installation, and the settings in effect with their sources."""

from itertools import groupby
from typing import Final

from discue.control import installation
from discue.dashboard.visit import Page, PageRoute, Visit


async def show_workers(visit: Visit) -> Page:
    found = await installation.state(visit.control, visit.principal)
    return Page(
        "workers.html",
        "Workers",
        {"state": found, "obstacle": visit.services.readiness.problem},
    )


async def show_settings(visit: Visit) -> Page:
    found = installation.settings_in_effect(visit.control, visit.principal)
    changed, unchanged = [each for each in found if each.origin], [each for each in found if not each.origin]
    groups = [(name, list(each)) for name, each in groupby(unchanged, key=lambda each: each.setting.group)]
    return Page("settings.html", "Settings", {"settings": [("changed", changed), *groups] if changed else groups})


ROUTES: Final = (
    PageRoute("/workers", show_workers),
    PageRoute("/settings", show_settings),
)
