"""Clients that are slow, silent, malformed or too many take nothing away from the others."""

import json
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import psutil
import pytest
from api_process import Api, Clients, example
from conftest import PACKAGE, wait_for

pytestmark = pytest.mark.slow

BODY = json.dumps(example()).encode()
START = b"POST /predict HTTP/1.1\r\nHost: here\r\n"
LIVE = b"GET /health/live HTTP/1.1\r\nHost: here\r\n\r\n"
# The limits of the API under test.
SECONDS, KEEP_ALIVE, IN_FLIGHT, CONNECTIONS = 2.0, 5.0, 4, 40
HEADER_BYTES, BODY_BYTES = 2_048, 100_000
LIMITS = {
    "APP__API__HEADER_SECONDS": SECONDS,
    "APP__API__BODY_SECONDS": SECONDS,
    "APP__API__KEEP_ALIVE_SECONDS": KEEP_ALIVE,
    "APP__API__MAX_IN_FLIGHT": IN_FLIGHT,
    "APP__API__MAX_CONNECTIONS": CONNECTIONS,
    "APP__API__MAX_HEADER_BYTES": HEADER_BYTES,
    "APP__API__MAX_BODY_BYTES": BODY_BYTES,
}
# A busy machine may be this late.
SLACK = 10.0


@pytest.fixture(scope="module")
def strict(shared_project, champion):
    """An API with small limits that the tests of this module share."""
    api = Api(shared_project, "--model", champion, **LIMITS).wait_until_ready()
    yield api
    assert api.stop() == 0


@pytest.fixture
def connect(strict):
    """connect(): a connection to the API."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(Connection(strict.port))
    wait_for(lambda: in_flight(strict) == 0)


class Connection(socket.socket):
    """A client that sends the very bytes it is told to."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.settimeout(30)
        self.connect(("127.0.0.1", port))

    def rest(self) -> bytes:
        """All that comes until the server closes."""
        parts = []
        while part := self.recv(65_536):
            parts.append(part)
        return b"".join(parts)

    def answers(self, count: int) -> list[int]:
        """The statuses of the next so many answers; each has a Content-Length."""
        with self.makefile("rb") as file:
            return [self._answer(file) for _ in range(count)]

    @staticmethod
    def _answer(file) -> int:
        status = int(file.readline().split()[1])
        length = 0
        while line := file.readline().strip():
            name, _, value = line.lower().partition(b":")
            length = int(value) if name == b"content-length" else length
        file.read(length)
        return status


def post(length: int | None = None, *more: str) -> bytes:
    """The head of a request for a prediction."""
    length = len(BODY) if length is None else length
    head = ["POST /predict HTTP/1.1", "Host: here", "Content-Type: application/json"]
    return "\r\n".join([*head, f"Content-Length: {length}", *more, "\r\n"]).encode()


def in_flight(api) -> float:
    """Requests for predictions at work, as far as the metrics of the last second know."""
    return api.metrics()["http_requests_in_flight"] - 1  # this one itself


def refusal(received: bytes, status: int, code: str) -> None:
    """The only answer is this problem, and the connection is closed."""
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), received
    assert b"connection: close" in head.lower() and b"application/problem+json" in head
    assert received.count(b"content-length: ") == 1
    assert json.loads(body)["code"] == code


def closed_after(connection, seconds: float) -> bytes:
    """What comes until the server closes, which is not before and not long after ``seconds``."""
    began = time.monotonic()
    received = connection.rest()
    assert seconds * 0.7 < time.monotonic() - began < seconds + SLACK
    return received


def test_slow_heads_are_closed_while_others_are_served(strict, connect):
    """Byte by byte, none of them would ever be late by itself; the first sends only line ends."""
    slow = [connect() for _ in range(CONNECTIONS // 2)]
    head = START + b"X: " + b"x" * 1000
    began, open_ones = time.monotonic(), dict(enumerate(slow))
    with Clients(strict, 2) as clients:
        for byte in head:
            for number, each in list(open_ones.items()):
                if not send(each, bytes([byte]) if number else b"\r\n"):
                    del open_ones[number]
            time.sleep(0.05)
            if not open_ones or time.monotonic() - began > SECONDS + SLACK:
                break
    seconds = time.monotonic() - began
    print(f"slow heads: {len(slow)}, {len(open_ones)} still open after {seconds:.1f} s; {clients}")
    assert not open_ones and seconds > SECONDS
    assert clients.lost == 0 and set(clients.statuses) == {200}


def send(connection, data: bytes) -> bool:
    """Whether the server still takes something."""
    try:
        connection.sendall(data)
        return True
    except OSError:
        connection.close()
        return False


def test_an_unfinished_head_is_answered_with_408(connect):
    client = connect()
    client.sendall(post()[:-2])
    refusal(closed_after(client, SECONDS), 408, "header_time")


def test_a_silent_connection_is_closed(connect):
    assert closed_after(connect(), SECONDS) == b""


def test_an_idle_connection_is_closed(connect):
    client = connect()
    client.sendall(LIVE)
    assert client.answers(1) == [200]
    client.sendall(b"\r\n")
    assert closed_after(client, KEEP_ALIVE) == b""


@pytest.mark.parametrize("sent", [b"", BODY[:10]], ids=["nothing", "a part"])
def test_slow_bodies_take_no_place_and_end_with_408(strict, connect, sent):
    slow = [connect() for _ in range(4 * IN_FLIGHT)]
    for each in slow:
        each.sendall(post() + sent)
    with Clients(strict, 2) as clients:
        received = [each.rest() for each in slow]
    print(f"slow bodies: {len(slow)} sent, {len(received)} closed; others: {clients}")
    for each in received:
        refusal(each, 408, "body_time")
    assert clients.lost == 0 and set(clients.statuses) == {200}


def test_unfinished_bodies_together_are_bounded(connect):
    clients = [connect() for _ in range(IN_FLIGHT + 3)]
    for each in clients:
        each.sendall(post(BODY_BYTES) + b" " * (BODY_BYTES - 1))
    received = b"".join(each.rest() for each in clients)
    assert received.count(b'"overload"') >= 2, "these are too much together"
    assert received.count(b'"body_time"') >= IN_FLIGHT - 1


def test_the_rest_of_a_refused_body_is_not_waited_for(connect):
    client = connect()
    head = post().replace(b"/predict", b"/nothing")
    client.sendall(head + BODY[:5])
    assert client.answers(1) == [404]
    client.sendall(BODY[5:6])
    assert closed_after(client, SECONDS) == b""


def test_whoever_reads_no_answers_is_closed(strict, connect):
    client = connect()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    body = json.dumps(example(500)).encode()
    head = post(len(body)).replace(b"/predict", b"/predict?detail=true")
    began, sent = time.monotonic(), send_what_is_taken(client, head + body, 60)
    seconds = time.monotonic() - began
    print(f"reads no answers: {sent // len(head + body)} requests sent in {seconds:.1f} s")
    assert seconds < 60, "it is still open"
    assert strict.post("/predict", example()).status == 200


def test_pipelined_requests_are_bounded(strict, connect):
    before = memory(strict)
    sent = send_what_is_taken(connect(), LIVE * 2000, 3)
    print(f"pipelined: {sent // len(LIVE)} sent; {(memory(strict) - before) >> 20} MB more")
    assert memory(strict) - before < 20 << 20


def send_what_is_taken(client, data: bytes, seconds: float) -> int:
    """Send it over and over and read nothing, until the server closes; the bytes it took."""
    client.settimeout(0.2)
    sent, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            sent += client.send(data[sent % len(data) :])
        except TimeoutError:
            continue
        except OSError:
            break
    return sent


def memory(api) -> int:
    return psutil.Process(api.process.pid).memory_info().rss


def test_pipelined_requests_are_answered_in_order(connect):
    client = connect()
    ids = [f"number-{n}" for n in range(20)]
    for id in ids:
        client.sendall(post(None, f"X-Request-Id: {id}") + BODY)
    client.sendall(post(None, "X-Request-Id: last", "Connection: close") + BODY)
    found = re.findall(rb"x-request-id: (\S+)", client.rest())
    assert found == [*(id.encode() for id in ids), b"last"]


def test_many_pipelined_requests_are_slowed_down_not_refused(connect):
    client, count = connect(), 400
    body = json.dumps(example(300)).encode()
    with ThreadPoolExecutor() as thread:
        sending = thread.submit(client.sendall, (post(len(body)) + body) * count)
        assert set(client.answers(count)) == {200}
        sending.result()


def test_a_good_request_is_answered_before_the_garbage_behind_it(connect):
    client = connect()
    client.sendall(post() + BODY + b"\0\1garbage\r\n\r\n")
    received = client.rest()
    assert received.startswith(b"HTTP/1.1 200 ") and b"predictions" in received


def test_large_pipelined_requests_are_no_large_head(connect):
    client = connect()
    body = BODY + b" " * (5 * HEADER_BYTES)
    second = post() + BODY
    client.sendall(post(len(body)) + body + second[:20])
    time.sleep(0.05)
    client.sendall(second[20:])
    assert client.answers(2) == [200, 200]


@pytest.mark.parametrize(
    "head",
    [
        b"GET /health/live HTTP/1.1\r\nHost: here\r\nX: " + b"x" * 3 * HEADER_BYTES,
        b"GET /health/live HTTP/1.1\r\n" + b"X: y\r\n" * HEADER_BYTES,
        b"GET /" + b"x" * 3 * HEADER_BYTES,
        b"GET /health/live HTTP/1.1\r\nX: " + b"x" * HEADER_BYTES + b"\r\n\r\n",
        b"GET /health/live HTTP/1.1\r\n" + b"X" * 100_000,
    ],
    ids=["one header", "many headers", "URL", "whole", "name"],
)
def test_a_large_head_is_refused(connect, head):
    client = connect()
    client.sendall(head)
    refusal(client.rest(), 431, "header_size")


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0" * 1000,
        b"HELLO\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\n\r\n",
        START + b"Content-Length: x\r\n\r\n",
        START + b"Content-Length: -1\r\n\r\n",
        START + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        START + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        START + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    ],
    ids=range(11),
)
def test_what_is_no_http_is_refused(connect, garbage):
    client = connect()
    client.sendall(garbage)
    refusal(client.rest(), 400, "malformed")


def test_a_body_longer_than_it_says_is_another_request(connect):
    client = connect()
    client.sendall(post(len(BODY)) + BODY + BODY)
    received = client.rest()
    assert received.startswith(b"HTTP/1.1 200 ") and received.count(b"HTTP/1.1 200") == 1


@pytest.mark.parametrize("size", [2 * BODY_BYTES, 20_000_000])
def test_a_body_that_is_too_large_is_refused_and_the_client_reads_why(strict, size):
    """The refusal comes while the client still sends, and must not be lost by that."""
    found = strict.post("/predict", b" " * size)
    assert (found.status, found.json["code"]) == (413, "body_size")


def test_chunks_beyond_the_limit_are_refused(connect):
    client = connect()
    head = START + b"Transfer-Encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n%s\r\n" % (BODY_BYTES // 4, b" " * (BODY_BYTES // 4))
    client.sendall(head + chunk * 8)
    refusal(client.rest(), 413, "body_size")


def test_chunks_within_the_limit_are_put_together(connect):
    client = connect()
    client.sendall(START + b"Transfer-Encoding: chunked\r\n\r\n")
    for start in range(0, len(BODY), 7):
        part = BODY[start : start + 7]
        client.sendall(b"%x\r\n%s\r\n" % (len(part), part))
    client.sendall(b"0\r\nTrailer: dropped\r\n\r\n")
    assert client.answers(1) == [200]


def test_a_client_may_ask_before_it_sends_its_body(connect):
    client = connect()
    client.sendall(post(None, "Expect: 100-continue"))
    assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.sendall(BODY)
    assert client.answers(1) == [200]
    client.sendall(post(2 * BODY_BYTES, "Expect: 100-continue"))
    refusal(client.rest(), 413, "body_size")


def test_http_1_0_is_answered_and_closed(connect):
    client = connect()
    client.sendall(b"GET /health/live HTTP/1.0\r\n\r\n")
    received = client.rest()
    assert received.startswith(b"HTTP/1.1 200 ") and received.endswith(b'{"live":true}')


def test_upgrades_are_not_taken(connect):
    client = connect()
    client.sendall(LIVE[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert client.answers(1) == [200]


def test_beyond_the_most_connections_one_is_told_so(strict, connect):
    idle = [connect() for _ in range(CONNECTIONS)]
    late = connect()
    late.sendall(LIVE)
    refusal(late.rest(), 503, "connections")
    for each in idle:
        each.close()
    wait_for(lambda: strict.get("/health/live").status == 200)


def test_clients_that_vanish_leave_nothing_behind(strict, connect):
    for _ in range(CONNECTIONS // 2):
        client = connect()
        client.sendall(post() + BODY)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()  # by a reset
        client = connect()
        client.sendall(post() + BODY[:5])
        client.close()
    assert strict.post("/predict", example()).status == 200


FILES = """
import resource, sys
from {package} import settings
from {package}.api import serve
resource.setrlimit(resource.RLIMIT_NOFILE, (256, int(sys.argv[1])))
serve._allow_files(settings.load())
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def test_connections_have_as_many_open_files_as_they_need(project):
    script = project.folder / "files.py"
    script.write_text(FILES.format(package=PACKAGE), "utf-8")
    done = project.run(script, 4096, APP__API__MAX_CONNECTIONS=500)
    assert done.stdout == "1256\n", done.stderr
    done = project.run(script, 1000, APP__API__MAX_CONNECTIONS=500)
    assert "api.max_connections = 500 needs 1256 open files" in done.stderr
