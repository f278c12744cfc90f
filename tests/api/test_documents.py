"""Documents with the URL of the service: the same content compressed or not, for every URL."""

import gzip
import zlib

import pytest

from discue.api.openapi.rendered import RenderedDocument
from discue.http.negotiation import accepts_gzip
from tests.support.served_api import Cast

PARTS = ([b"only"], [b"before ", b" after"], [b"", b" between ", b""], [b"a" * 100_000, b"b" * 70_000, b"a" * 100_000])


@pytest.mark.parametrize("url", [b"http://x", b"https://" + b"long." * 60 + b"example.com/v1"])
@pytest.mark.parametrize("parts", PARTS)
def test_compressed_document_is_the_plain_one(parts: list[bytes], url: bytes) -> None:
    document = RenderedDocument(b"{theme}" + b"{url}".join(parts), (b"{url}", b"{theme}"))
    values = url, b"dark"
    compressed = document.gzipped(values)
    assert document.plain(values) == b"dark" + url.join(parts)
    assert gzip.decompress(compressed) == document.plain(values)
    # One member, so that clients which read only the first read all.
    reader = zlib.decompressobj(zlib.MAX_WBITS | 16)
    assert reader.decompress(compressed) == document.plain(values)
    assert reader.eof
    assert not reader.unused_data


@pytest.mark.parametrize("path", ["/docs/api", "/openapi.json", "/v1/docs/api", "/docs/settings"])
def test_documents_are_compressed_for_clients_that_accept_gzip(cast: Cast, path: str) -> None:
    plain = cast.nobody.get(path, headers={"accept-encoding": "identity"})
    compressed = cast.nobody.get(path, headers={"accept-encoding": "br, gzip;q=0.5"})
    assert "content-encoding" not in plain.headers
    assert compressed.headers["content-encoding"] == "gzip"
    # A ratio: the documents grow with every page.
    assert 2 * int(compressed.headers["content-length"]) < int(plain.headers["content-length"])
    assert compressed.content == plain.content
    varies = "accept-encoding" if path.endswith(".json") else "accept-encoding, cookie"
    assert {plain.headers["vary"], compressed.headers["vary"]} == {varies}


def test_document_names_the_host_of_each_request(cast: Cast) -> None:
    hosts = ["one.example", "two.example:8080", "[::1]:1"]
    for host in hosts:
        assert cast.nobody.get("/openapi.json", headers={"host": host}).json()["servers"] == [{"url": f"http://{host}"}]
        assert f"URL=http://{host}\n" in cast.nobody.get("/docs/api", headers={"host": host}).text


def test_indented_document_is_not_compressed(cast: Cast) -> None:
    answer = cast.nobody.get("/openapi.json?pretty=true", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in answer.headers
    assert answer.text.startswith('{\n  "openapi"')


@pytest.mark.parametrize("header", ["gzip", "GZIP", "deflate, gzip;q=0.1", "*"])
def test_client_accepts_gzip(header: str) -> None:
    assert accepts_gzip(header)


@pytest.mark.parametrize("header", ["", "identity", "br", "gzip;q=0", "gzip; q=0.000", "gzipped"])
def test_client_does_not_accept_gzip(header: str) -> None:
    assert not accepts_gzip(header)
