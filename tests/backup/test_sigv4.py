"""Signatures of requests, compared with the examples that AWS publishes for S3."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from discue.backup.sigv4 import AccessKey, UnsignedRequest, signed_headers

_AT = datetime(2013, 5, 24, tzinfo=UTC)
_ACCESS_KEY = AccessKey("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "", "us-east-1")
_HOST = "examplebucket.s3.amazonaws.com"
_STORED = {"date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"}
_CONTENT = hashlib.sha256(b"Welcome to Amazon S3.").hexdigest()


@pytest.mark.parametrize(
    ("request_", "signature"),
    [
        (
            UnsignedRequest("GET", _HOST, "/test.txt", headers={"Range": "bytes=0-9"}),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            UnsignedRequest("PUT", _HOST, "/test$file.text", headers=_STORED, content_sha256=_CONTENT),
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        (
            UnsignedRequest("GET", _HOST, "/", {"lifecycle": ""}),
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            UnsignedRequest("GET", _HOST, "/", {"prefix": "J", "max-keys": "2"}),
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
    ids=["get", "put", "subresource", "list"],
)
def test_signature_is_that_of_the_published_example(request_: UnsignedRequest, signature: str) -> None:
    signed = signed_headers(request_, _ACCESS_KEY, _AT)

    assert signed["authorization"].endswith(f",Signature={signature}")


def test_session_token_is_signed() -> None:
    signed = signed_headers(UnsignedRequest("GET", _HOST, "/"), _ACCESS_KEY._replace(session_token="token"), _AT)

    assert signed["x-amz-security-token"] == "token"
    assert ";x-amz-security-token," in signed["authorization"]


@pytest.mark.parametrize(
    ("query", "target"),
    [({}, "/b/a%20b/%C3%BC%2B"), ({"b": "x/y", "a": "1 2"}, "/b/a%20b/%C3%BC%2B?a=1%202&b=x%2Fy")],
)
def test_paths_and_queries_are_encoded_as_they_are_signed(query: Mapping[str, str], target: str) -> None:
    assert UnsignedRequest("GET", _HOST, "/b/a b/ü+", query).target == target


def test_repr_of_credentials_shows_no_secret() -> None:
    assert _ACCESS_KEY.secret_access_key not in repr(_ACCESS_KEY)
