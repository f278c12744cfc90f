"""Actions on the missed messages that a customer has selected."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final

from discue.dashboard.pages import selected
from discue.dashboard.pages.listener import details_of, path_of
from discue.dashboard.portal.pages.endpoint import ENDPOINT
from discue.dashboard.portal.route import PortalRoute
from discue.dashboard.visit import Page, Redirect, Visit
from discue.domain.reservations import HTML_PAGE


async def _name(visit: Visit, ids: Collection[str]) -> Mapping[str, str]:
    """Return the name of the endpoint that the page is about, which is the only one that rows can be of."""
    del ids
    found = (await details_of(visit)).listener
    return {found.public_id: found.endpoint}


_REDELIVER: Final = selected.REDELIVER._replace(
    back=f"{ENDPOINT}/missed", then=f"{ENDPOINT}/jobs", notice="redelivering", names=_name
)


async def show(visit: Visit) -> Page:
    return _with_endpoint(visit, await selected.show(visit, _REDELIVER))


async def act(visit: Visit) -> Page | Redirect:
    done = await selected.act(visit, _REDELIVER)
    return _with_endpoint(visit, done) if isinstance(done, Page) else done


def _with_endpoint(visit: Visit, page: Page) -> Page:
    return replace(page, values={**page.values, "endpoint": path_of(visit)})


ROUTES: Final = (
    PortalRoute(f"{ENDPOINT}/missed/redeliver", show, act, action="redeliver", is_form=True, reads=HTML_PAGE),
)
