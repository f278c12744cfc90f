"""`/organizations/{organization_id}/portal`, and the sessions of customers in it."""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Final, Self, TypeVar

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from discue.api.resource import ResourceKind, view_of
from discue.api.route import GET, POST, PUT, Call, Needs, Route
from discue.api.structs import ApiResponse, Body, ResourceBody, View, doc, id_doc, instant_doc, within
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
from discue.domain.reservations import RESOURCE

T = TypeVar("T")

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

    sample: ClassVar = {"customer": "acme"}

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

    sample: ClassVar = {"frame_ancestors": ["https://app.example.com"]}

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

    def without_secrets(self) -> Self:
        return replace(self, url=UNSET)


class PortalResponse(ApiResponse, kw_only=True, frozen=True):
    portal: Annotated[PortalSettingsView, doc("The settings.")]


async def get_settings(call: Call) -> PortalResponse:
    """Get the settings of the portal."""
    return _settings(call, await sessions.frame_ancestors(call.control, call.principal, call.ids[0]))


async def change_settings(call: Call) -> PortalResponse:
    """Change the settings of the portal: which pages may embed it."""
    origins = call.body.frame_ancestors
    return _settings(call, await sessions.set_frame_ancestors(call.control, call.principal, call.ids[0], origins))


def _settings(call: Call, origins: tuple[str, ...]) -> PortalResponse:
    return PortalResponse(portal=PortalSettingsView(frame_ancestors=origins), links=call.links())


def _fields(call: Call) -> PortalSessionFields:
    body: PortalSessionBody = call.body
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


def _view(session: PortalSession) -> PortalSessionView:
    names = {"alias": session.customer, "name": session.customer}
    state, changed_at = ("open", session.opened_at) if session.opened_at else ("new", session.created_at)
    return view_of(PortalSessionView, session, session.grant, **names, state=state, updated_at=changed_at)


def _with_url(call: Call, made: NewPortalSession) -> ApiResponse:
    url = f"{call.sent_root}/portal/open?code={made.code}"
    return _SESSIONS.one(call, made.session, url=url, warnings=made.warnings or UNSET)


_SESSIONS: Final = ResourceKind[PortalSession](
    path="/portal_sessions",
    name="portal_session",
    noun="session",
    view_type=PortalSessionView,
    view=lambda _, session: _view(session),
    needs=(_READ, _READ, _WRITE),
    body=PortalSessionBody,
    fields=_fields,
    codes=("quota_exceeded", "invalid_value", "unknown_reference", "conflicting_fields"),
)


def _own(function: Callable[..., T]) -> Callable[..., T]:
    """Adapt a function of an organization's sessions to paths without the organization: it is that of the key."""
    return lambda control, principal, *rest: function(control, principal, principal.organization_public_id, *rest)


def _routes(kind: ResourceKind[PortalSession], adapt: Callable[..., Any], *codes: str) -> tuple[Route, ...]:
    return (
        kind.list_route(adapt(sessions.page), "List the sessions of customers in the portal."),
        kind.create_route(
            adapt(sessions.create),
            "Create a session of a customer in the portal. Only this response has the URL that opens it, within a "
            "minute and once. Give the URL to the customer's browser.",
            *codes,
            methods=POST,
            respond=_with_url,
        ),
        kind.get_route(adapt(sessions.get), "Get a session of a customer in the portal."),
        kind.delete_route(adapt(sessions.revoke), "End a session of a customer in the portal."),
    )


_PORTAL: Final = "/organizations/{organization_id}/portal"

ROUTES = (
    Route(GET, _PORTAL, get_settings, _READ, reads=RESOURCE),
    Route(
        PUT, _PORTAL, change_settings, _WRITE, PortalSettingsBody, codes=("not_found", "invalid_value"), reads=RESOURCE
    ),
    *_routes(_SESSIONS, _own),
    *_routes(
        dataclasses.replace(_SESSIONS, path="/organizations/{organization_id}/portal_sessions"),
        lambda of: of,
        "not_found",
    ),
)
