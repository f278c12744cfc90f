"""One request on its way through the adapter."""

from collections.abc import AsyncGenerator, Callable

from discue.api.negotiation import JSON
from discue.api.request_checks import sane_request_id
from discue.api.route import NOBODY
from discue.api.rsgi import HttpProtocol, HttpScope
from discue.auth.control_plane_cache import KeyRecord
from discue.domain.rate import RateLimitStatus


class Request:
    """What is known of a request so far. `answer_headers` grow on the way.

    `address` is the client's. `principal` is nobody until somebody was admitted, by the key of `record`. `allowance`
    is what is left of the caller's minute, from when the request was counted. `body_is_left`: more of its body may
    come, and nobody has tried to read that.
    """

    __slots__ = (
        "address",
        "allowance",
        "answer_headers",
        "body_is_left",
        "content",
        "exchange",
        "headers",
        "id",
        "principal",
        "record",
        "scope",
        "status",
        "stream",
    )

    def __init__(self, scope: HttpScope, exchange: HttpProtocol, fallback_id: Callable[[], str]) -> None:
        self.scope = scope
        self.exchange = exchange
        self.headers = scope.headers
        self.id = sane_request_id(self.headers) or fallback_id()
        self.answer_headers = [("content-type", JSON), ("x-request-id", self.id)]
        self.address = ""
        self.principal = NOBODY
        self.record: KeyRecord | None = None
        self.allowance: RateLimitStatus | None = None
        self.body_is_left = True
        self.content = b""
        self.status = 200
        self.stream: AsyncGenerator[bytes, None] | None = None
