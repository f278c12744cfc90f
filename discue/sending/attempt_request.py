"""What the sender needs to know to make one attempt."""

import msgspec

from discue.crypto.signatures import SigningKey
from discue.domain.egress import Target
from discue.sending.presented import Grant, Identity


class AttemptRequest(msgspec.Struct, frozen=True, gc=False):
    """One attempt to hand one message to one listener.

    `headers` are sent besides those of the contract; a name that the sender sets itself, or one that
    frames the request, is refused. `media_type` is the body's, where it is not what `is_json` says.
    `timeout_ms` is for everything, the answer's body included. One that `is_test` says so, and one of a replay has
    a `replay_id`. `grant` is what a token is got with first, `identity` whose certificate the connection shows.
    """

    target: Target
    message_id: str
    is_json: bool
    body: bytes
    keys: tuple[SigningKey, ...]
    queue_id: str
    listener_id: str
    number: int
    headers: tuple[tuple[str, str], ...] = ()
    timeout_ms: int = 15_000
    media_type: str = ""
    is_test: bool = False
    replay_id: str = ""
    grant: Grant | None = None
    identity: Identity | None = None

    def __repr__(self) -> str:
        # Neither keys nor bodies belong into a log.
        return f"AttemptRequest({self.message_id!r}, listener_id={self.listener_id!r}, number={self.number})"
