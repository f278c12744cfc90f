"""The portal: what a session of a customer grants, how it looks, and which pages may embed it.

Times are in milliseconds since the epoch.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Final, Literal, get_args
from urllib.parse import urlsplit

import msgspec

from discue.dashboard.cookies import is_loopback
from discue.domain.errors import invalid
from discue.domain.representation import shows
from discue.domain.scopes import Access, Principal, Scope

PortalAction = Literal["create", "edit", "disable", "delete", "secrets", "test", "redeliver", "replay", "limit"]
Scheme = Literal["light", "dark", "auto"]

ACTIONS: Final[tuple[PortalAction, ...]] = get_args(PortalAction)
OWN_QUEUE_ACTIONS: Final[frozenset[PortalAction]] = frozenset({"create", "edit", "replay"})
"""Actions that a customer may take only in their own queues: in others, they would reach other customers' messages."""
USUAL_ACTIONS: Final = tuple(action for action in ACTIONS if action != "limit")
"""The default of sessions for queues of the customer. Customers may set rate limits only with `limit`."""
SHARED_ACTIONS: Final[tuple[PortalAction, ...]] = ("disable", "test", "redeliver")
"""The default of sessions with a queue that is not the customer's."""
SCHEMES: Final[tuple[Scheme, ...]] = get_args(Scheme)

CODE_MS: Final = 60_000
"""How long the URL of a session can be opened."""
LIFETIME_SECONDS: Final = range(60, 7 * 86_400 + 1)
"""How long a session can last, once it is opened."""
DEFAULT_LIFETIME_SECONDS: Final = 43_200
MOST_TARGETS: Final = 100
"""The largest number of queues, and of topics, of a session."""
MOST_QUEUES: Final = 1_000
"""The largest number of queues that a customer or topics add to a session: each of its pages reads all of them."""
MOST_ORIGINS: Final = 20
SESSIONS_OF_A_CUSTOMER: Final = 100
"""The largest number of sessions of a customer. A new session beyond it ends the oldest one."""
MOST_THEMES: Final = 100
"""The largest number of different themes in the sessions of an organization."""
RADII: Final = range(25)
"""Radii of corners, in pixels."""
LONGEST_FONT: Final = 200
LONGEST_URL: Final = 2_000
LARGEST_LOGO: Final = 16_384
"""The largest logo as text, in bytes: every page contains it."""

COLOUR_PATTERN: Final = "^#[0-9A-Fa-f]{6}$"
FONT_PATTERN: Final = "^[A-Za-z0-9 ,-]*$"
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")
_LOGO = re.compile(r"data:image/(png|jpeg|webp);base64,([A-Za-z0-9+/]+={0,2})")
_BEGINNINGS: Final = {"png": b"\x89PNG\r\n\x1a\n", "jpeg": b"\xff\xd8\xff", "webp": b"RIFF"}


@shows("accent", "font", "scheme")
class PortalTheme(msgspec.Struct, frozen=True, omit_defaults=True):
    """The look of the portal. Empty texts and None select the default."""

    accent: str = ""
    """A colour as in `#4a41d8`."""
    font: str = ""
    radius: int | None = None
    """Radius of corners, in pixels."""
    logo: str = ""
    """A data URL of a bitmap."""
    scheme: Scheme = "auto"


class PortalGrant(msgspec.Struct, frozen=True, omit_defaults=True):
    """The rights that a session of the portal grants."""

    queues: tuple[str, ...] = ()
    """Public ids of queues. Without queues and topics, all queues of the customer are granted, including later ones."""
    topics: tuple[str, ...] = ()
    """Public ids of topics: the queues that their channels lead into are granted, too."""
    may: tuple[PortalAction, ...] = ()
    lifetime_ms: int = DEFAULT_LIFETIME_SECONDS * 1_000
    return_url: str = ""


@shows("organization", "public_id")
class PortalSession(msgspec.Struct, frozen=True):
    """A session of a customer. Its code and its token are not stored, only hashes of them."""

    organization: int
    id: int
    public_id: str
    customer: str
    grant: PortalGrant
    created_at: int
    opened_at: int
    """When the code was exchanged; 0: not yet."""
    expires_at: int
    """When it ends; until it is opened, when the code does."""
    code_hash: bytes | None = None
    """None once it is opened."""
    token_hash: bytes | None = None
    """None until it is opened."""
    theme: int = 0
    """The id of its theme; 0 for the default theme."""


def principal_of(session: PortalSession, organization_public_id: str, queues: Sequence[str]) -> Principal:
    """Return the principal of a session: listeners of its customer in some queues, and nothing else.

    It has no scope but this one, so that a function which does not know about customers refuses it.
    """
    # Without a target, a scope means all: a session whose queues were deleted must have none instead.
    access: Access = "write" if session.grant.may else "read"
    scopes = {"listeners": Scope(access, tuple(queues))} if queues else {}
    return Principal(
        organization=session.organization,
        organization_public_id=organization_public_id,
        key=session.id,
        key_public_id=session.public_id,
        scopes=scopes,
        is_operator=False,
        expires_at=session.expires_at,
        customer=session.customer,
    )


def check_theme(theme: PortalTheme) -> None:
    """Raise Unprocessable for values that do not belong into a stylesheet."""
    if theme.accent and re.fullmatch(COLOUR_PATTERN, theme.accent) is None:
        raise invalid("/theme/accent", "must be a colour such as #4a41d8")
    if len(theme.font) > LONGEST_FONT or re.fullmatch(FONT_PATTERN, theme.font) is None:
        raise invalid("/theme/font", "must be names of fonts: letters, digits, spaces, hyphens and commas")
    if theme.radius is not None and theme.radius not in RADII:
        raise invalid("/theme/radius", f"must be from {RADII.start} to {RADII.stop - 1}")
    if theme.logo and not _is_bitmap(theme.logo):
        rule = f"must be a data URL of a PNG, JPEG or WebP image in base64, of at most {LARGEST_LOGO} characters"
        raise invalid("/theme/logo_url", rule)


def check_return_url(url: str) -> None:
    """Raise Unprocessable unless it is an http or https URL."""
    if url and not _is_web_url(url):
        raise invalid("/return_url", f"must be an http or https URL of at most {LONGEST_URL} characters")


def origin_of(text: str, pointer: str) -> str:
    """Return an origin as browsers write it. Raises Unprocessable unless it is one over HTTPS, or on loopback."""
    wrong = invalid(pointer, "must be an origin such as https://app.example.com; http only on loopback")
    try:
        parts = urlsplit(text.lower())
        port = parts.port
    except ValueError:
        raise wrong from None
    host = parts.hostname or ""
    is_bare = text.lower().rstrip("/") == f"{parts.scheme}://{parts.netloc}" and "@" not in parts.netloc
    is_trustworthy = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
    if not is_bare or _HOST.fullmatch(host) is None or not is_trustworthy:
        raise wrong
    default = 443 if parts.scheme == "https" else 80
    return f"{parts.scheme}://{host}" + ("" if port in (None, default) else f":{port}")


def _is_web_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    is_plain = len(url) <= LONGEST_URL and url.isascii() and url.isprintable() and " " not in url
    return is_plain and parts.scheme in ("http", "https") and bool(parts.hostname)


def _is_bitmap(text: str) -> bool:
    found = _LOGO.fullmatch(text) if len(text) <= LARGEST_LOGO else None
    if found is None:
        return False
    try:
        return base64.b64decode(found[2], validate=True).startswith(_BEGINNINGS[found[1]])
    except binascii.Error:
        return False
