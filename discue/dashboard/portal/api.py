"""`/organizations/{organization_id}/portal`, and the sessions of customers in it."""

from functools import partial
from typing import Annotated, ClassVar, Final, Self

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from discue.api.idempotency import created
from discue.api.pagination import PAGES, paged
from discue.api.route import DELETE, GET, POST, PUT, Call, Needs, Route
from discue.api.structs import ApiResponse, Body, DeletedResponse, ResourceBody, View, doc, id_doc, instant_doc, within
from discue.control.context import one_of
from discue.dashboard.portal import sessions
from discue.dashboard.portal.rules import (
    ACTIONS,
    COLOUR_PATTERN,
    DEFAULT_LIFETIME_SECONDS,
    FONT_PATTERN,
    LARGEST_LOGO,
    LIFETIME_SECONDS,
    LONGEST_FONT,
    LONGEST_URL,
    MOST_ORIGINS,
    MOST_TARGETS,
    RADII,
    SCHEMES,
    PortalSession,
    PortalTheme,
)
from discue.dashboard.portal.sessions import NewPortalSession, PortalSessionFields
from discue.domain.model import LONGEST_CUSTOMER
from discue.domain.reservations import FEW_ROWS, PAGE, RESOURCE

_READ: Final = Needs("portal", "read")
_WRITE: Final = Needs("portal", "write")

_CUSTOMER: Final = doc(
    "Your name or id of the customer. The session sees only the listeners of this customer.",
    "acme",
    minLength=1,
    maxLength=LONGEST_CUSTOMER,
)
_QUEUES: Final = doc(
    "Ids or aliases of queues. Without queues and topics: all queues of the customer, including later ones.",
    ["customers/acme"],
    maxItems=MOST_TARGETS,
)
_TOPICS: Final = doc("Ids or aliases of topics: the queues that their channels lead into.", [], maxItems=MOST_TARGETS)
_MAY: Final = doc(
    "Actions that the customer may take. `create`, `edit` and `replay` require that all queues belong to the customer. "
    "Default: all except `limit`, which changes the rate limit; if a queue does not belong to the customer, `disable`, "
    "`test` and `redeliver`.",
    ["create", "test"],
    items={"type": "string", "enum": list(ACTIONS)},
)
_RETURN_URL: Final = doc("Where a link on every page leads back to.", "https://app.example.com", maxLength=LONGEST_URL)
_ACCENT: Final = doc("The colour of buttons and links.", "#4a41d8", pattern=COLOUR_PATTERN)
_FONT: Final = doc("Names of fonts of the system.", "Inter, sans-serif", maxLength=LONGEST_FONT, pattern=FONT_PATTERN)
_RADIUS: Final = doc("Radius of corners, in pixels.", 6, **within(RADII))
_LOGO: Final = doc("A data URL of a PNG, JPEG or WebP image in base64.", "", maxLength=LARGEST_LOGO)
_SCHEME: Final = doc("Light or dark; `auto` follows the browser.", "auto", enum=list(SCHEMES))
_ORIGINS: Final = doc(
    "Origins whose pages may embed the portal: https, or http on loopback. By default none.",
    ["https://app.example.com"],
    maxItems=MOST_ORIGINS,
)


class PortalThemeBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """How the portal looks."""

    accent: Annotated[str, _ACCENT] = ""
    font: Annotated[str, _FONT] = ""
    radius: Annotated[int | None, _RADIUS] = None
    logo_url: Annotated[str, _LOGO] = ""
    scheme: Annotated[str, _SCHEME] = "auto"


class PortalSessionBody(ResourceBody, kw_only=True):
    """A session to create."""

    example: ClassVar = {"customer": "acme"}

    customer: Annotated[str, _CUSTOMER]
    queues: Annotated[list[str], _QUEUES] = msgspec.field(default_factory=list)
    topics: Annotated[list[str], _TOPICS] = msgspec.field(default_factory=list)
    may: Annotated[list[str] | UnsetType, _MAY] = UNSET
    expires_in: Annotated[
        int,
        doc("How long it lasts, once it is opened, in seconds.", DEFAULT_LIFETIME_SECONDS, **within(LIFETIME_SECONDS)),
    ] = DEFAULT_LIFETIME_SECONDS
    return_url: Annotated[str, _RETURN_URL] = ""
    theme: Annotated[PortalThemeBody | UnsetType, doc("How it looks.", {"accent": "#4a41d8"})] = UNSET


class PortalSettingsBody(Body, kw_only=True):
    """The settings of the portal."""

    example: ClassVar = {"frame_ancestors": ["https://app.example.com"]}

    frame_ancestors: Annotated[list[str], _ORIGINS]


class PortalSettingsView(msgspec.Struct, kw_only=True, frozen=True):
    """The settings of the portal."""

    frame_ancestors: Annotated[tuple[str, ...], _ORIGINS]


class PortalSessionView(View, kw_only=True, frozen=True):
    """A session of a customer in the portal."""

    id: Annotated[str, id_doc("portal_session_id")]
    alias: Annotated[str, _CUSTOMER]
    name: Annotated[str, _CUSTOMER]
    customer: Annotated[str, _CUSTOMER]
    state: Annotated[str, doc("`new` until its URL is opened.", "new", enum=["new", "open"])]
    queues: Annotated[tuple[str, ...], doc("Ids of its queues.", ["0VbuJFSo00H8Lq7zazFOL"])]
    topics: Annotated[tuple[str, ...], doc("Ids of its topics.", [])]
    may: Annotated[tuple[str, ...], _MAY]
    expires_at: Annotated[int, instant_doc("When it ends; until it is opened, when its URL does")]
    url: Annotated[
        str | UnsetType,
        doc("The URL to open within a minute, once. Shown only at creation.", "https://discue.example.com/portal"),
    ] = UNSET
    warnings: Annotated[
        tuple[str, ...] | UnsetType,
        doc(
            "Sentences about queues that the session does not show, or about a customer without a queue. Shown only at "
            "creation, and only if there are warnings.",
            ['No queue has the customer "acme". The session shows nothing until one is created with it.'],
        ),
    ] = UNSET


class PortalSessionResponse(ApiResponse, kw_only=True, frozen=True):
    portal_session: Annotated[PortalSessionView, doc("The session.")]

    def without_secrets(self) -> Self:
        return replace(self, portal_session=replace(self.portal_session, url=UNSET))


class PortalSessionsResponse(ApiResponse, kw_only=True, frozen=True):
    portal_sessions: Annotated[list[PortalSessionView], doc("The sessions, newest first.")]


class PortalResponse(ApiResponse, kw_only=True, frozen=True):
    portal: Annotated[PortalSettingsView, doc("The settings.")]


async def create(call: Call) -> PortalSessionResponse:
    """Create a session of a customer in the portal.

    Only this response has the URL that opens it, within a minute and once. Give the URL to the customer's browser.
    """
    fields = _fields(call.body)
    return await created(
        call, lambda control: sessions.create(control, call.principal, _place(call)[0], fields), _created_response
    )


async def get(call: Call) -> PortalSessionResponse:
    """Get a session of a customer in the portal."""
    session = await sessions.get(call.control, call.principal, *_place(call))
    return call.with_etag(session, PortalSessionResponse(portal_session=_view(session), links=call.links()))


async def list_all(call: Call) -> PortalSessionsResponse:
    """List the sessions of customers in the portal."""
    return await paged(
        call, PortalSessionsResponse, partial(sessions.page, call.control, call.principal, _place(call)[0]), _view
    )


async def delete(call: Call) -> DeletedResponse:
    """End a session of a customer in the portal."""
    await sessions.revoke(call.control, call.principal, *_place(call))
    return DeletedResponse(links=call.links())


def _place(call: Call) -> tuple[str, ...]:
    """Return the id of the organization, by default that of the key, and the ids that follow it in the path."""
    is_named = call.path.startswith("/organizations/")
    return call.ids if is_named else (call.principal.organization_public_id, *call.ids)


async def get_settings(call: Call) -> PortalResponse:
    """Get the settings of the portal."""
    return _settings(call, await sessions.frame_ancestors(call.control, call.principal, call.ids[0]))


async def change_settings(call: Call) -> PortalResponse:
    """Change the settings of the portal: which pages may embed it."""
    origins = call.body.frame_ancestors
    return _settings(call, await sessions.set_frame_ancestors(call.control, call.principal, call.ids[0], origins))


def _settings(call: Call, origins: tuple[str, ...]) -> PortalResponse:
    return PortalResponse(portal=PortalSettingsView(frame_ancestors=origins), links=call.links())


def _fields(body: PortalSessionBody) -> PortalSessionFields:
    given = body.theme
    theme = PortalTheme()
    if not isinstance(given, UnsetType):
        scheme = one_of(SCHEMES, given.scheme, "/theme/scheme")
        theme = PortalTheme(given.accent, given.font, given.radius, given.logo_url, scheme)
    return PortalSessionFields(
        customer=body.customer,
        queues=body.queues,
        topics=body.topics,
        may=None if isinstance(body.may, UnsetType) else body.may,
        expires_in=body.expires_in,
        return_url=body.return_url,
        theme=theme,
    )


def _created_response(call: Call, made: NewPortalSession) -> PortalSessionResponse:
    url = f"{call.sent_root}/portal/open?code={made.code}"
    view = replace(_view(made.session), url=url, warnings=made.warnings or UNSET)
    response = PortalSessionResponse(portal_session=view, links=call.links(made.session.public_id))
    return call.with_etag(made.session, response)


def _view(session: PortalSession) -> PortalSessionView:
    return PortalSessionView(
        id=session.public_id,
        alias=session.customer,
        name=session.customer,
        customer=session.customer,
        state="open" if session.opened_at else "new",
        queues=session.grant.queues,
        topics=session.grant.topics,
        may=session.grant.may,
        created_at=session.created_at,
        updated_at=session.opened_at or session.created_at,
        expires_at=session.expires_at,
    )


_PORTAL: Final = "/organizations/{organization_id}/portal"
_SESSIONS: Final = "/portal_sessions"


def _sessions_of(place: str) -> tuple[Route, ...]:
    """Return the routes to the sessions of an organization: the one that the path names, or that of the key."""
    one = f"{place}/{{portal_session_id}}"
    codes = ("quota_exceeded", "invalid_value", "conflicting_fields", *["not_found"] * ("{" in place))
    return (
        Route(GET, place, list_all, _READ, query=PAGES, reads=PAGE),
        Route(POST, place, create, _WRITE, PortalSessionBody, codes=codes, reads=RESOURCE),
        Route(GET, one, get, _READ, reads=RESOURCE),
        Route(DELETE, one, delete, _WRITE, reads=FEW_ROWS),
    )


ROUTES = (
    Route(GET, _PORTAL, get_settings, _READ, reads=RESOURCE),
    Route(
        PUT, _PORTAL, change_settings, _WRITE, PortalSettingsBody, codes=("not_found", "invalid_value"), reads=RESOURCE
    ),
    *_sessions_of(_SESSIONS),
    *_sessions_of("/organizations/{organization_id}" + _SESSIONS),
)
