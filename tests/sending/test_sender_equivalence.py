"""The sender answers as aiohttp does, whatever a server does; where it does not, the reason is here."""

import asyncio
from typing import NamedTuple

import aiohttp
import pytest

from discue.sending.response import SenderLimits
from tests.support.attempts import a_sender, attempt, request_to
from tests.support.scripted_server import CLOSE, HANG, READ, READ_HEAD, RESET, Drip, Script, ScriptedServer

TIMEOUT_MS = 600
EXCERPT_BYTES = 16_384
OK = b"HTTP/1.1 200 OK\r\n"


def ok(headers: str = "", body: bytes = b"") -> bytes:
    return OK + headers.replace("\n", "\r\n").encode("latin-1") + b"\r\n" + body


def sized(body: bytes, status: str = "200 OK", version: str = "1.1") -> bytes:
    return f"HTTP/{version} {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def chunked(body: bytes, headers: str = "") -> bytes:
    return ok(f"Transfer-Encoding: chunked\n{headers}", body)


# `test_classify` has all statuses; these are the ones that clients of HTTP treat in a way of their own.
STATUSES = [
    "200 OK",
    "205 Reset Content",
    "206 Partial Content",
    "300 Multiple",
    "302 Found",
    "308 Permanent",
    "401 Unauthorized",
    "408 Timeout",
    "599 Last",
    "600 Beyond",
    "999 Linked",
]

CASES: dict[str, Script] = {f"status {status}": (READ, sized(b"body", status)) for status in STATUSES}
CASES |= {
    # Framing
    "no body, length 0": (READ, ok("Content-Length: 0\n")),
    "204 without length": (READ, b"HTTP/1.1 204 No Content\r\n\r\n"),
    "204 with a length and no body": (READ, b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"),
    "304 with a length and no body": (READ, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
    "until close": (READ, ok("", b"until close"), CLOSE),
    "until close, empty": (READ, ok(), CLOSE),
    "until close, error": (READ, b"HTTP/1.1 500 Oh\r\n\r\nno length", CLOSE),
    "until close, with Connection: close": (READ, ok("Connection: close\n", b"bye"), CLOSE),
    "length and Connection: close": (READ, ok("Connection: close\nContent-Length: 3\n", b"bye"), CLOSE),
    "length and Connection: close, stays open": (READ, ok("Connection: close\nContent-Length: 3\n", b"bye")),
    "length, and closes without saying": (READ, sized(b"bye"), CLOSE),
    "HTTP/1.0 with length": (READ, sized(b"old", version="1.0")),
    "HTTP/1.0 until close": (READ, b"HTTP/1.0 200 OK\r\n\r\nold", CLOSE),
    "HTTP/1.0 keep-alive": (READ, b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nold"),
    "one chunk": (READ, chunked(b"4\r\nbody\r\n0\r\n\r\n")),
    "three chunks": (READ, chunked(b"1\r\na\r\n2\r\nbc\r\n3\r\ndef\r\n0\r\n\r\n")),
    "no chunk": (READ, chunked(b"0\r\n\r\n")),
    "chunk size in upper-case hex": (READ, chunked(b"A\r\n0123456789\r\n0\r\n\r\n")),
    "chunk size in lower-case hex": (READ, chunked(b"a\r\n0123456789\r\n0\r\n\r\n")),
    "chunk size with leading zeros": (READ, chunked(b"0004\r\nbody\r\n0\r\n\r\n")),
    "chunk with an extension": (READ, chunked(b'4;name=value;other="x"\r\nbody\r\n0\r\n\r\n')),
    "chunk size followed by a space": (READ, chunked(b"4 \r\nbody\r\n0\r\n\r\n")),
    "trailers": (READ, chunked(b"4\r\nbody\r\n0\r\nX-Sum: 1\r\nX-Other: 2\r\n\r\n", "Trailer: X-Sum\n")),
    "chunked in upper case": (READ, ok("TRANSFER-ENCODING: CHUNKED\n", b"4\r\nbody\r\n0\r\n\r\n")),
    "gzip, chunked": (READ, ok("Transfer-Encoding: gzip, chunked\n", b"4\r\nbody\r\n0\r\n\r\n")),
    "chunked, then gzip until close": (READ, ok("Transfer-Encoding: chunked, gzip\n", b"4\r\nbody"), CLOSE),
    "identity encoding until close": (READ, ok("Transfer-Encoding: identity\n", b"body"), CLOSE),
    "bad chunk size": (READ, chunked(b"zz\r\nbody\r\n0\r\n\r\n")),
    "negative chunk size": (READ, chunked(b"-4\r\nbody\r\n0\r\n\r\n")),
    "chunk size too large for 64 bits": (READ, chunked(b"fffffffffffffffff\r\nbody\r\n0\r\n\r\n")),
    "chunk longer than its size": (READ, chunked(b"2\r\nbody\r\n0\r\n\r\n")),
    "chunk shorter than its size": (READ, chunked(b"5\r\nbody\r\n0\r\n\r\n"), CLOSE),
    "chunks without an end": (READ, chunked(b"4\r\nbody\r\n"), CLOSE),
    "chunks without the last line": (READ, chunked(b"4\r\nbody\r\n0\r\n"), CLOSE),
    "length and chunked": (READ, chunked(b"4\r\nbody\r\n0\r\n\r\n", "Content-Length: 4\n")),
    "length twice, same": (READ, ok("Content-Length: 4\nContent-Length: 4\n", b"body")),
    "length twice, different": (READ, ok("Content-Length: 4\nContent-Length: 5\n", b"bodyx")),
    "length as a list": (READ, ok("Content-Length: 4, 4\n", b"body")),
    "length negative": (READ, ok("Content-Length: -4\n", b"body")),
    "length with a plus": (READ, ok("Content-Length: +4\n", b"body")),
    "length in hex": (READ, ok("Content-Length: 0x4\n", b"body")),
    "length empty": (READ, ok("Content-Length: \n", b"body")),
    "length with blanks around": (READ, ok("Content-Length:   4  \n", b"body")),
    "length too large for 64 bits": (READ, ok("Content-Length: 99999999999999999999\n", b"body")),
    "body shorter than its length": (READ, ok("Content-Length: 10\n", b"body"), CLOSE),
    "body of 100 kB": (READ, sized(b"0123456789" * 10_000)),
    "chunked body of 100 kB": (READ, chunked(b"186a0\r\n" + b"0123456789" * 10_000 + b"\r\n0\r\n\r\n")),
    "body that says it is gzip and is not": (READ, ok("Content-Encoding: gzip\nContent-Length: 4\n", b"body")),
    "body of bytes that are no text": (READ, sized(bytes(range(256)))),
    # Heads
    "header names in upper case": (READ, ok("CONTENT-LENGTH: 4\n", b"body")),
    "header names in lower case": (READ, ok("content-length: 4\n", b"body")),
    "no blank after the colon": (READ, ok("Content-Length:4\n", b"body")),
    "a blank before the colon": (READ, ok("Content-Length : 4\n", b"body")),
    "a header without a colon": (READ, ok("nothing here\nContent-Length: 4\n", b"body")),
    "a header without a name": (READ, ok(": value\nContent-Length: 4\n", b"body")),
    "a header without a value": (READ, ok("X-Empty:\nContent-Length: 4\n", b"body")),
    "a folded header": (READ, ok("X-Long: one\n two\nContent-Length: 4\n", b"body")),
    "a first header that is folded": (READ, ok(" X-Odd: one\nContent-Length: 4\n", b"body")),
    "a header with Latin-1": (READ, ok("X-Name: caf\xe9\nContent-Length: 4\n", b"body")),
    "a header with UTF-8": (READ, ok("X-Name: \xc3\xa9\xf0\x9f\nContent-Length: 4\n", b"body")),
    "a header with a zero byte": (READ, ok("X-Name: a\x00b\nContent-Length: 4\n", b"body")),
    "a header with a control character": (READ, ok("X-Name: a\x07b\nContent-Length: 4\n", b"body")),
    "a header with a bare carriage return": (READ, ok("X-Name: a\rb\nContent-Length: 4\n", b"body")),
    "a header name with a control character": (READ, ok("X\x01Name: a\nContent-Length: 4\n", b"body")),
    "bare line feeds": (READ, b"HTTP/1.1 200 OK\nContent-Length: 4\n\nbody"),
    "bare carriage returns": (READ, b"HTTP/1.1 200 OK\rContent-Length: 4\r\rbody"),
    "an empty line before the status": (READ, b"\r\n" + sized(b"body")),
    "no reason": (READ, b"HTTP/1.1 200\r\nContent-Length: 4\r\n\r\nbody"),
    "no reason, one blank": (READ, b"HTTP/1.1 200 \r\nContent-Length: 4\r\n\r\nbody"),
    "a reason of several words": (READ, sized(b"body", "200 It's all right, really")),
    "a reason with UTF-8": (READ, sized(b"body", "200 très bien")),
    "status of two digits": (READ, sized(b"body", "20 OK")),
    "status of four digits": (READ, sized(b"body", "2000 OK")),
    "status that is no number": (READ, sized(b"body", "abc OK")),
    "status with a sign": (READ, sized(b"body", "+20 OK")),
    "status 000": (READ, sized(b"body", "000 Nothing")),
    "status 099": (READ, sized(b"body", "099 Low")),
    "two blanks before the status": (READ, b"HTTP/1.1  200 OK\r\nContent-Length: 4\r\n\r\nbody"),
    "lower-case protocol": (READ, b"http/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"),
    "HTTP/2.0 on the line": (READ, sized(b"body", version="2.0")),
    "HTTP/0.9": (READ, b"<html>hello</html>", CLOSE),
    "HTTP/1.2": (READ, sized(b"body", version="1.2")),
    "HTTP/9.9": (READ, sized(b"body", version="9.9")),
    "ICY": (READ, b"ICY 200 OK\r\nContent-Length: 4\r\n\r\nbody"),
    "a TLS alert": (READ, b"\x15\x03\x01\x00\x02\x02\x28", CLOSE),
    "garbage": (READ, bytes(range(256)) * 4, CLOSE),
    "zero bytes": (READ, bytes(64), CLOSE),
    "many headers": (READ, ok("".join(f"X-{i}: {i}\n" for i in range(90)) + "Content-Length: 4\n", b"body")),
    "a header of 30 kB": (READ, ok(f"X-Long: {'x' * 30_000}\nContent-Length: 4\n", b"body")),
    "a header of 100 kB": (READ, ok(f"X-Long: {'x' * 100_000}\nContent-Length: 4\n", b"body")),
    "a reason of 100 kB": (READ, sized(b"body", "200 " + "x" * 100_000)),
    "headers that end with the connection": (READ, OK + b"Content-Length: 4\r\n", CLOSE),
    "a status line that ends with the connection": (READ, b"HTTP/1.1 20", CLOSE),
    # Interim answers
    "100 first": (READ, b"HTTP/1.1 100 Continue\r\n\r\n" + sized(b"body")),
    "100 after the head": (READ_HEAD, b"HTTP/1.1 100 Continue\r\n\r\n", sized(b"body")),
    "102, 103 and 103 first": (
        READ,
        b"HTTP/1.1 102 Wait\r\n\r\n",
        b"HTTP/1.1 103 Early\r\nLink: </x>\r\n\r\n" * 2,
        sized(b"body"),
    ),
    "100 and nothing else": (READ, b"HTTP/1.1 100 Continue\r\n\r\n", CLOSE),
    "199 first": (READ, b"HTTP/1.1 199 Odd\r\n\r\n" + sized(b"body")),
    "101, switching to something": (
        READ,
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nxyz",
        CLOSE,
    ),
    "200 with Upgrade": (READ, ok("Upgrade: h2c\nConnection: upgrade\nContent-Length: 4\n", b"body")),
    # Leftovers
    "a second response": (READ, sized(b"body") + sized(b"more", "500 Surplus")),
    "garbage after the response": (READ, sized(b"body") + b"\x00\x01garbage"),
    "line ends after the response": (READ, sized(b"body") + b"\r\n\r\n"),
    "a body after 204": (READ, b"HTTP/1.1 204 No Content\r\n\r\nbody"),
    "more than the length": (READ, ok("Content-Length: 2\n", b"body")),
    # Timing and endings
    "a response before the request was read": (sized(b"early", "400 Early"), HANG),
    "success before the request was read": (sized(b"early"), HANG),
    "a response after the head": (READ_HEAD, sized(b"early"), HANG),
    "closes after the head": (READ_HEAD, CLOSE),
    "resets at once": (RESET,),
    "resets in the middle of the head": (READ, b"HTTP/1.1 200 OK\r\nCont", RESET),
    "resets in the middle of a chunk": (READ, chunked(b"5\r\nbo"), RESET),
    "resets instead of ending": (READ, ok("", b"body"), RESET),
    "resets after the response": (READ, sized(b"body"), RESET),
    "head in two parts": (READ, b"HTTP/1.1 2", b"00 OK\r\nContent-Length: 4\r\n\r\nbody"),
    "body in two parts": (READ, ok("Content-Length: 4\n", b"bo"), b"dy"),
    # Silence; `test_endless_response_times_out_never_early` has more
    "a head without a length, then nothing": (READ, ok(), HANG),
    "half a chunk, then nothing": (READ, chunked(b"5\r\nbo"), HANG),
    "chunks that drip": (READ, chunked(b""), Drip(b"1\r\nx\r\n")),
    "a short answer that drips": (READ, Drip(ok("Content-Length: 2\n", b"ok"), seconds_apart=0.001)),
}

# Responses that aiohttp rejects and the sender accepts. The status of each is 2xx: if the attempt failed, the listener
# would only receive the message again.
DIFFERENT = {
    "a header with a zero byte": "nothing of the header is used, and the connection's framing is not in doubt",
    "garbage after the response": "the response was complete; the connection is not reused",
    "a body after 204": "the response was complete; the connection is not reused",
    "more than the length": "the response was complete; the connection is not reused",
}


class Seen(NamedTuple):
    """The result of a client. `status` is 0 if it read none."""

    acknowledged: bool
    status: int
    excerpt: bytes


async def with_sender(script: Script) -> Seen:
    async with ScriptedServer([script]) as server, a_sender(limits=SenderLimits()) as sender:
        outcome = await attempt(sender, request_to(server.url, timeout_ms=TIMEOUT_MS))
        assert server.connections == 1
    return Seen(outcome.acknowledged, outcome.status, outcome.excerpt if outcome.acknowledged else b"")


async def with_aiohttp(script: Script) -> Seen:
    status = 0
    async with (
        ScriptedServer([script]) as server,
        aiohttp.ClientSession(
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_MS / 1_000),
            max_line_size=65_536,
            max_field_size=65_536,
        ) as session,
    ):
        try:
            async with session.post(server.url, data=b"{}", allow_redirects=False) as response:
                status = response.status
                body = await response.read()
        except (aiohttp.ClientError, OSError, ValueError):
            return Seen(acknowledged=False, status=status, excerpt=b"")
    acknowledged = 200 <= status < 300
    return Seen(acknowledged, status, body[:EXCERPT_BYTES] if acknowledged else b"")


async def both(script: Script) -> tuple[Seen, Seen]:
    ours, theirs = await asyncio.gather(with_sender(script), with_aiohttp(script))
    if not ours.status or not theirs.status:
        ours, theirs = ours._replace(status=0), theirs._replace(status=0)
    return ours, theirs


def test_equivalence_suite_has_more_than_a_hundred_cases() -> None:
    assert len(CASES) >= 100
    assert set(DIFFERENT) <= set(CASES)


@pytest.mark.parametrize("name", [name for name in CASES if name not in DIFFERENT])
async def test_outcome_equals_that_of_aiohttp(name: str) -> None:
    ours, theirs = await both(CASES[name])
    assert ours == theirs


@pytest.mark.parametrize("name", DIFFERENT)
async def test_deliberate_difference_from_aiohttp_still_exists(name: str) -> None:
    ours, theirs = await both(CASES[name])
    assert ours != theirs, f"no longer different: {DIFFERENT[name]}"
