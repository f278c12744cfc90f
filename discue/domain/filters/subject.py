"""A message as filters see it."""

from functools import lru_cache
from typing import Any, Final

import msgspec

from discue.domain.messages import decode_options, message_headers
from discue.domain.model import MessageOptions

_KEPT: Final = 128
_KEPT_BYTES: Final = 4_096

_decode: Final = msgspec.json.Decoder().decode


class MessageView:
    """One message. What conditions ask for is read once, and not before."""

    __slots__ = ("_body", "_data", "_extra", "_is_json", "_is_read", "_options")

    def __init__(self, body: bytes, extra: bytes, *, is_json: bool) -> None:
        self._body = body
        self._extra = extra
        self._is_json = is_json
        self._is_read = False
        self._data: Any = None
        self._options: MessageOptions | None = None

    @property
    def data(self) -> Any:
        """Raises ValueError for data that is not JSON, or JSON that cannot be held: too deep, or a number too large."""
        if not self._is_read:
            if not self._is_json:
                raise ValueError("The data is not JSON.")
            try:
                self._data = _decoded(self._body) if len(self._body) <= _KEPT_BYTES else _decode(self._body)
            except (msgspec.DecodeError, RecursionError) as error:
                raise ValueError("The data cannot be held.") from error
            self._is_read = True
        return self._data

    @property
    def headers(self) -> dict[str, str]:
        """By names in small letters."""
        return {name.lower(): value for name, value in message_headers(self._chosen())}

    @property
    def key(self) -> str | None:
        return self._chosen().key

    def _chosen(self) -> MessageOptions:
        if self._options is None:
            self._options = decode_options(self._extra)
        return self._options


@lru_cache(_KEPT)
def _decoded(body: bytes) -> Any:
    """Several lanes ask for the same messages one after the other. Nobody changes what they get."""
    return _decode(body)
