"""A bucket of an S3-compatible store with backups."""

import hashlib
import html
import os
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from discue.backup.archive import HEADER_BYTES, BackupUnusable, Header, parse_header
from discue.backup.destination import StoredBackup, StoredBackups, in_order, name_of, parse_name
from discue.backup.sigv4 import EMPTY_SHA256, AccessKey, UnsignedRequest, signed_headers
from discue.domain.clock import Clock
from discue.domain.connection_errors import connection_problem
from discue.domain.errors import DiscueError, SettingsInvalid
from discue.store.sqlite.snapshot import RequireRunning

SCHEME: Final = "s3://"

_TIMEOUT_SECONDS: Final = 60.0
_CHUNK_BYTES: Final = 1 << 20
_MAX_OBJECT_BYTES: Final = 5 * 10**9
"""Limit of S3 for an object that is stored by one request."""
_ERROR_BYTES: Final = 65_536
_SUCCESS: Final = (200, 204, 206)
_ENTRY: Final = re.compile(r"<Contents>(.*?)</Contents>", re.DOTALL)
_NEXT: Final = re.compile(r"<NextContinuationToken>([^<]+)</NextContinuationToken>")


class _Upload(NamedTuple):
    """The body of a request."""

    file: Path
    sha256: str


class Bucket:
    """`destination.Destination` on a bucket, or on the objects below a prefix of it.

    Requests name the bucket in their path, which all stores understand. A store keeps an object as a whole or not at
    all, and refuses a body that does not match its signed SHA-256.
    """

    def __init__(self, name: str, prefix: str, endpoint: str, *, access_key: AccessKey, clock: Clock) -> None:
        """`endpoint` is the base URL of the store."""
        self._name = name
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._endpoint = urlsplit(endpoint)
        self._access_key = access_key
        self._clock = clock

    def __str__(self) -> str:
        return f"{SCHEME}{self._name}/{self._prefix}".rstrip("/")

    @property
    def spool(self) -> None:
        return None

    def require(self) -> None:
        """Raise DiscueError if the bucket cannot be listed: better before the work than after it."""
        self._list({"max-keys": "1"})

    def contents(self, installation: str | None = None) -> StoredBackups:
        found, token = list[StoredBackup](), ""
        while True:
            page = self._list({"continuation-token": token} if token else {})
            for entry in _ENTRY.findall(page):
                key = html.unescape(_field(entry, "Key")).removeprefix(self._prefix)
                if (backup := parse_name(key, int(_field(entry, "Size") or 0))) is not None:
                    found.append(backup)
            more = _NEXT.search(page)
            if more is None:
                return StoredBackups(in_order(found, installation), [])
            token = html.unescape(more[1])

    def publish(self, file: Path, header: Header, require_running: RequireRunning) -> str:
        size = file.stat().st_size
        if size > _MAX_OBJECT_BYTES:
            raise DiscueError(f"The backup has {size:,} bytes, and {self} takes up to {_MAX_OBJECT_BYTES:,} at once.")
        upload = _Upload(file, _sha256_of(file, require_running))
        name = name_of(header)
        self._request("PUT", name, require_running=require_running, upload=upload).read()
        return self.where(name)

    @contextmanager
    def fetch(self, name: str, into: Path, require_running: RequireRunning) -> Iterator[Path]:
        path = into / f".{name}.{os.getpid()}.download"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file, self._request("GET", name) as response:
                while chunk := _read(response, _CHUNK_BYTES, self):
                    require_running()
                    file.write(chunk)
            yield path
        finally:
            path.unlink()

    def verify(self, backup: StoredBackup, require_running: RequireRunning) -> None:
        """Check that an object begins like a backup and has its length. The store keeps checksums of the rest."""
        require_running()
        with self._request("GET", backup.name, headers={"range": f"bytes=0-{HEADER_BYTES - 1}"}) as response:
            line = _read(response, HEADER_BYTES, self)
        parse_header(line, backup.size, self.where(backup.name))

    def delete(self, name: str) -> None:
        self._request("DELETE", name).read()

    def where(self, name: str) -> str:
        return f"{SCHEME}{self._name}/{self._prefix}{name}"

    def _list(self, query: Mapping[str, str]) -> str:
        response = self._request("GET", None, query={"list-type": "2", "prefix": self._prefix, **query})
        return response.read().decode(errors="replace")

    def _request(
        self,
        method: str,
        name: str | None,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        upload: _Upload | None = None,
        require_running: RequireRunning = lambda: None,
    ) -> HTTPResponse:
        """Return a successful response to a signed request for an object, or for the bucket. Raises DiscueError."""
        path = f"{self._endpoint.path.rstrip('/')}/{self._name}" + ("" if name is None else f"/{self._prefix}{name}")
        sha256 = EMPTY_SHA256 if upload is None else upload.sha256
        request = UnsignedRequest(method, self._endpoint.netloc, path, query or {}, headers or {}, sha256)
        signed = signed_headers(request, self._access_key, datetime.fromtimestamp(self._clock.now() / 1_000, UTC))
        signed["connection"] = "close"
        body = None if upload is None else _chunks(upload.file, require_running)
        if upload is not None:
            signed["content-length"] = str(upload.file.stat().st_size)
        connection = self._connection()
        try:
            response = _response_to(connection, request, body, signed)
        except (OSError, HTTPException) as error:
            connection.close()
            raise DiscueError(
                f"{self} cannot be reached at {self._endpoint.netloc}: {self._problem(error)}."
            ) from error
        if response.status not in _SUCCESS:
            xml = response.read(_ERROR_BYTES).decode(errors="replace")
            code, message = _field(xml, "Code"), html.unescape(_field(xml, "Message"))
            connection.close()
            raise DiscueError(f"{self} refused {method} with {response.status} {code}: {message or response.reason}")
        return response

    def _problem(self, error: OSError | HTTPException) -> str:
        if isinstance(error, OSError):
            return connection_problem(error, self._endpoint.hostname or "")
        return str(error) or type(error).__name__

    def _connection(self) -> HTTPConnection:
        host, port = self._endpoint.hostname or "", self._endpoint.port
        if self._endpoint.scheme == "http":
            return HTTPConnection(host, port, timeout=_TIMEOUT_SECONDS, blocksize=_CHUNK_BYTES)
        return HTTPSConnection(
            host, port, timeout=_TIMEOUT_SECONDS, blocksize=_CHUNK_BYTES, context=ssl.create_default_context()
        )


def bucket_of(text: str, environ: Mapping[str, str], clock: Clock) -> Bucket:
    """Return the bucket of a URL such as s3://bucket/prefix, with the variables that all S3 clients read.

    Raises SettingsInvalid.
    """
    name, _, prefix = text.removeprefix(SCHEME).partition("/")
    missing = [each for each in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY") if not environ.get(each)]
    if not name or missing:
        raise SettingsInvalid(
            f"{text} needs {' and '.join(missing)} in the environment." if name else f"{text} names no bucket."
        )
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    endpoint = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
    access_key = AccessKey(
        environ["AWS_ACCESS_KEY_ID"],
        environ["AWS_SECRET_ACCESS_KEY"],
        environ.get("AWS_SESSION_TOKEN", ""),
        region,
    )
    return Bucket(name, prefix, endpoint or f"https://s3.{region}.amazonaws.com", access_key=access_key, clock=clock)


def _response_to(
    connection: HTTPConnection, request: UnsignedRequest, body: Iterator[bytes] | None, headers: Mapping[str, str]
) -> HTTPResponse:
    try:
        connection.request(request.method, request.target, body, dict(headers))
    except (BrokenPipeError, ConnectionResetError):
        # The store may have refused the request before it has read the body: its response says why.
        return connection.getresponse()
    return connection.getresponse()


def _read(response: HTTPResponse, size: int, bucket: Bucket) -> bytes:
    try:
        return response.read(size)
    except (OSError, HTTPException) as error:
        reason = connection_problem(error) if isinstance(error, OSError) else str(error) or type(error).__name__
        raise BackupUnusable(f"{bucket} stopped sending: {reason}.") from error


def _chunks(path: Path, require_running: RequireRunning) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            require_running()
            yield chunk


def _sha256_of(path: Path, require_running: RequireRunning) -> str:
    digest = hashlib.sha256()
    for chunk in _chunks(path, require_running):
        digest.update(chunk)
    return digest.hexdigest()


def _field(xml: str, name: str) -> str:
    """Return the text of the first element of a name; "" if there is none."""
    found = re.search(f"<{name}>([^<]*)</{name}>", xml)
    return found[1] if found else ""
