"""AWS Signature Version 4, with which requests to S3-compatible stores are signed."""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Final, NamedTuple
from urllib.parse import quote

EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest()

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_SERVICE: Final = "s3"


class AccessKey(NamedTuple):
    """An access key, and the region that it is used in."""

    access_key_id: str
    secret_access_key: str
    session_token: str
    """The token of a temporary access key; "" for others."""
    region: str

    def __repr__(self) -> str:
        return f"AccessKey({self.access_key_id!r})"


class UnsignedRequest(NamedTuple):
    """A request before it is signed. `path` and `query` are not encoded."""

    method: str
    host: str
    path: str
    query: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    content_sha256: str = EMPTY_SHA256

    @property
    def target(self) -> str:
        """The encoded path and query."""
        query = self.encoded_query
        return f"{self.encoded_path}?{query}" if query else self.encoded_path

    @property
    def encoded_path(self) -> str:
        return quote(self.path, safe="/-_.~")

    @property
    def encoded_query(self) -> str:
        pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in self.query.items())
        return "&".join(f"{name}={value}" for name, value in pairs)


def signed_headers(request: UnsignedRequest, access_key: AccessKey, at: datetime) -> dict[str, str]:
    """Return the headers of a request, with its signature. `at` is the time in UTC."""
    stamp, day = at.strftime("%Y%m%dT%H%M%SZ"), at.strftime("%Y%m%d")
    headers = {name.lower(): value for name, value in request.headers.items()}
    headers |= {"host": request.host, "x-amz-content-sha256": request.content_sha256, "x-amz-date": stamp}
    if access_key.session_token:
        headers["x-amz-security-token"] = access_key.session_token
    names = ";".join(sorted(headers))
    canonical = "\n".join(
        [
            request.method,
            request.encoded_path,
            request.encoded_query,
            *(f"{name}:{' '.join(headers[name].split())}" for name in sorted(headers)),
            "",
            names,
            request.content_sha256,
        ]
    )
    scope = f"{day}/{access_key.region}/{_SERVICE}/aws4_request"
    text = "\n".join([_ALGORITHM, stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{access_key.secret_access_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    access = f"{access_key.access_key_id}/{scope}"
    headers["authorization"] = f"{_ALGORITHM} Credential={access},SignedHeaders={names},Signature={signature}"
    return headers
