"""Renders pages: the templates, and what each of them can use."""

from functools import partial
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from discue import __version__
from discue.dashboard import formats, shortcuts, static
from discue.dashboard.browsers import browser_name
from discue.dashboard.fields import faults_below
from discue.dashboard.forms import LABELS, FieldFaults
from discue.dashboard.navigation import GROUPS
from discue.dashboard.sentences import sentence, worded
from discue.dashboard.states import STATE_WORDS
from discue.dashboard.visit import NOTICES, Page, Visit

_ROOT: Final = "dashboard"


def _environment() -> Environment:
    """Return the environment of all templates: everything is escaped, and an unknown name is an error."""
    made = Environment(
        loader=PackageLoader("discue.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(
        number=formats.number,
        browser=browser_name,
        size=formats.size,
        rate=formats.rate,
        duration=formats.duration,
        clock=formats.clock,
        hour=formats.hour,
        utc=formats.utc,
        sentence=sentence,
        worded=worded,
    )
    made.globals.update(
        version=__version__,
        outcome_of=formats.outcome,
        cause_of=formats.cause,
        preview=formats.preview,
        readable=partial(formats.readable, most=formats.SHOWN_BYTES),
        percent=formats.percent,
        plural=formats.plural,
        faults_below=faults_below,
        labels=LABELS,
        groups=GROUPS,
        shortcuts=shortcuts.LISTED,
        shortcuts_of_rows=shortcuts.OF_ROWS,
        state_words=STATE_WORDS,
        assets={name: file.path for name, file in static.FILES.items()},
    )
    return made


TEMPLATES: Final = _environment()


def render(page: Page, visit: Visit) -> bytes:
    """Return the page as HTML, in the frame with the navigation."""
    values = {
        **page.values,
        **frame_values(page.title, visit.base, visit.theme, visit.now),
        "visit": visit,
        "is_live": page.is_live and visit.error is None,
        "url": visit.api_url,
        "docs": f"{visit.base.removesuffix(_ROOT)}docs",
        "may": visit.principal.may,
        "for_customer": False,
        "error": visit.error,
        "faults": FieldFaults(visit.error, visit.wrong),
        "notice": NOTICES.get(visit.query.get("done", ""), ""),
    }
    return TEMPLATES.get_template(page.template).render(values).encode()


def render_bare(page: Page, *, base: str, theme: str, now: int) -> bytes:
    """Return a page for a user who is not signed in, or whom the service cannot identify."""
    own: dict[str, Any] = {"error": None, "faults": {}, "docs": f"{base.removesuffix(_ROOT)}docs"}
    values = {**own, **page.values, **frame_values(page.title, base, theme, now)}
    return TEMPLATES.get_template(page.template).render(values).encode()


def frame_values(title: str, base: str, theme: str, now: int) -> dict[str, Any]:
    """Return the values that every page has."""
    return {
        "title": title,
        "base": base,
        "theme": theme,
        "now": now,
        "time": partial(formats.time, now=now),
        "ago": partial(formats.ago, now=now),
    }
