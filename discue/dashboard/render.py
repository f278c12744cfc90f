"""Renders pages: the templates, and what each of them can use."""

from functools import partial
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from discue import __version__
from discue.dashboard import formats, navigation
from discue.dashboard.exchange import FILES, PageResponse, page_response
from discue.dashboard.fields import faults_below
from discue.dashboard.forms import LABELS, FieldFaults
from discue.dashboard.pages.listeners import STATE_WORDS
from discue.dashboard.visit import Page, Visit
from discue.domain.errors import DiscueError

TEMPLATES: Final = Environment(
    loader=PackageLoader("discue.dashboard"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
"""The environment of all templates: everything is escaped, and an unknown name is an error."""

TEMPLATES.filters.update(
    number=formats.number,
    browser=formats.browser_name,
    size=formats.size,
    rate=formats.rate,
    duration=formats.duration,
    clock=formats.clock,
    hour=formats.hour,
    day=formats.day,
    utc=formats.utc,
    sentence=formats.sentence,
    worded=formats.worded,
)
TEMPLATES.globals.update(
    version=__version__,
    outcome_of=formats.outcome,
    cause_of_job=formats.cause_of_job,
    preview=formats.preview,
    readable=partial(formats.readable, most=formats.SHOWN_BYTES),
    percent=formats.percent,
    plural=formats.plural,
    faults_below=faults_below,
    labels=LABELS,
    groups=navigation.GROUPS,
    shortcuts=navigation.LISTED,
    shortcuts_of_rows=navigation.OF_ROWS,
    state_words=STATE_WORDS,
    assets={name: file.path for name, file in FILES.items()},
)


def render(page: Page, visit: Visit) -> bytes:
    """Return the page as HTML, in the frame with the navigation."""
    values = {
        **page.values,
        **frame_values(page, visit),
        "visit": visit,
        "is_live": page.is_live and visit.error is None,
        "url": visit.api_url,
        "may": visit.principal.may,
        "for_customer": False,
    }
    return TEMPLATES.get_template(page.template).render(values).encode()


def bare_response(visit: Visit, page: Page, error: DiscueError | None = None) -> PageResponse:
    """Return a page without the navigation, for a user who is not signed in or not identified."""
    values = {**frame_values(page, visit), **page.values}
    content = TEMPLATES.get_template(page.template).render(values).encode()
    return page_response(content, 200 if error is None else error.status)


def frame_values(page: Page, visit: Visit) -> dict[str, Any]:
    """Return the values that every page has."""
    return {
        "title": page.title,
        "base": visit.base,
        "docs": f"{visit.base.removesuffix(visit.root[1:])}docs",
        "theme": visit.theme,
        "now": visit.now,
        "time": partial(formats.time, now=visit.now),
        "ago": partial(formats.ago, now=visit.now),
        "error": visit.error,
        "faults": FieldFaults(visit.error, visit.wrong),
        "notice": visit.notices.get(visit.query.get("done", ""), ""),
    }
