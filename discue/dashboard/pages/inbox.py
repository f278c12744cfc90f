"""The inbox of `discue dev`: the requests that it received, and how it responds to the next ones."""

from dataclasses import dataclass
from typing import Final

from discue.control import listeners, queues
from discue.dashboard.fields import is_number
from discue.dashboard.formats import readable
from discue.dashboard.inbox import TIMES, VERIFIED, Inbox, ReceivedRequest
from discue.dashboard.listing import ShownList
from discue.dashboard.visit import PER_PAGE, Page, PageRoute, Redirect, Visit
from discue.domain.errors import NotFound, invalid
from discue.domain.ids import is_public_id

_PATH: Final = "/inbox"
_SHOWN_BYTES: Final = 2_000
"""The largest part of a body on the page, in bytes of HTML."""
_BEGINNING: Final = 60
"""The number of characters of a body in its row."""


@dataclass(frozen=True, slots=True)
class InboxRow:
    """A request that the inbox received, as the page shows it. Headers that are not ids are left out."""

    request: ReceivedRequest
    queue_id: str
    listener_id: str
    message_id: str
    attempt: str
    body: str
    is_cut: bool

    @property
    def beginning(self) -> str:
        text = self.request.body[: 2 * _BEGINNING]
        line = " ".join(text.split())
        return f"{line[:_BEGINNING]}…" if len(line) > _BEGINNING or self.request.bytes > len(text.encode()) else line

    @property
    def is_verified(self) -> bool:
        return self.request.signature == VERIFIED


async def show(visit: Visit) -> Page:
    inbox, given = _inbox(visit), visit.query.get("below", "")
    below = int(given) if is_number(given) else 0
    found = [each for each in inbox.received if not below or each.number < below]
    rows = [_row(each) for each in found[:PER_PAGE]]
    older = f"?below={rows[-1].request.number}" if len(found) > PER_PAGE else ""
    queue_ids, listener_ids = {each.queue_id for each in rows} - {""}, {each.listener_id for each in rows} - {""}
    values = {
        "list": ShownList(rows, newer="?" if below else "", older=older),
        "queues": await queues.names(visit.control, visit.principal, queue_ids),
        "listeners": await listeners.names(visit.control, visit.principal, listener_ids),
        "plan": inbox.plan,
        "slow_ms": round(inbox.slow_seconds * 1_000),
        "example": inbox.example,
        "times": visit.form.get("times", "1"),
    }
    return Page("inbox.html", "Inbox", values, is_live=True)


async def decide(visit: Visit) -> Redirect:
    text = visit.form.get("times", "1").strip()
    if text and not is_number(text):
        raise invalid("/times", f"must be a number from {TIMES.start} to {TIMES.stop - 1}")
    _inbox(visit).respond_with(visit.form.get("action", ""), int(text) if text else None)
    return Redirect(_PATH)


def _inbox(visit: Visit) -> Inbox:
    if visit.inbox is None:
        raise NotFound("There is no inbox here. `discue dev` has one, for its own organization.")
    return visit.inbox


def _row(request: ReceivedRequest) -> InboxRow:
    content = request.body.encode()
    body, is_cut = readable(content, most=_SHOWN_BYTES)
    return InboxRow(
        request,
        _id_in(request, "discue-queue"),
        _id_in(request, "discue-listener"),
        _id_in(request, "webhook-id"),
        request.header("discue-attempt"),
        body,
        is_cut or request.bytes > len(content),
    )


def _id_in(request: ReceivedRequest, header: str) -> str:
    value = request.header(header)
    return value if is_public_id(value) else ""


ROUTES: Final = (PageRoute(_PATH, show, decide, needs="messages", writes="listeners"),)
