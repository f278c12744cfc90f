"""Forms that create, rename and delete topics, and that create, change and delete their channels."""

from collections.abc import Mapping
from typing import Final

from msgspec import UNSET

from discue.control import topics
from discue.control.topics import ChannelFields, TopicDetails, TopicFields
from discue.dashboard.fields import DATA_FORM_BYTES, Edit, matching, queue_name, queue_of, queues_offered, value_of
from discue.dashboard.route import PageRoute
from discue.dashboard.visit import Page, Redirect, Visit
from discue.domain.model import Channel
from discue.domain.reservations import HTML_PAGE


async def show_new(visit: Visit) -> Page:
    del visit
    return Page("topic_new.html", "New topic")


async def create(visit: Visit) -> Redirect:
    fields = TopicFields(visit.form.get("alias", "").strip() or None)
    made = await topics.create(visit.control, visit.principal, fields)
    return Redirect(f"/topics/{made.topic.public_id}", "topic_created")


async def show_edit(visit: Visit) -> Page:
    details = await _topic(visit)
    values = {"details": details, **_topic_edit(visit, details).shown}
    return Page("topic_edit.html", f"Rename · {details.topic.alias}", values)


async def rename(visit: Visit) -> Redirect:
    edit = _topic_edit(visit, await _topic(visit))
    alias = edit.changes.get("alias", "").strip()
    # No alias keeps the stored one.
    await topics.change(edit.control, visit.principal, visit.ids[0], TopicFields(alias or None))
    return Redirect(f"/topics/{visit.ids[0]}", "saved")


async def show_delete(visit: Visit) -> Page:
    details = await _topic(visit)
    values = {"details": details, "form_version": _topic_edit(visit, details).version}
    return Page("topic_delete.html", f"Delete · {details.topic.alias}", values)


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


async def show_channel(visit: Visit) -> Page:
    channel = await _channel(visit)
    values = {**await _channel_frame(visit, channel), **_channel_edit(visit, channel).shown}
    return Page("channel_edit.html", f"Channel · {channel.alias}", values)


async def change_channel(visit: Visit) -> Redirect:
    edit = _channel_edit(visit, await _channel(visit))
    fields = _channel_fields(edit.changes)
    await topics.change_channel(edit.control, visit.principal, *visit.ids, fields=fields)
    return Redirect(f"/topics/{visit.ids[0]}", "saved")


async def show_delete_channel(visit: Visit) -> Page:
    channel = await _channel(visit)
    values = {**await _channel_frame(visit, channel), "form_version": _channel_edit(visit, channel).version}
    return Page("channel_delete.html", f"Delete · {channel.alias}", values)


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


async def _channel(visit: Visit) -> Channel:
    return await topics.get_channel(visit.control, visit.principal, *visit.ids)


async def _channel_frame(visit: Visit, channel: Channel) -> dict[str, object]:
    """Return the values of the head of every page of a channel."""
    name = await queue_name(visit, channel.queue_public_id)
    return {"details": await _topic(visit), "channel": channel, "queue_name": name}


_TOPIC: Final = "/topics/{id}"
_CHANNEL: Final = "/topics/{id}/channels/{id}"

ROUTES: Final = (
    PageRoute("/topics/new", show_new, create, needs="topics", is_form=True, reads=HTML_PAGE),
    PageRoute(f"{_TOPIC}/edit", show_edit, rename, needs="topics", is_form=True, reads=HTML_PAGE),
    PageRoute(f"{_TOPIC}/delete", show_delete, delete, needs="topics", is_form=True, reads=HTML_PAGE),
    PageRoute(
        f"{_TOPIC}/channels/new",
        show_new_channel,
        create_channel,
        needs="channels",
        is_form=True,
        form_bytes=DATA_FORM_BYTES,
        reads=HTML_PAGE,
    ),
    PageRoute(
        _CHANNEL,
        show_channel,
        change_channel,
        needs="channels",
        is_form=True,
        form_bytes=DATA_FORM_BYTES,
        reads=HTML_PAGE,
    ),
    PageRoute(
        f"{_CHANNEL}/delete", show_delete_channel, delete_channel, needs="channels", is_form=True, reads=HTML_PAGE
    ),
)
