"""The settings in effect, and where each comes from: those that differ from their default first."""

from itertools import groupby
from typing import Final

from discue.control import installation
from discue.dashboard.route import PageRoute
from discue.dashboard.visit import Page, Visit
from discue.domain.reservations import HTML_PAGE


async def show(visit: Visit) -> Page:
    found = installation.settings_in_effect(visit.control, visit.principal)
    changed, unchanged = [each for each in found if each.origin], [each for each in found if not each.origin]
    groups = [(name, list(each)) for name, each in groupby(unchanged, key=lambda each: each.setting.group)]
    return Page("settings.html", "Settings", {"settings": [("changed", changed), *groups] if changed else groups})


ROUTES: Final = (PageRoute("/settings", show, reads=HTML_PAGE),)
