"""Topics and their channels: a drawing of how a topic routes messages into queues, and forms that change both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

from msgspec import UNSET

from discue.control import queues, topics
from discue.control.topics import ChannelFields, TopicDetails
from discue.dashboard.fields import DATA_FORM_BYTES, Edit, matching, queue_name, queue_of, queues_offered, value_of
from discue.dashboard.listing import names_offered, selection_of, shown
from discue.dashboard.visit import Page, PageRoute, Redirect, Visit, form_route, plain_page
from discue.domain.aliases import NameFields
from discue.domain.errors import DiscueError
from discue.domain.event_types import check_type
from discue.domain.message_data import data_of
from discue.domain.messages import Entry, MessageOptions, encode_options
from discue.domain.model import Channel
from discue.store.pagination import Selection
from discue.store.time_slice import TimeSlice

_SIDE: Final = 100
_CURVE: Final = "M0 50C50 50 50 {0:g} 100 {0:g}"
"""From the middle of the left side to a height of the right side."""

Taken = Literal["", "yes", "no"]
"""Whether a channel takes the message that is tried; empty if none is."""


@dataclass(frozen=True, slots=True)
class DrawnChannel:
    channel: Channel
    queue: str
    """The alias of the queue."""
    curve: str
    taken: Taken = ""


def draw(channels: Sequence[Channel], queues: dict[str, str], taken: dict[str, bool] | None) -> list[DrawnChannel]:
    """Draw the channels, from top to bottom. `taken` says by queue whether the message that is tried goes there."""
    step = _SIDE / max(1, len(channels))
    return [
        DrawnChannel(
            each,
            queues.get(each.queue_public_id, each.queue_public_id),
            _CURVE.format(round((index + 0.5) * step, 2)),
            "" if taken is None else "yes" if taken.get(each.queue_public_id) else "no",
        )
        for index, each in enumerate(channels)
    ]


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
    given = {"type": visit.query.get("type", "").strip(), "data": visit.query.get("data", "")}
    taken: dict[str, bool] | None = None
    error = None
    if given["type"] or given["data"]:
        try:
            taken = await _try(visit, given["type"], given["data"])
        except DiscueError as fault:
            error = fault
    drawn = draw(channels, names, taken)
    values = {"details": details, "channels": drawn, "given": given, "taken": taken, "fault": error}
    return Page("topic.html", details.topic.alias, values)


async def _try(visit: Visit, event_type: str, data: str) -> dict[str, bool]:
    """Return by queue whether a message would go there. Raises BadRequest and Unprocessable for an invalid one."""
    if event_type:
        check_type(event_type, "/type")
    body, codec = data_of(value_of(data[:_LONGEST_DATA] or "{}", "json"))
    topic = await visit.control.cache.topic(visit.principal.organization, visit.ids[0])
    options = encode_options(MessageOptions(type=event_type or None)) or b""
    entry = Entry(0, "", visit.now, codec, body, extra=options)
    taken, time_slice = dict[str, bool](), TimeSlice()
    for way in topic.ways:
        taken[way.queue] = way.takes(event_type or None, entry)
        # A filter may take some milliseconds.
        await time_slice.pause_if_over()
    return taken


async def create(visit: Visit) -> Redirect:
    fields = NameFields(visit.form.get("alias", "").strip() or None)
    made = await topics.create(visit.control, visit.principal, fields)
    return Redirect(f"/topics/{made.topic.public_id}", "topic_created")


async def rename(visit: Visit) -> Redirect:
    edit = _topic_edit(visit, await _topic(visit))
    alias = edit.changes.get("alias", "").strip()
    # No alias keeps the stored one.
    await topics.change(edit.control, visit.principal, visit.ids[0], NameFields(alias or None))
    return Redirect(f"/topics/{visit.ids[0]}", "saved")


async def delete(visit: Visit) -> Redirect:
    await topics.delete(matching(visit), visit.principal, visit.ids[0])
    return Redirect("/topics", "topic_deleted")


async def show_new_channel(visit: Visit) -> Page:
    details = await _topic(visit)
    values = {"details": details, "form": visit.form, "newer": {}, "offered": await queues_offered(visit)}
    return Page("channel_new.html", f"New channel · {details.topic.alias}", values)


async def create_channel(visit: Visit) -> Redirect:
    queue = await queue_of(visit, "queue_id")
    fields = _channel_fields(visit.form, queue)
    await topics.create_channel(visit.control, visit.principal, visit.ids[0], fields)
    return Redirect(f"/topics/{visit.ids[0]}", "channel_created")


async def change_channel(visit: Visit) -> Redirect:
    edit = _channel_edit(visit, await _channel(visit))
    fields = _channel_fields(edit.changes)
    await topics.change_channel(edit.control, visit.principal, *visit.ids, fields=fields)
    return Redirect(f"/topics/{visit.ids[0]}", "saved")


async def delete_channel(visit: Visit) -> Redirect:
    await topics.delete_channel(matching(visit), visit.principal, *visit.ids)
    return Redirect(f"/topics/{visit.ids[0]}", "channel_deleted")


def _topic_edit(visit: Visit, details: TopicDetails) -> Edit:
    return Edit(visit, details.topic, {"alias": details.topic.alias})


def _channel_edit(visit: Visit, channel: Channel) -> Edit:
    fields = {"alias": channel.alias, "pattern": channel.pattern or "", "filter": channel.filter or ""}
    return Edit(visit, channel, fields)


def _channel_fields(texts: Mapping[str, str], queue: str | None = None) -> ChannelFields:
    """Return the fields of a channel that were typed. Raises BadRequest for a filter that is not JSON."""
    own_filter = texts.get("filter", "").strip()
    return ChannelFields(
        texts.get("alias", "").strip() or None,
        queue=queue,
        pattern=texts["pattern"].strip() or None if "pattern" in texts else UNSET,
        filter=(value_of(own_filter, "json", "/filter").decode() if own_filter else None)
        if "filter" in texts
        else UNSET,
    )


async def _topic(visit: Visit) -> TopicDetails:
    return await topics.get(visit.control, visit.principal, visit.ids[0])


async def _topic_form(visit: Visit, template: str, title: str) -> Page:
    details = await _topic(visit)
    values = {"details": details, **_topic_edit(visit, details).shown}
    return Page(template, f"{title} · {details.topic.alias}", values)


async def _channel(visit: Visit) -> Channel:
    return await topics.get_channel(visit.control, visit.principal, *visit.ids)


async def _channel_form(visit: Visit, template: str, title: str) -> Page:
    channel = await _channel(visit)
    name = await queue_name(visit, channel.queue_public_id)
    values = {"details": await _topic(visit), "channel": channel, "queue_name": name}
    return Page(template, f"{title} · {channel.alias}", {**values, **_channel_edit(visit, channel).shown})


_SHOW_EDIT: Final = partial(_topic_form, template="topic_edit.html", title="Rename")
_SHOW_DELETE: Final = partial(_topic_form, template="topic_delete.html", title="Delete")
_SHOW_CHANNEL: Final = partial(_channel_form, template="channel_edit.html", title="Channel")
_SHOW_DELETE_CHANNEL: Final = partial(_channel_form, template="channel_delete.html", title="Delete")
_TOPIC: Final = "/topics/{id}"
_CHANNEL: Final = "/topics/{id}/channels/{id}"

ROUTES: Final = (
    PageRoute("/topics", show, needs="topics"),
    PageRoute("/topics/{id}", show_topic, needs="topics"),
    form_route("/topics/new", plain_page("topic_new.html", "New topic"), create, "topics"),
    form_route(f"{_TOPIC}/edit", _SHOW_EDIT, rename, "topics"),
    form_route(f"{_TOPIC}/delete", _SHOW_DELETE, delete, "topics"),
    form_route(f"{_TOPIC}/channels/new", show_new_channel, create_channel, "channels", form_bytes=DATA_FORM_BYTES),
    form_route(_CHANNEL, _SHOW_CHANNEL, change_channel, "channels", form_bytes=DATA_FORM_BYTES),
    form_route(f"{_CHANNEL}/delete", _SHOW_DELETE_CHANNEL, delete_channel, "channels"),
)
