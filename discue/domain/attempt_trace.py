"""What went over the wire in one attempt: taken down by the sender, for those who want to see what happened."""

from typing import Literal

import msgspec

AttemptDetailLevel = Literal["all", "failures", "none"]
"""Of which attempts the details are kept."""


class Timings(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """How long each stage took, in milliseconds; a stage that failed, until then.

    None for what was not come to, or was not needed: a connection that was used before is neither resolved nor
    connected. `first_byte_ms` counts from when the request was sent.
    """

    resolve_ms: int | None
    connect_ms: int | None
    tls_ms: int | None
    first_byte_ms: int | None
    total_ms: int


class Trace(msgspec.Struct, frozen=True, gc=False):
    """The heads of request and answer, and the first bytes of its body, of which `body_bytes` were read.

    `address` is where the connection led, or was last tried; "" where nothing was tried.
    """

    request_head: bytes
    response_headers: tuple[tuple[bytes, bytes], ...]
    excerpt: bytes
    body_bytes: int
    address: str
    is_reused: bool
    timings: Timings

    def __repr__(self) -> str:
        # Neither signatures nor what a listener answered belong into a log.
        return f"Trace(address={self.address!r}, is_reused={self.is_reused}, timings={self.timings})"
