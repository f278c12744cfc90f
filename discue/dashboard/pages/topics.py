"""Topics: how each routes its messages into queues, drawn, and a form that tries a message without publishing it."""

from typing import Final

from discue.control import queues, topics
from discue.dashboard import topic_drawing
from discue.dashboard.fields import value_of
from discue.dashboard.listing import names_offered, selection_of, shown
from discue.dashboard.route import PageRoute
from discue.dashboard.visit import Page, Visit
from discue.domain.errors import DiscueError
from discue.domain.message_data import data_of
from discue.domain.messages import Entry, MessageOptions, encode_options
from discue.domain.reservations import HTML_PAGE
from discue.domain.subjects import check_subject
from discue.store.pagination import Selection
from discue.store.time_slice import TimeSlice

CHANNELS: Final = 50
"""A topic has no more."""
_LONGEST_DATA: Final = 4_000


async def show(visit: Visit) -> Page:
    found = await topics.page(visit.control, visit.principal, selection_of(visit, "alias"))
    page = shown(visit, found, [each.topic.public_id for each in found.items], "alias")
    return Page("topics.html", "Topics", {"list": page, "offered": await names_offered(visit, "topic", page)})


async def show_topic(visit: Visit) -> Page:
    details = await topics.get(visit.control, visit.principal, visit.ids[0])
    # As the list of a page: the newest first.
    found = await topics.page_of_channels(visit.control, visit.principal, visit.ids[0], Selection(per_page=CHANNELS))
    channels = found.items[::-1]
    names = await queues.names(visit.control, visit.principal, {each.queue_public_id for each in channels})
    given = {"subject": visit.query.get("subject", "").strip(), "data": visit.query.get("data", "")}
    taken: dict[str, bool] | None = None
    error = None
    if given["subject"] or given["data"]:
        try:
            taken = await _try(visit, **given)
        except DiscueError as fault:
            error = fault
    drawn = topic_drawing.draw(channels, names, taken)
    values = {"details": details, "channels": drawn, "given": given, "taken": taken, "fault": error}
    return Page("topic.html", details.topic.alias, values)


async def _try(visit: Visit, subject: str, data: str) -> dict[str, bool]:
    """Return by queue whether a message would go there. Raises BadRequest and Unprocessable for an invalid one."""
    if subject:
        check_subject(subject, "/subject")
    body, codec = data_of(value_of(data[:_LONGEST_DATA] or "{}", "json"))
    topic = await visit.control.cache.topic(visit.principal.organization, visit.ids[0])
    options = encode_options(MessageOptions(subject=subject or None)) or b""
    entry = Entry(0, "", visit.now, codec, body, extra=options)
    taken, time_slice = dict[str, bool](), TimeSlice()
    for way in topic.ways:
        taken[way.queue] = way.takes(subject or None, entry)
        # A filter may take some milliseconds.
        await time_slice.pause_if_over()
    return taken


ROUTES: Final = (
    PageRoute("/topics", show, needs="topics", reads=HTML_PAGE),
    PageRoute("/topics/{id}", show_topic, needs="topics", reads=HTML_PAGE),
)
