"""Invalid requests: the documented status, a body that names the position, nothing stored, nothing leaked."""

import asyncio
import http.client
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from select import select
from typing import Any

import apsw
import httpx
import pytest

from discue.api.route import BATCH_BYTES
from discue.domain.errors import Overloaded
from discue.domain.message_data import JSON_VALUE
from discue.http import body
from discue.store.engine import Append, Appended, NewEntry
from tests.support.problems import pointers, problem
from tests.support.served_api import Cast, Service, cast_of, served

JSON = {"content-type": "application/json"}
DEADLINE_SECONDS = 0.2


@pytest.fixture
def _patient_with_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a client pause while it sends what is refused: on a busy machine, it waits for a processor."""
    monkeypatch.setattr(body, "_STALLED_SECONDS", 10.0)
    monkeypatch.setattr(body, "_DISCARD_SECONDS", 20.0)


def send(cast: Cast, path: str, content: bytes | str) -> httpx.Response:
    return cast.alice.post(path, content=content, headers=JSON)


def queue_count(cast: Cast) -> int:
    """Return the number of queues, not counting that of system events."""
    return len(cast.alice.get("/queues?per_page=100").json()["queues"]) - 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "too early"),
        (b"words", "byte 0"),
        (b'{"alias":"name",}', "trailing comma"),
        (b'{"alias":"\xff\xfe"}', "UTF-8 (byte 10)"),
        (b'{"alias":"\\ud800"}', r"\ud800 (byte 10) is half of a surrogate pair: send both halves"),
        (b'{"alias":"\\\\\\uD83D more"}', r"\uD83D (byte 12) is half of a surrogate pair"),
        (b'{"alias":"\\\\ud83d more', "too early"),
        (b'{"alias":"\\ud83d\\ude', "too early"),
        (b'\xef\xbb\xbf{"alias":"name"}', "byte 0"),
        (b'{"alias":"a\x01cd"}', "byte 11"),
        (b'{"alias":NaN}', "byte 9"),
        (b'{"schema":' + b"[" * 901 + b"]" * 901 + b"}", "deeply"),
        (b'{"schema":' + b'{"a":' * 901 + b"1" + b"}" * 902, "deeply"),
    ],
    ids=[
        "cut",
        "words",
        "comma",
        "utf-8",
        "surrogate",
        "after-backslash",
        "no-surrogate",
        "cut-pair",
        "bom",
        "control",
        "nan",
        "arrays",
        "objects",
    ],
)
def test_invalid_json_is_400_with_its_position(cast: Cast, content: bytes, says: str) -> None:
    found = problem(send(cast, "/queues", content), 400)
    assert says in found["detail"]
    assert queue_count(cast) == 0


def test_data_is_nested_900_levels_at_most_whatever_the_decoder_can_take(cast: Cast) -> None:
    queue = cast.alice.post("/queues", json={}).json()["queue"]["id"]
    deepest, too_deep = (b"[" * levels + b"]" * levels for levels in (900, 901))
    event = b'{"specversion":"1.0","id":"1","source":"/a","type":"b","data":%s}'
    media_type = {"content-type": "application/cloudevents+json"}
    path = f"/queues/{queue}/messages"

    shown = send(cast, path, b'{"data":%s}' % deepest).json()["message"]
    assert cast.alice.get(f"{path}/{shown['id']}").content.count(b"[") >= 900
    assert cast.alice.post(path, content=event % deepest, headers=media_type).status_code == 200
    for content, headers in ((b'{"data":%s}' % too_deep, JSON), (event % too_deep, media_type)):
        found = problem(cast.alice.post(path, content=content, headers=headers), 400)
        assert found["detail"] == "The body is nested too deeply: at most 900 levels are allowed."
    # A string is any text.
    assert send(cast, path, b'{"data":"%s"}' % too_deep).status_code == 200


@pytest.mark.parametrize(
    ("content", "pointer", "says"),
    [
        ('{"retenton":5}', "/retenton", "is not a known field; did you mean retention?"),
        ('{"a/b~c":5}', "/a~1b~0c", "is not a known field"),
        ('{"alias":5}', "/alias", "must be a string or null, not an integer"),
        ('{"alias":["x"]}', "/alias", "not an array"),
        ('{"retention":"5"}', "/retention", "must be an integer or null, not a string"),
        ('{"retention":1.5}', "/retention", "not a number"),
        ('{"retention":1e999}', "/retention", "out of range"),
        ('{"retention":' + "9" * 5_000 + "}", "/retention", "out of range"),
        ('{"retention":true}', "/retention", "not a boolean"),
        ("[]", "", "must be an object, not an array"),
        ('"text"', "", "must be an object, not a string"),
        ("null", "", "must be an object, not null"),
        ('{"alias":"name","alias":"other"}', "/alias", "occurs twice"),
        ('{"alias":"name","\\u0061lias":"other"}', "/alias", "occurs twice"),
        ('{"id":{"x":[{"y":1,"y":2}]}}', "/id/x/0/y", "occurs twice"),
    ],
)
def test_a_field_that_is_wrong_is_400_and_is_pointed_at(cast: Cast, content: str, pointer: str, says: str) -> None:
    found = problem(send(cast, "/queues", content), 400)
    assert pointers(found) == [pointer]
    assert says in found["errors"][0]["detail"]
    assert queue_count(cast) == 0


@pytest.mark.parametrize(
    "data", [b'"\xff"', b'{"a":"\xc3"}', b"01", b"1.", b'"\\q"', b'"\\udc00"', b'["\\ud800"]', b"[1,]", b"[" * 90_000]
)
def test_data_that_is_no_json_text_is_400(cast: Cast, data: bytes) -> None:
    queue = cast.queue()
    problem(send(cast, f"/queues/{queue}/messages", b'{"data":' + data + b"}"), 400)
    assert cast.alice.get(f"/queues/{queue}").json()["queue"]["messages"]["published_count"] == 0


@pytest.mark.parametrize(
    ("messages", "status", "pointer"),
    [
        ([{"data": 1}, {"dat": 1}], 400, "/messages/1/dat"),
        ([{"data": 1}, {}], 400, "/messages/1/data"),
        ([{"data": 1}, 5], 400, "/messages/1"),
        ([{"data": 1}, {"data": 1, "alias": "!"}], 422, "/messages/1/alias"),
        ([{"data": 1}, {"data": 1, "delay": -1}], 422, "/messages/1/delay"),
        ([{"data": 1}, {"data": "x" * 300_000}], 413, "/messages/1/data"),
        ({}, 400, "/messages"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_batch_is_stored_whole_or_not_at_all(cast: Cast, messages: Any, status: int, pointer: str) -> None:
    queue = cast.queue()
    answer = cast.alice.post(f"/queues/{queue}/messages/batch", json={"messages": messages})
    assert pointers(problem(answer, status)) == [pointer]
    assert cast.alice.get(f"/queues/{queue}").json()["queue"]["messages"]["published_count"] == 0


@pytest.mark.parametrize(
    "path",
    [
        "/v2/queues",
        "/v1/v1/queues",
        "//queues",
        "/queues/",
        "/queues//",
        "/queues/%00",
        "/queues/..%2fapi_keys",
        "/queues/%2e%2e/api_keys",
        "/queues/{queue}%00",
        "/queues/{queue}/messages/..",
        "/Queues",
        "/queues/{queue}/nothing",
        "/queues/short",
        "/caf%C3%A9",
        "/%ff",
        "/%zz",
        "/v1x/queues",
        "*",
        "/" + "a/" * 2_000,
    ],
)
def test_a_path_that_is_none_is_404(cast: Cast, service: Service, path: str) -> None:
    target = path.replace("{queue}", cast.queue())
    key = cast.alice.headers["x-api-key"]
    answer = service.raw(f"GET {target} HTTP/1.1\r\nHost: x\r\nX-API-KEY: {key}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404 Not Found")
    assert b'"title":"Not Found"' in answer


def test_too_many_headers_are_431(cast: Cast, service: Service) -> None:
    lines = "".join(f"x-{number}: y\r\n" for number in range(101))
    answer = service.raw(f"GET /queues HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("name", ["X-API-KEY", "Host", "Content-Type"])
def test_a_header_that_can_come_once_only_is_400_when_doubled(cast: Cast, service: Service, name: str) -> None:
    key = cast.alice.headers["x-api-key"]
    values = {"X-API-KEY": key, "Host": "x", "Content-Type": "application/json"}
    lines = "".join(f"{other}: {value}\r\n" for other, value in values.items())
    answer = service.raw(
        f"POST /queues HTTP/1.1\r\n{lines}{name}: {values[name]}\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    )
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert name.lower().encode() in answer
    assert queue_count(cast) == 0


@pytest.mark.parametrize("host", ["a b", "x/y", "user@x", "x:port", "<script>", "x" * 300])
def test_a_host_that_is_none_is_400_and_is_not_reflected(cast: Cast, service: Service, host: str) -> None:
    key = cast.alice.headers["x-api-key"]
    request = f"POST /queues HTTP/1.1\r\nHost: {host}\r\nX-API-KEY: {key}\r\nContent-Length: 0\r\n\r\n"
    answer = service.raw(request.encode())
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert host.encode() not in answer
    assert queue_count(cast) == 0


def announced(cast: Cast, path: str, length: int | str) -> bytes:
    key = cast.alice.headers["x-api-key"]
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nX-API-KEY: {key}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {length}\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("path", "length"),
    [
        ("/queues", 10_000_000),
        ("/queues", "9" * 19),
        ("/queues/{queue}/messages", 10_000_000),
        ("/queues/{queue}/messages/batch", BATCH_BYTES + 1),
        ("/queues/{queue}/listeners", 10_000_000),
    ],
)
def test_a_length_beyond_the_limit_is_413_before_the_body_is_read(
    cast: Cast, service: Service, path: str, length: int | str
) -> None:
    answer = service.raw(announced(cast, path.replace("{queue}", cast.queue()), length))
    assert answer.startswith(b"HTTP/1.1 413 Payload Too Large")
    assert b'"title":"Payload Too Large"' in answer


@pytest.mark.usefixtures("_patient_with_clients")
@pytest.mark.parametrize("kind", ["", "/{queue}/messages", "/{queue}/messages/batch"])
def test_10_mb_sent_in_pieces_are_413_where_the_limit_is_passed(cast: Cast, kind: str) -> None:
    path = "/queues" + kind.replace("{queue}", cast.queue())

    def pieces() -> Iterator[bytes]:
        yield b'{"data":"'
        for _ in range(10_000_000 // 16_384):
            yield b"x" * 16_384

    problem(cast.alice.post(path, content=pieces(), headers=JSON), 413)


@pytest.mark.usefixtures("_patient_with_clients")
@pytest.mark.parametrize(
    ("method", "key", "status", "size"),
    [
        ("POST", "alice", 413, 10_000_000),
        ("POST", "nobody", 401, 1_000_000),
        ("GET", "alice", 200, 10_000_000),
        ("DELETE", "alice", 405, 1_000_000),
    ],
)
def test_response_to_a_body_of_megabytes_arrives_over_http_2(
    cast: Cast, service: Service, method: str, key: str, status: int, size: int
) -> None:
    headers = {**JSON, **getattr(cast, key).headers}
    with httpx.Client(base_url=service.url, http1=False, http2=True, timeout=60) as client:
        for _ in range(2):
            answer = client.request(method, "/queues", content=b"x" * size, headers=headers)
            assert (answer.status_code, answer.http_version) == (status, "HTTP/2")


@pytest.mark.usefixtures("_patient_with_clients")
@pytest.mark.parametrize(("path", "key", "status"), [("/nothing", "alice", 404), ("/queues", "nobody", 401)])
@pytest.mark.parametrize("size", [2, 8_192])
def test_connection_stays_open_when_the_body_of_a_refused_request_follows_its_head(
    cast: Cast, service: Service, path: str, key: str, status: int, size: int
) -> None:
    headers = {**JSON, **getattr(cast, key).headers, "content-length": str(size)}
    with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)) as connection:
        connection.request("POST", path, headers=headers)
        opened = connection.sock
        assert select([opened], [], [], 0.05)[0] == [], "The response comes before the body."
        connection.send(b" " * size)
        answer = connection.getresponse()
        assert answer.status == status
        assert answer.read()
        connection.request("GET", "/health/live")
        assert connection.getresponse().status == 200
        assert connection.sock is opened


def test_a_body_that_waits_to_be_asked_for_is_refused_at_once(cast: Cast, service: Service) -> None:
    request = announced(cast, "/queues", 10_000_000).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
    assert service.raw(request).startswith(b"HTTP/1.1 413 ")


def test_a_body_that_never_ends_is_not_read_for_ever(cast: Cast, service: Service) -> None:
    head = announced(cast, "/queues", 1).replace(b"Content-Length: 1", b"Transfer-Encoding: chunked")
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    sent = 0
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as connection, suppress(ConnectionError):
        connection.sendall(head)
        while sent < 128_000_000:
            connection.sendall(chunk)
            sent += len(chunk)
    assert sent < 64_000_000


def test_the_size_of_a_message_is_that_of_its_data_however_it_was_escaped(cast: Cast) -> None:
    queue = cast.queue()
    content = '{"data":"' + "\\u0041" * 262_144 + '"}'
    assert send(cast, f"/queues/{queue}/messages", content).status_code == 200


def _half_sent(connections: ExitStack, service: Service, head: bytes) -> socket.socket:
    connection = connections.enter_context(socket.create_connection(("127.0.0.1", service.port)))
    connection.sendall(head + b'{"data":"' + b"x" * 59_900)
    return connection


def test_bodies_that_are_too_much_together_are_503_with_retry_after(tmp_path_factory: pytest.TempPathFactory) -> None:
    with served(tmp_path_factory.mktemp("narrow"), max_waiting_bytes=100_000) as service:
        cast = cast_of(service)
        path = f"/queues/{cast.queue()}/messages"
        others = f"/queues/{cast.charlie.post('/queues', json={}).json()['queue']['id']}/messages"
        with ExitStack() as connections:
            slow = _half_sent(connections, service, announced(cast, path, 60_000))
            # Until what was sent has arrived.
            while cast.charlie.post(others, json={"data": "x" * 60_000}).status_code == 200:
                if select([slow], [], [], 0)[0]:
                    # It was refused itself, because it came together with the other one.
                    slow = _half_sent(connections, service, announced(cast, path, 60_000))
            assert problem(cast.charlie.post(others, json={"data": "x" * 60_000}), 503)
            assert cast.charlie.post(others, json={"data": "small"}).status_code == 200
        answer = cast.alice.post(path, json={"data": "x" * 110_000})
        assert problem(answer, 503)["title"] == "Service Unavailable"
        assert int(answer.headers["retry-after"]) > 0


async def _fill(service: Service, organization: int, queue: str) -> "list[asyncio.Future[Any]]":
    """Publishes that wait for the store, as many as may."""
    installation = service.installation
    record = await installation.cache.queue(organization, queue)
    waiting: list[asyncio.Future[Any]] = []
    while not waiting or not any(each.done() for each in waiting):
        entries = tuple(NewEntry(installation.public_ids.next(), JSON_VALUE, b"1") for _ in range(1_000))
        append = Append(organization, record.id, record.config_version, installation.clock.now(), entries)
        waiting.append(asyncio.ensure_future(installation.store.append(append)))
        await asyncio.sleep(0)
    return waiting


async def _outcome(waiting: "list[asyncio.Future[Any]]") -> list[Any]:
    return await asyncio.gather(*waiting, return_exceptions=True)


def test_a_publish_that_there_is_no_room_for_is_503_before_it_is_read(tmp_path_factory: pytest.TempPathFactory) -> None:
    with served(tmp_path_factory.mktemp("full")) as service:
        cast = cast_of(service)
        queue = cast.queue()
        organization = service.run(service.installation.cache.authenticate(cast.alice.headers["x-api-key"]))
        paths = [f"/queues/{queue}/messages", f"/queues/{queue}/messages/batch"]
        assert [send(cast, path, b"{").status_code for path in paths] == [400, 400]
        with closing(apsw.Connection(str(service.installation.settings.database_path))) as other:
            other.execute("BEGIN IMMEDIATE")
            waiting = service.run(_fill(service, organization.key.organization, queue))
            answers = [send(cast, path, b"{") for path in paths]
            other.execute("ROLLBACK")
        assert [problem(answer, 503)["title"] for answer in answers] == ["Service Unavailable"] * 2
        assert all(int(answer.headers["retry-after"]) > 0 for answer in answers)
        assert [type(each) for each in service.run(_outcome(waiting))] == [Appended] * (len(waiting) - 1) + [Overloaded]
        assert [send(cast, path, b"{").status_code for path in paths] == [400, 400]


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with served(tmp_path_factory.mktemp("hasty"), body_deadline_seconds=DEADLINE_SECONDS) as running:
        yield running


@pytest.mark.parametrize("framing", ["Content-Length: 500", "Transfer-Encoding: chunked"])
def test_a_body_that_does_not_come_is_408(hasty: Service, framing: str) -> None:
    cast = cast_of(hasty)
    head = announced(cast, f"/queues/{cast.queue()}/messages", 500).replace(b"Content-Length: 500", framing.encode())
    answer = hasty.raw(head + (b'9\r\n{"data":"\r\n' if b"chunked" in head else b'{"data":"'), until_closed=True)
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout")
    assert b'"title":"Request Timeout"' in answer


def test_a_body_that_drips_is_408_when_the_whole_takes_too_long(hasty: Service) -> None:
    cast = cast_of(hasty)
    with socket.create_connection(("127.0.0.1", hasty.port)) as connection:
        connection.sendall(announced(cast, "/queues", 60_000))
        connection.settimeout(DEADLINE_SECONDS / 20)
        answer = b""
        while not answer:
            try:
                connection.sendall(b" ")
                answer = connection.recv(65_536)
            except TimeoutError:
                continue
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert queue_count(cast) == 0


def test_one_slow_body_leaves_its_neighbours_alone(hasty: Service) -> None:
    cast = cast_of(hasty)
    with socket.create_connection(("127.0.0.1", hasty.port)) as slow:
        slow.sendall(announced(cast, "/queues", 500) + b"{")
        assert cast.alice.post("/queues", json={"alias": "quick"}).status_code == 200
        slow.settimeout(60)
        assert slow.recv(65_536).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("ending", [b"", b"zz\r\n", b'd\r\n{"alias":"abc\r\n'])
def test_a_body_in_pieces_that_breaks_off_creates_nothing(cast: Cast, service: Service, ending: bytes) -> None:
    head = announced(cast, "/queues", 5).replace(b"Content-Length: 5", b"Transfer-Encoding: chunked")
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as connection:
        connection.sendall(head + ending)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65_536):
            pass
    assert queue_count(cast) == 0


def test_internal_error_is_500_and_logged_with_its_request_id(
    cast: Cast, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("SELECT secret FROM /var/lib/private")

    monkeypatch.setattr("discue.store.queues.heads", broken)
    found = problem(cast.alice.get("/queues", headers={"x-request-id": "traced-1"}), 500)
    assert "SELECT" not in str(found)
    assert "private" not in str(found)
    (event,) = [fields for _, fields in service.log.errors if fields.get("request_id") == "traced-1"]
    assert isinstance(event["exc_info"], RuntimeError)


def test_a_client_that_goes_away_is_no_failure_of_ours(cast: Cast, service: Service) -> None:
    path = f"/queues/{cast.queue()}/messages"
    before = len(service.log.errors)
    for sent in (b"", b'{"data":', b'{"data":"x"}' + b" " * 488):
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", service.port)) as connection:
                connection.sendall(announced(cast, path, 500) + sent)
    assert cast.alice.post(path, json={"data": "after"}).status_code == 200
    assert service.log.errors[before:] == []
