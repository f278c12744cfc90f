"""The page on which a user confirms who they are, and the form that it keeps meanwhile.

A form whose sign-in is too old stays in the browser: its fields become hidden fields of this page. Once the user has
confirmed, a redirect makes the browser send them to the page of the form, as if they came from there. The service
stores nothing, so there is nothing that others could read, or that must expire.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from discue.dashboard.exchange import PageResponse, redirect_response
from discue.dashboard.forms import FORM_BYTES, FieldFaults, fields_of, next_path, safe_path
from discue.dashboard.provider_sign_in import providers_offered
from discue.dashboard.render import bare_response
from discue.dashboard.sign_in import session_response
from discue.dashboard.steps import read_form
from discue.dashboard.visit import CONFIRMATION_BYTES, Page, Visit
from discue.domain.errors import DiscueError, Forbidden, Unprocessable

CONFIRM: Final = "/confirm"
"""The page on which users prove again who they are."""
CONFIRMED: Final = "/confirmed"
"""The page that a tab shows in which a user has signed in again at an identity provider."""

_OWN: Final = "confirm-"
"""The names of the fields of this page begin with it: all others belong to the form that it keeps."""
_PASSWORD: Final = f"{_OWN}password"
_CODE: Final = f"{_OWN}code"
_NEXT: Final = f"{_OWN}next"
_SENDER: Final = f"{_OWN}user"

_NOTHING: Final[Mapping[str, str]] = {}
_TOO_OLD: Final = "Your sign-in is still older than 15 minutes. Sign in again first, then continue."


class KeptForm(NamedTuple):
    """The page that follows once a user has confirmed who they are, and the form that is sent there."""

    next_path: str
    """The path of the page to show, or to send the form to."""
    sender: str = ""
    """The id of the user who has sent the form; empty: no form is kept."""
    fields: Mapping[str, str] = _NOTHING


def is_needed(visit: Visit) -> bool:
    """Return whether the user has signed in too long ago for a form that can give someone access."""
    return visit.user.session.needs_confirmation(visit.control.clock.now())


async def show(visit: Visit) -> PageResponse:
    """Show the page, without a form to keep."""
    return await _page(visit, KeptForm(next_path(visit.query)))


async def ask_before(visit: Visit, *, form_bytes: int) -> PageResponse:
    """Show the page in place of the one that the request is for, and keep the form that was sent to that."""
    path = safe_path(visit.path)
    if visit.scope.method != "POST":
        return redirect_response(f"{visit.base}{CONFIRM}?next={path}")
    form = await form_fields(await read_form(visit, form_bytes))
    return await _page(visit, KeptForm(path, visit.principal.key_public_id, form))


async def show_confirmed(visit: Visit) -> PageResponse:
    """Show where to go on: the form waits in the tab from which the user went to the identity provider."""
    if is_needed(visit):
        return redirect_response(visit.base)
    return bare_response(visit, Page("confirmed.html", "Confirmed"))


async def confirm(visit: Visit) -> PageResponse:
    """Check the password or the code, and make the browser send the form on."""
    fields = await fields_of(await read_form(visit, FORM_BYTES + CONFIRMATION_BYTES))
    kept = KeptForm(safe_path(fields.get(_NEXT, "")), fields.get(_SENDER, ""), _without_own(fields))
    password, code = fields.get(_PASSWORD, ""), fields.get(_CODE, "").strip()
    if kept.sender and kept.sender != visit.principal.key_public_id:
        raise Forbidden("Another user has signed in since this form was sent. Open its page again.")
    if kept.sender and not (password or code):
        if is_needed(visit):
            return await _page(visit, kept, Unprocessable(_TOO_OLD, code="invalid_value"))
        # The user has signed in again in another tab.
        return redirect_response(visit.base + kept.next_path, resends=True)
    account, browser = visit.account, visit.browser
    try:
        opened = await (account.confirm_by_code(code, browser) if code else account.confirm(password, browser))
    except DiscueError as error:
        if error.status >= 500:
            raise
        return await _page(visit, kept, error)
    return session_response(visit, opened.token, kept.next_path, device=opened.device, resends=bool(kept.sender))


async def _page(visit: Visit, kept: KeptForm, error: DiscueError | None = None) -> PageResponse:
    if error is None and not is_needed(visit):
        return redirect_response(visit.base + kept.next_path)
    known, account = visit.user.user, visit.account
    values = {
        "name": visit.user.name,
        "has_password": account.user.password_hash is not None,
        "has_factor": await account.is_confirmed_by_code(),
        "error": error,
        "faults": FieldFaults(error),
        "kept": kept,
        "providers": providers_offered(visit) if known is not None and known.has_identity else [],
    }
    return bare_response(visit, Page("confirm.html", "Confirm", values), error)


async def form_fields(content: bytes) -> Mapping[str, str]:
    """Return the fields of a form, without those of the page of the confirmation, which may have kept it."""
    return _without_own(await fields_of(content))


def _without_own(fields: Mapping[str, str]) -> Mapping[str, str]:
    return {name: value for name, value in fields.items() if not name.startswith(_OWN)}
