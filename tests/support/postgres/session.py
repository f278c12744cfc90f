"""A blocking session with a server that trusts us: the simple query protocol, in text, and no more."""

import select
import socket
import struct
from types import TracebackType
from typing import IO, Self

PATIENCE_SECONDS = 30.0

_PROTOCOL = 3 << 16

Row = tuple[str | None, ...]


class ServerError(Exception):
    """The server's words. `code` is the SQLSTATE."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Session:
    """A connection. Raises OSError when it cannot be opened or is lost, ServerError when the server refuses."""

    def __init__(
        self,
        socket_path: str,
        *,
        user: str,
        database: str,
        name: str = "tests",
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self.warnings: list[str] = []
        """Notices and warnings of the server, in order."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(patience_seconds)
        self._stream: IO[bytes] = self._socket.makefile("rb")
        try:
            self._socket.connect(socket_path)
            self._greet(user, database, name)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._stream.close()
        self._socket.close()

    def run(self, sql: str) -> list[Row]:
        """Run statements; the rows of all of them, as text."""
        self.send(sql)
        return self.answer()

    def send(self, sql: str) -> None:
        """Send statements without waiting for the response."""
        self._socket.sendall(_framed(b"Q", sql.encode() + b"\0"))

    def prepare_only(self, sql: str) -> None:
        """Let the server prepare a statement, and never execute it: it waits for the client in the middle."""
        parse = _framed(b"P", b"hung\0" + sql.encode() + b"\0" + struct.pack("!h", 0))
        self._socket.sendall(parse + _framed(b"D", b"Shung\0") + _framed(b"H", b""))

    def silent(self, seconds: float) -> bool:
        """Return whether no part of the response arrives within this time."""
        return not select.select([self._socket], [], [], seconds)[0]

    def answer(self) -> list[Row]:
        """The rows of what was sent."""
        rows: list[Row] = []
        error: ServerError | None = None
        while (message := self._read())[0] != b"Z":
            kind, body = message
            if kind == b"D":
                rows.append(_row(body))
            elif kind == b"N":
                self.warnings.append(str(_error(body)))
            elif kind == b"E":
                error = _error(body)
                if _fields(body).get("V") in ("FATAL", "PANIC"):
                    raise error
        if error is not None:
            raise error
        return rows

    def _greet(self, user: str, database: str, name: str) -> None:
        words = ["user", user, "database", database, "application_name", name, ""]
        self._socket.sendall(_framed(b"", struct.pack("!i", _PROTOCOL) + b"".join(w.encode() + b"\0" for w in words)))
        self.answer()

    def _read(self) -> tuple[bytes, bytes]:
        kind, length = struct.unpack("!ci", self._exactly(5))
        return kind, self._exactly(length - 4)

    def _exactly(self, count: int) -> bytes:
        read = self._stream.read(count)
        if len(read) < count:
            raise ConnectionResetError("the server closed the connection")
        return read


def _framed(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def _row(body: bytes) -> Row:
    (count,), at = struct.unpack_from("!h", body), 2
    values: list[str | None] = []
    for _ in range(count):
        (length,) = struct.unpack_from("!i", body, at)
        at += 4
        values.append(None if length < 0 else body[at : at + length].decode())
        at += max(length, 0)
    return tuple(values)


def _fields(body: bytes) -> dict[str, str]:
    return {field[:1].decode(): field[1:].decode() for field in body.split(b"\0") if field}


def _error(body: bytes) -> ServerError:
    fields = _fields(body)
    return ServerError(fields["C"], fields["M"])
