"""A bucket of an S3-compatible store with backups. Import it only where there is a bucket: it needs the extra `s3`."""

import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from discue.backup.archive import HEADER_BYTES, Header, parse_header
from discue.backup.destination import SCHEME, StoredBackup, StoredBackups, in_order, name_of, parse_name
from discue.domain.connection_errors import connection_problem
from discue.domain.errors import DiscueError, SettingsInvalid

_CHUNK_BYTES: Final = 1 << 20
_MAX_OBJECT_BYTES: Final = 5 * 10**9
"""Limit of S3 for an object that is stored by one request."""
_CONFIG: Final = Config(
    connect_timeout=60,
    read_timeout=60,
    # A backup that failed is made again within a minute.
    retries={"total_max_attempts": 1},
    # Checksums that stores other than AWS may not know: the signature covers the SHA-256 of the content.
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
    proxies={},
    s3={"addressing_style": "path", "payload_signing_enabled": True},
)


class Bucket:
    """A bucket with backups, or the objects below a prefix of a bucket. It has the methods of a `Folder`.

    Requests have the bucket in their path, which all stores support. A store keeps an object completely or not at all,
    and rejects a body that does not match its signed SHA-256.
    """

    path: Final = None
    """None, because new backups cannot be written to a bucket directly, as they can to a folder."""

    def __init__(self, text: str, environ: Mapping[str, str]) -> None:
        """Take a URL such as s3://bucket/prefix, and the variables that all S3 clients read."""
        self._name, _, prefix = text.removeprefix(SCHEME).partition("/")
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        try:
            self._client = Session().create_client(
                "s3",
                region_name=environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "us-east-1",
                endpoint_url=environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL") or None,
                aws_access_key_id=environ["AWS_ACCESS_KEY_ID"],
                aws_secret_access_key=environ["AWS_SECRET_ACCESS_KEY"],
                aws_session_token=environ.get("AWS_SESSION_TOKEN") or None,
                verify=_authorities(environ),
                config=_CONFIG,
            )
        except (BotoCoreError, ValueError) as error:
            raise SettingsInvalid(f"{text} cannot be used: {error}") from error
        self._endpoint = urlsplit(self._client.meta.endpoint_url)

    def __str__(self) -> str:
        return f"{SCHEME}{self._name}/{self._prefix}".rstrip("/")

    def require(self) -> None:
        """Raise DiscueError if the bucket cannot be listed: better before the work than after it."""
        with self._explained():
            self._client.list_objects_v2(Bucket=self._name, Prefix=self._prefix, MaxKeys=1)

    def contents(self, installation: str | None = None) -> StoredBackups:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._name, Prefix=self._prefix)
        with self._explained():
            objects = [each for page in pages for each in page.get("Contents", ())]
        named = (parse_name(each["Key"].removeprefix(self._prefix), each["Size"]) for each in objects)
        return StoredBackups(in_order((backup for backup in named if backup is not None), installation), [])

    def publish(self, file: Path, header: Header) -> str:
        size, name = file.stat().st_size, name_of(header)
        if size > _MAX_OBJECT_BYTES:
            raise DiscueError(f"The backup has {size:,} bytes, and {self} takes up to {_MAX_OBJECT_BYTES:,} at once.")
        with self._explained(), file.open("rb") as body:
            self._client.put_object(**self._object(name), Body=body, ContentLength=size)
        return self.where(name)

    @contextmanager
    def fetch(self, name: str, into: Path) -> Iterator[Path]:
        path = into / f".{name}.{os.getpid()}.download"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                with self._explained():
                    found = self._client.get_object(**self._object(name))
                with self._explained("stopped sending"):
                    file.writelines(found["Body"].iter_chunks(_CHUNK_BYTES))
            yield path
        finally:
            path.unlink()

    def verify(self, backup: StoredBackup) -> None:
        """Check that an object begins like a backup and has its length. The store keeps checksums of the rest."""
        with self._explained():
            found = self._client.get_object(**self._object(backup.name), Range=f"bytes=0-{HEADER_BYTES - 1}")
            line = found["Body"].read()
        parse_header(line, backup.size, self.where(backup.name))

    def delete(self, name: str) -> None:
        with self._explained():
            self._client.delete_object(**self._object(name))

    def where(self, name: str) -> str:
        return f"{SCHEME}{self._name}/{self._prefix}{name}"

    def _object(self, name: str) -> dict[str, Any]:
        return {"Bucket": self._name, "Key": f"{self._prefix}{name}"}

    @contextmanager
    def _explained(self, failure: str = "") -> Iterator[None]:
        """Raise DiscueError for errors of the library. `failure` says how a response is missing."""
        try:
            yield
        except ClientError as error:
            found, status = error.response["Error"], error.response["ResponseMetadata"]["HTTPStatusCode"]
            raise DiscueError(
                f"{self} refused {error.operation_name} with {status} {found['Code']}: {found['Message']}"
            ) from error
        except BotoCoreError as error:
            failure = failure or f"cannot be reached at {self._endpoint.netloc}"
            raise DiscueError(f"{self} {failure}: {_problem(error, self._endpoint.hostname)}.") from error


def _problem(error: BotoCoreError, host: str) -> str:
    """Return why a request has no response, or only a part of one, as a clause without a period."""
    # The library wraps errors of the system several times, some of them into errors that are an OSError, too.
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and not isinstance(cause, BotoCoreError):
            return connection_problem(cause, host)
        cause = cause.__cause__ or cause.__context__
    return str(error).rstrip(".")


def _authorities(environ: Mapping[str, str]) -> str | None:
    """Return the file of certification authorities; None for those that the library has.

    Like other programs of the system, and unlike the library by default, backups trust the authorities of the system.
    """
    paths = ssl.get_default_verify_paths()
    of_debian = Path(paths.capath or "/etc/ssl/certs", "ca-certificates.crt")
    found = environ.get("AWS_CA_BUNDLE") or paths.cafile
    return found or (str(of_debian) if of_debian.is_file() else None)
