"""Renders pages of the portal: with the templates of its own, in the theme of the session."""

from typing import Final

from discue.dashboard.forms import FieldFaults
from discue.dashboard.portal.route import PortalVisit
from discue.dashboard.render import TEMPLATES, frame_values
from discue.dashboard.visit import Page

NOTICES: Final = {
    "changed": "Saved. The change is in effect.",
    "deleted": "Endpoint deleted.",
    "disabled": "Endpoint disabled. Its messages wait for it.",
    "enabled": "Endpoint enabled. It receives the messages that have waited first.",
    "redelivering": "The messages are being sent again.",
    "replaying": "The replay has started.",
    "cancelled": "Cancelled. Messages that were already sent stay sent.",
}
"""Notices by the value of `?done=`, so that a link cannot put words on a page."""


def render(page: Page, visit: PortalVisit) -> bytes:
    """Return the page as HTML."""
    values = {
        **page.values,
        **frame_values(page.title, visit.base, visit.details.theme.scheme, visit.now),
        "visit": visit,
        "session": visit.session,
        "logo": visit.details.theme.logo,
        # Paths with ids begin with that of a queue.
        "can": lambda action, queue="": visit.details.may(action, queue or "".join(visit.ids[:1])),
        "for_customer": True,
        "form_token": visit.form_token,
        "origins": " ".join(visit.details.frame_ancestors),
        "error": visit.error,
        "faults": FieldFaults(visit.error, visit.wrong),
        "notice": NOTICES.get(visit.query.get("done", ""), ""),
    }
    return TEMPLATES.get_template(f"portal/{page.template}").render(values).encode()


def render_bare(page: Page, *, base: str, now: int) -> bytes:
    """Return a page without a session."""
    values = {**page.values, **frame_values(page.title, base, "auto", now)}
    return TEMPLATES.get_template(f"portal/{page.template}").render(values).encode()
