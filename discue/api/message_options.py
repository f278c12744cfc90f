"""What producers ask for with a message: what of it is acceptable."""

import msgspec

from discue.api import bodies
from discue.api.delivery_options import retry_of
from discue.control.listener_options import chosen_retry
from discue.domain import headers
from discue.domain.clock import LAST_INSTANT
from discue.domain.errors import Fault, Unprocessable
from discue.domain.messages import MessageOptions
from discue.publishing.publish import NewMessage

KEY_CHARACTERS = range(1, 256)
LONGEST_DELAY_SECONDS = 31_536_000


def with_options(draft: NewMessage, body: bodies.MessageBody, place: str, now: int) -> NewMessage:
    """The draft with the options of its body. Raises Unprocessable, with a pointer below `place`."""
    deliver_at = due_at(body.deliver_at, body.delay, place, now)
    options = MessageOptions(
        headers=headers.check_headers(body.headers, f"{place}/headers") if isinstance(body.headers, dict) else (),
        key=key_of(body.key, f"{place}/key"),
        retry=chosen_retry(None, retry_of(body.retry), place),
        deliver_at=deliver_at,
    )
    expires_at = _instant(body.expires_at, now, f"{place}/expires_at")
    if expires_at is not None and deliver_at is not None and expires_at <= deliver_at:
        raise _unacceptable(f"{place}/expires_at", "must be later than the message is delivered")
    return msgspec.structs.replace(draft, options=options, expires_at=expires_at)


def due_at(deliver_at: bodies.Whole, delay: bodies.Whole, place: str, now: int) -> int | None:
    """When a message is to be delivered; None for at once. Raises Unprocessable, with a pointer below `place`."""
    if isinstance(deliver_at, int) and isinstance(delay, int):
        raise _unacceptable(f"{place}/delay", "cannot be given together with deliver_at")
    if isinstance(delay, int):
        if not 0 <= delay <= LONGEST_DELAY_SECONDS:
            raise _unacceptable(f"{place}/delay", f"must be from 0 to {LONGEST_DELAY_SECONDS} seconds")
        return now + delay * 1_000 if delay else None
    if not isinstance(deliver_at, int):
        return None
    if not 0 <= deliver_at <= now + LONGEST_DELAY_SECONDS * 1_000:
        rule = "must be an instant in milliseconds since the epoch, at most a year ahead"
        raise _unacceptable(f"{place}/deliver_at", rule)
    return deliver_at if deliver_at > now else None


def key_of(sent: bodies.Text, pointer: str) -> str | None:
    """Raises Unprocessable for what cannot be a key."""
    if not isinstance(sent, str):
        return None
    if len(sent) not in KEY_CHARACTERS:
        raise _unacceptable(pointer, f"must have {KEY_CHARACTERS.start} to {KEY_CHARACTERS.stop - 1} characters")
    return sent


def _instant(sent: bodies.Whole, now: int, pointer: str) -> int | None:
    if not isinstance(sent, int):
        return None
    if not now < sent <= LAST_INSTANT:
        raise _unacceptable(pointer, "must be an instant to come, in milliseconds since the epoch")
    return sent


def _unacceptable(pointer: str, rule: str) -> Unprocessable:
    return Unprocessable(f"The value at {pointer} {rule}.", faults=(Fault(pointer, rule),))
