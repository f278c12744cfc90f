"""A small S3-compatible store on loopback. It is strict: it accepts no request whose signature or content is wrong."""

import hashlib
import hmac
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

ACCESS_KEY_ID = "AKIDEXAMPLE"
SECRET_ACCESS_KEY = "secret/with+signs="
REGION = "eu-central-1"

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/s3/aws4_request, "
    r"SignedHeaders=([^,]+), Signature=([0-9a-f]{64})"
)
_PER_PAGE = 2
_CHUNK_BYTES = 4_096


class FakeS3:
    """The store: its objects by bucket and key, and faults to come."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.breaks_after: int | None = None
        """Number of bytes of a body after which the connection ends, in uploads and downloads."""
        self.is_down = False
        self.is_down_after = ""
        """Method of the request after which the store is down."""
        store = self

        class Handler(_Handler):
            s3 = store

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def environ(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.url,
        }


@contextmanager
def serving_s3() -> Iterator[FakeS3]:
    store = FakeS3()
    thread = threading.Thread(target=store.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield store
    finally:
        store.server.shutdown()
        thread.join()
        store.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    s3: FakeS3
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        length = int(self.headers["content-length"])
        body = b""
        while len(body) < length:
            if self.s3.breaks_after is not None and len(body) >= self.s3.breaks_after:
                self.connection.close()
                self.close_connection = True
                return
            body += self.rfile.read(min(_CHUNK_BYTES, length - len(body)))
        if self._accepts(body):
            self.s3.objects[self._key()] = body
            self._answer(200)

    def do_GET(self) -> None:
        if not self._accepts(b""):
            return
        parts = urlsplit(self.path)
        if parts.query:
            self._list(self._key(), dict(parse_qsl(parts.query, keep_blank_values=True)))
            return
        content = self.s3.objects.get(self._key())
        if content is None:
            self._refuse(404, "NoSuchKey", "The specified key does not exist.")
            return
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("range", ""))
        if found is not None:
            self._answer(206, content[int(found[1]) : int(found[2]) + 1])
        else:
            self._answer(200, content)

    def do_DELETE(self) -> None:
        if self._accepts(b""):
            self.s3.objects.pop(self._key(), None)
            self._answer(204)

    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).removeprefix("/")

    def _list(self, bucket: str, query: dict[str, str]) -> None:
        assert query.get("list-type") == "2"
        if bucket != "bucket":
            self._refuse(404, "NoSuchBucket", "The specified bucket does not exist")
            return
        prefix = f"{bucket}/{query['prefix']}"
        keys = [key for key in sorted(self.s3.objects) if key.startswith(prefix)]
        keys = [key for key in keys if key > query.get("continuation-token", "")]
        most = min(_PER_PAGE, int(query.get("max-keys", _PER_PAGE)))
        entries = "".join(
            f"<Contents><Key>{escape(key.removeprefix('bucket/'))}</Key><LastModified>2026-07-01T03:00:00.000Z</LastModified>"
            f"<Size>{len(self.s3.objects[key])}</Size></Contents>"
            for key in keys[:most]
        )
        more = "<IsTruncated>false</IsTruncated>"
        if len(keys) > most:
            token = escape(keys[most - 1])
            more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>"
        self._answer(200, f"<?xml version='1.0'?><ListBucketResult>{entries}{more}</ListBucketResult>".encode())

    def _accepts(self, body: bytes) -> bool:
        """Whether the request is signed with the key, and has the content that was signed."""
        self.s3.requests.append(f"{self.command} {self.path}")
        if self.s3.is_down:
            self._refuse(503, "SlowDown", "Please reduce your request rate.")
        elif self.headers["x-amz-content-sha256"] != hashlib.sha256(body).hexdigest():
            self._refuse(400, "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match.")
        elif not self._is_signed():
            self._refuse(403, "SignatureDoesNotMatch", "The request signature we calculated does not match.")
        else:
            self.s3.is_down = self.command == self.s3.is_down_after
            return True
        return False

    def _is_signed(self) -> bool:
        found = _AUTHORIZATION.fullmatch(self.headers.get("authorization", ""))
        if found is None or found[1] != ACCESS_KEY_ID or found[3] != REGION:
            return False
        day, names = found[2], found[4].split(";")
        if not {"host", "x-amz-content-sha256", "x-amz-date"} <= set(names) or names != sorted(names):
            return False
        parts = urlsplit(self.path)
        pairs = sorted(
            f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}"
            for name, value in parse_qsl(parts.query, keep_blank_values=True)
        )
        lines = [f"{name}:{self.headers[name].strip()}\n" for name in names]
        canonical = (
            f"{self.command}\n{parts.path}\n{'&'.join(pairs)}\n{''.join(lines)}\n{found[4]}\n"
            f"{self.headers['x-amz-content-sha256']}"
        )
        key = f"AWS4{SECRET_ACCESS_KEY}".encode()
        for part in (day, REGION, "s3", "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{self.headers['x-amz-date']}\n{day}/{REGION}/s3/aws4_request\n{digest}"
        return hmac.compare_digest(hmac.new(key, text.encode(), hashlib.sha256).hexdigest(), found[5])

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>".encode())

    def _answer(self, status: int, content: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        if self.command == "GET" and self.s3.breaks_after is not None and status == 200:
            content = content[: self.s3.breaks_after]
            self.close_connection = True
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass
