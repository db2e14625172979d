"""Clients that are slow, silent, malformed or too large take nothing away from the others.

What a proxy does in front of the API, such as a limit on slow bodies, is not tested here.
"""

import json
import re
import socket
import time
from contextlib import ExitStack

import psutil
import pytest
from api_process import Api, Clients, example
from conftest import wait_for

pytestmark = pytest.mark.slow

BODY = json.dumps(example()).encode()
START = b"POST /predict HTTP/1.1\r\nHost: here\r\n"
LIVE = b"GET /health/live HTTP/1.1\r\nHost: here\r\n\r\n"
# The limits of the API under test.
SECONDS, IN_FLIGHT = 2.0, 8
HEADER_BYTES, BODY_BYTES = 8_192, 100_000
LIMITS = {
    "APP__API__HEADER_SECONDS": SECONDS,
    "APP__API__BODY_SECONDS": SECONDS,
    "APP__API__MAX_IN_FLIGHT": IN_FLIGHT,
    "APP__API__MAX_HEADER_BYTES": HEADER_BYTES,
    "APP__API__MAX_BODY_BYTES": BODY_BYTES,
}
# The delay in seconds that is accepted on a busy machine.
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
    """The number of prediction requests in progress, from metrics that are up to a second old."""
    return api.metrics()["http_requests_in_flight"]


def refusal(received: bytes, status: int, code: str) -> None:
    """The only answer is this problem."""
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), received
    assert b"application/problem+json" in head
    assert received.count(b"content-length: ") == 1
    assert json.loads(body)["code"] == code


def closed_after(connection, seconds: float) -> bytes:
    """What comes until the server closes, which must be about ``seconds`` later."""
    began = time.monotonic()
    received = connection.rest()
    assert seconds * 0.7 < time.monotonic() - began < seconds + SLACK
    return received


def test_slow_heads_are_closed_while_others_are_served(strict, connect):
    """The clients send single bytes, so no read is late; the first one sends only line ends."""
    slow = [connect() for _ in range(20)]
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


@pytest.mark.parametrize("sent", [b"", START], ids=["nothing", "half a head"])
def test_a_connection_without_a_request_is_closed(connect, sent):
    client = connect()
    client.sendall(sent)
    assert closed_after(client, SECONDS) == b""


def test_an_idle_connection_is_closed(connect):
    client = connect()
    client.sendall(LIVE)
    assert client.answers(1) == [200]
    assert closed_after(client, SECONDS) == b""


@pytest.mark.parametrize("sent", [b"", BODY[:10]], ids=["nothing", "a part"])
def test_a_slow_body_ends_with_408(strict, connect, sent):
    slow = [connect() for _ in range(IN_FLIGHT // 2)]
    for each in slow:
        each.sendall(post() + sent)
    with Clients(strict, 2) as clients:
        received = [each.rest() for each in slow]
    for each in received:
        refusal(each, 408, "body_time")
    assert clients.lost == 0 and set(clients.statuses) == {200}


def test_pipelined_requests_are_bounded(strict, connect):
    before = memory(strict)
    sent = send_what_is_taken(connect(), LIVE * 2000, 3)
    print(f"pipelined: {sent // len(LIVE)} sent; {(memory(strict) - before) >> 20} MB more")
    assert memory(strict) - before < 20 << 20


def send_what_is_taken(client, data: bytes, seconds: float) -> int:
    """Send data repeatedly without reading; returns the number of bytes that were sent."""
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
    """Resident bytes of all the API's processes."""
    processes = psutil.Process(api.process.pid).children(recursive=True)
    return sum(each.memory_info().rss for each in processes)


def test_pipelined_requests_are_answered_in_order(connect):
    client = connect()
    ids = [f"number-{n}" for n in range(20)]
    for id in ids:
        client.sendall(post(None, f"X-Request-Id: {id}") + BODY)
    client.sendall(post(None, "X-Request-Id: last", "Connection: close") + BODY)
    found = re.findall(rb"x-request-id: (\S+)", client.rest())
    assert found == [*(id.encode() for id in ids), b"last"]


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
        b"GET /health/live HTTP/1.1\r\n" + b"X" * 100_000,
    ],
    ids=["one header", "many headers", "URL", "name"],
)
def test_a_large_head_is_refused(connect, head):
    client = connect()
    client.sendall(head)
    assert re.match(rb"HTTP/1.1 4(31|14) ", client.rest())


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0" * 1000,
        b"HELLO\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        START + b"Content-Length: x\r\n\r\n",
        START + b"Content-Length: -1\r\n\r\n",
        START + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    ],
    ids=range(7),
)
def test_what_is_no_http_is_refused(connect, garbage):
    client = connect()
    client.sendall(garbage)
    assert client.rest().startswith(b"HTTP/1.1 400 ")


def test_a_body_longer_than_it_says_is_another_request(connect):
    client = connect()
    client.sendall(post(len(BODY)) + BODY + BODY)
    received = client.rest()
    assert received.startswith(b"HTTP/1.1 200 ") and received.count(b"HTTP/1.1 200") == 1


@pytest.mark.parametrize("size", [2 * BODY_BYTES, 20_000_000])
def test_a_body_that_is_too_large_is_refused_and_the_client_reads_why(strict, size):
    """The refusal comes while the client still sends; the client must receive it."""
    found = strict.post("/predict", b" " * size)
    assert (found.status, found.json["code"]) == (413, "body_size")


def test_of_a_large_body_nothing_is_left_out(serve):
    rows, names = 750, ",".join([*example()["data"], "NOTE"])
    row = ",".join([str(values[0]) for values in example()["data"].values()] + ["x" * 99_000])
    body = "\n".join([names, *[row] * rows]).encode()
    assert len(body) > 70 << 20
    answer = serve(APP__API__MAX_BODY_BYTES=100 << 20).post(
        "/invocations", body, Content_Type="text/csv"
    )
    assert len(answer.json["predictions"]) == rows


def test_who_may_not_ask_takes_no_place_from_who_may(serve, project):
    key = project.run("api-key", "create", "shop").stdout.split()[-1]
    limits = {"APP__API__MAX_IN_FLIGHT": IN_FLIGHT, "APP__API__BODY_SECONDS": 60}
    api = serve(APP__AUTHENTICATION__REQUIRED="true", **limits)
    strangers = [socket.create_connection(("127.0.0.1", api.port)) for _ in range(2 * IN_FLIGHT)]
    for each in strangers:
        each.sendall(post(100, "X-API-Key: wrong") + b"{")
    time.sleep(1)  # they are refused, and send no more
    assert api.post("/predict", example(), X_API_Key=key).status == 200
    for each in strangers:
        each.close()


def test_chunks_beyond_the_limit_are_refused(connect):
    client = connect()
    head = START + b"Transfer-Encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n%s\r\n" % (BODY_BYTES // 4, b" " * (BODY_BYTES // 4))
    client.sendall(head + chunk * 8 + b"0\r\n\r\n")
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


def test_http_1_0_is_answered_and_closed(connect):
    client = connect()
    client.sendall(b"GET /health/live HTTP/1.0\r\n\r\n")
    received = client.rest()
    assert received.startswith(b"HTTP/1.0 200 ") and received.endswith(b'{"live":true}')


def test_upgrades_are_not_taken(connect):
    client = connect()
    client.sendall(LIVE[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert client.answers(1) == [200]


def test_clients_that_vanish_leave_nothing_behind(strict, connect):
    for _ in range(20):
        client = connect()
        client.sendall(post() + BODY)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()  # by a reset
        client = connect()
        client.sendall(post() + BODY[:5])
        client.close()
    wait_for(lambda: strict.post("/predict", example()).status == 200)
