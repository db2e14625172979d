"""The load generator of the tests counts what really happened to its requests."""

import itertools
import math
import socket
import socketserver
import threading
import time
from contextlib import contextmanager

import pytest
from pressure import pressure

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
OK = (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",)
PIECES = (b"HTTP/1.1 200 OK\r\nConte", b"nt-Length: 2\r\n\r\n", b"o", b"k")
LAST = (b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nConnection: close\r\n\r\n",)
CLOSED = ()


@contextmanager
def served(*answers: tuple[bytes, ...]):
    """A server that gives each connection these answers in turn, the last one for ever.

    An answer is sent in its pieces; one of none closes the connection. Yields the port and the
    requests that were read.
    """
    requests = []

    class Answers(socketserver.StreamRequestHandler):
        disable_nagle_algorithm = True

        def handle(self):
            for turn in itertools.count():
                if not (request := self.request.recv(1000)):
                    break
                requests.append(request)
                pieces = answers[min(turn, len(answers) - 1)]
                for piece in pieces:
                    self.wfile.write(piece)
                    time.sleep(0.001)
                if not pieces:
                    break

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answers) as server:
        server.handle_error = lambda *_: None  # a client that hangs up
        threading.Thread(target=server.serve_forever, args=[0.01]).start()
        try:
            yield server.server_address[1], requests
        finally:
            server.shutdown()


def test_a_kept_connection_is_used_again():
    with served(OK) as (port, requests):
        outcome = pressure("127.0.0.1", port, REQUEST, connections=2, seconds=1)
    assert outcome.statuses == {200: outcome.sent}
    assert outcome.sent == len(requests) > 20
    assert (outcome.lost, outcome.unanswered, outcome.connection_errors) == (0, 0, 0)
    assert 0 < outcome.latency(0.5, 200) <= outcome.latency(0.99) < outcome.seconds
    assert math.isnan(outcome.latency(0.5, 503))


def test_an_answer_in_pieces_is_one():
    with served(PIECES) as (port, requests):
        outcome = pressure("127.0.0.1", port, REQUEST, connections=2, seconds=1)
    assert outcome.statuses == {200: len(requests)}
    assert outcome.latency(0.01) > 0.002


def test_a_connection_that_says_it_closes_is_opened_again():
    with served(OK, LAST) as (port, requests):
        outcome = pressure("127.0.0.1", port, REQUEST, connections=2, seconds=1)
    assert outcome.statuses[503] > 2
    assert abs(outcome.statuses[200] - outcome.statuses[503]) <= 2
    assert (outcome.sent, outcome.lost) == (len(requests), 0)


def test_what_was_sent_and_never_answered_is_lost():
    with served(OK, CLOSED) as (port, requests):
        outcome = pressure("127.0.0.1", port, REQUEST, connections=1, seconds=1)
    assert outcome.sent == len(requests) == outcome.answered + outcome.lost
    assert abs(outcome.lost - outcome.statuses[200]) <= 1


def test_who_never_answers_is_left_at_last(monkeypatch):
    monkeypatch.setattr("pressure.GRACE_SECONDS", 0.1)
    with served(PIECES[:1]) as (port, _):
        outcome = pressure("127.0.0.1", port, REQUEST, connections=3, seconds=1)
    assert (outcome.sent, outcome.unanswered, outcome.answered) == (3, 3, 0)
    assert outcome.seconds < 5


def test_what_is_no_answer_is_broken():
    with served((b"SSH-2.0-server\r\n\r\n",)) as (port, _):
        outcome = pressure("127.0.0.1", port, REQUEST, connections=1, seconds=1)
    assert outcome.statuses == {0: outcome.sent}


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    outcome = pressure("127.0.0.1", port, REQUEST, connections=1, seconds=1)
    assert (outcome.sent, outcome.connection_errors > 0) == (0, True)


@pytest.mark.parametrize(("connections", "seconds"), [(0, 1), (10_000, 1), (1, 0), (1, 1e6)])
def test_it_is_bounded(connections, seconds):
    with pytest.raises(ValueError, match="up to"):
        pressure("127.0.0.1", 1, REQUEST, connections, seconds)
