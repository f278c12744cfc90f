"""Sources: the list, and a page with the requests that a source has refused."""

from typing import Final

from discue.control import sources
from discue.dashboard.listing import selection_of, shown
from discue.dashboard.visit import Page, PageRoute, Visit
from discue.domain.providers import DISPLAY_NAMES
from discue.http.pipeline import SOURCES


async def show(visit: Visit) -> Page:
    found = await sources.page(visit.control, visit.principal, selection_of(visit, "alias"))
    page = shown(visit, found, [each.public_id for each in found.items], "alias")
    return Page("sources.html", "Sources", {"list": page, "providers": DISPLAY_NAMES})


async def show_source(visit: Visit) -> Page:
    [source_id] = visit.ids
    source = await sources.get(visit.control, visit.principal, source_id)
    found = await sources.refused_page(visit.control, visit.principal, source_id, selection_of(visit))
    received_at = f"{visit.api_url.removesuffix('/v1')}/{SOURCES}/{source_id}"
    page = shown(visit, found, [each.id for each in found.items])
    provider = DISPLAY_NAMES[source.provider]
    values = {"source": source, "provider": provider, "received_at": received_at, "list": page}
    return Page("source.html", source.alias, values)


ROUTES: Final = (
    PageRoute("/sources", show, needs="channels"),
    PageRoute("/sources/{id}", show_source, needs="channels"),
)
