"""How the service shows a listener who it is, as requests choose it."""

from typing import Final

from msgspec import UNSET, UnsetType

from discue.control.context import ControlContext
from discue.crypto import endpoint_credentials
from discue.crypto.endpoint_credentials import AuthenticationFields, Credentials
from discue.domain import egress
from discue.domain.errors import Fault, Unprocessable
from discue.domain.json_pointer import below
from discue.domain.model import Listener

HEADER: Final = "authorization"

AuthenticationChange = Credentials | UnsetType | None
"""UNSET leaves what there is, None takes it away."""


def chosen(
    control: ControlContext, stored: Listener, fields: AuthenticationFields | UnsetType | None
) -> AuthenticationChange:
    """What a request asks for. Raises BadRequest and Unprocessable."""
    if fields is None or isinstance(fields, UnsetType):
        return fields
    if stored.mode == "pull":
        raise _unfit("/authentication", "cannot be given: nothing is sent to a listener whose messages are pulled")
    if endpoint_credentials.is_same(stored.options.authentication, fields):
        return UNSET
    made = endpoint_credentials.checked(fields, control.clock.now())
    if made.public.token_url:
        pointer = "/authentication/token_url"
        egress.check_target(egress.parse_target(made.public.token_url, pointer), control.egress, pointer)
    return made


def check(stored: Listener, changed: Listener, asked: AuthenticationChange) -> None:
    """Raises Unprocessable for what does not go together with the rest of the listener."""
    public = changed.options.authentication
    if public is None:
        return
    target = egress.parse_target(changed.notify_url, "/notify_url")
    if public.type == "certificate":
        if target.scheme != "https":
            raise _unfit("/notify_url", "must be https: a certificate is shown in TLS alone")
    elif taken := next((name for name, _ in changed.options.headers if name.lower() == HEADER), None):
        raise _unfit(below("/headers", taken), "cannot be chosen beside an authentication, which sends it")
    if isinstance(asked, UnsetType) and stored.notify_url != changed.notify_url:
        before = egress.parse_target(stored.notify_url, "/notify_url")
        if (before.scheme, before.host, before.port) != (target.scheme, target.host, target.port):
            # Whoever may change a listener need not know its secrets, and must not get them sent to a place of theirs.
            raise _unfit("/authentication", "must be given again, with its secret: notify_url leads to another place")


def _unfit(pointer: str, rule: str) -> Unprocessable:
    return Unprocessable(f"The value at {pointer} {rule}.", faults=(Fault(pointer, rule),))
