"""Sources: the list, and a page with the requests that a source has refused."""

from typing import Final

from discue.control import sources
from discue.dashboard.listing import selection_of, shown
from discue.dashboard.visit import Page, PageRoute, Visit
from discue.http.pipeline import SOURCES


async def show(visit: Visit) -> Page:
    found = await sources.page(visit.control, visit.principal, selection_of(visit, "alias"))
    page = shown(visit, found, [each.public_id for each in found.items], "alias")
    return Page("sources.html", "Sources", {"list": page})


async def show_source(visit: Visit) -> Page:
    [source_id] = visit.ids
    source = await sources.get(visit.control, visit.principal, source_id)
    found = await sources.refused_page(visit.control, visit.principal, source_id, selection_of(visit))
    received_at = f"{visit.api_url.removesuffix('/v1')}/{SOURCES}/{source_id}"
    page = shown(visit, found, [each.id for each in found.items])
    return Page("source.html", source.alias, {"source": source, "received_at": received_at, "list": page})


ROUTES: Final = (
    PageRoute("/sources", show, needs="channels"),
    PageRoute("/sources/{id}", show_source, needs="channels"),
)
