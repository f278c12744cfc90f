"""The settings in effect, and where each comes from."""

from itertools import groupby
from typing import Final

from discue.control import installation
from discue.dashboard.route import PageRoute
from discue.dashboard.visit import Page, Visit


async def show(visit: Visit) -> Page:
    found = installation.settings_in_effect(visit.control, visit.principal)
    groups = [(name, list(each)) for name, each in groupby(found, key=lambda each: each.setting.group)]
    changed = sum(bool(each.origin) for each in found)
    return Page("settings.html", "Settings", {"settings": groups, "changed": changed})


ROUTES: Final = (PageRoute("/settings", show),)
