"""What servers do with broken requests, ended processes and too many connections: ``probe.py``.

The API runs on the server that handles most of these by itself. Each line of the table is one
question, asked to a server that was started only for it. Nothing here measures speed.
"""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path

import environments
from environments import BUILD, HERE, python
from server import family, free_ports, running

SECONDS = 2  # limit for heads (granian), idle connections (uvicorn) and the shutdown (both)
PATIENCE = 8.0
MOST = 4  # the limit of connections
HEAD = b"GET / HTTP/1.1\r\nHost: probe\r\n"
VERSIONS = ("granian[uvloop]==2.8.9", "uvicorn==0.54.0", "uvloop", "httptools")


def granian(app: str, port: int, *more: str) -> list:
    options = ["--interface", "asgi", "--no-ws", "--http", "1", "--workers", "2"]
    options += ["--http1-header-read-timeout", str(1000 * SECONDS), "--http1-buffer-size", "16384"]
    options += ["--respawn-failed-workers", "--workers-kill-timeout", str(SECONDS)]
    return [python("probe"), "-m", "granian", *options, "--port", str(port), *more, app]


def uvicorn(app: str, port: int, *more: str) -> list:
    options = ["--http", "httptools", "--no-access-log", "--workers", "2"]
    options += ["--timeout-keep-alive", str(SECONDS), "--timeout-graceful-shutdown", str(SECONDS)]
    return [python("probe"), "-m", "uvicorn", *options, "--port", str(port), *more, app]


SERVERS = {"granian": granian, "uvicorn": uvicorn}
LIMIT = {"granian": "--backpressure", "uvicorn": "--limit-concurrency"}


async def app(scope, receive, send) -> None:
    """Answer at once, or after ``?seconds``."""
    import asyncio

    if scope["type"] != "http":
        return
    await asyncio.sleep(float(scope["query_string"] or b"0"))
    body, message = b"", {"more_body": True}
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    length = str(len(body)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-length", length)]})
    await send({"type": "http.response.body", "body": b"{}"})


@contextmanager
def started(server: str, *more: str, target: str = "probe:app"):
    """A server that was started: its process and its port."""
    port = free_ports(1)[0]
    command = SERVERS[server](target, port, *more)
    with running(command, HERE, {"PYTHONPATH": str(HERE)}) as process:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and process.poll() is None:
            with suppress(OSError):
                status(port)
                break
            time.sleep(0.1)
        yield process, port


def status(port: int, path: str = "/", seconds: float = PATIENCE) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def end(opened: socket.socket) -> str:
    """How a connection ends after the client has sent everything."""
    opened.settimeout(PATIENCE)
    began, got = time.monotonic(), b""
    try:
        while part := opened.recv(65_536):
            got += part
        how = f"closed after {time.monotonic() - began:.1f} s"
    except TimeoutError:
        how = f"still open after {PATIENCE:.0f} s"
    except OSError:
        how = f"reset after {time.monotonic() - began:.1f} s"
    answer = got.split(b"\r\n")[0].decode("latin-1")
    return f"{answer}, {how}" if answer else how


def sent(content: bytes) -> Callable[[str], str]:
    """What a server does with this part of a request."""

    def probe(server: str) -> str:
        with started(server) as (_, port), socket.create_connection(("127.0.0.1", port)) as opened:
            with suppress(OSError):
                opened.sendall(content)
            return end(opened)

    return probe


def terminated(seconds: float) -> Callable[[str], str]:
    """SIGTERM during a request that takes ``seconds``, while another connection is idle."""

    def probe(server: str) -> str:
        with started(server) as (process, port):
            address = ("127.0.0.1", port)
            with socket.create_connection(address), socket.create_connection(address) as opened:
                opened.sendall(f"GET /?{seconds} HTTP/1.1\r\nHost: probe\r\n\r\n".encode())
                time.sleep(0.5)
                began = time.monotonic()
                process.terminate()
                answer = end(opened)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(PATIENCE)
                took = f"{time.monotonic() - began:.1f} s"
                return f"{answer}; exit {process.returncode} after {took}"

    return probe


def worker_killed(server: str) -> str:
    with started(server) as (process, port):
        time.sleep(6)  # granian takes an earlier end for a crash loop
        worker = family(process.pid)[-1]
        os.kill(worker, signal.SIGKILL)
        began = time.monotonic()
        while time.monotonic() - began < PATIENCE:
            time.sleep(0.2)
            if worker not in (now := family(process.pid)) and len(now) > 2:
                break
        took = f"{time.monotonic() - began:.1f} s"
        return f"{len(family(process.pid))} processes after {took}, answers {status(port)}"


def main_killed(server: str) -> str:
    with started(server) as (process, _):
        workers = family(process.pid)[1:]
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(PATIENCE)
        left = [worker for worker in workers if Path(f"/proc/{worker}").exists()]
        for worker in left:
            os.kill(worker, signal.SIGKILL)
        return f"{len(left)} of {len(workers)} are left after {PATIENCE:.0f} s"


def cannot_start(server: str) -> str:
    began = time.monotonic()
    with started(server, target="no_such_module:app") as (process, _):
        if process.poll() is None:
            return f"still tries after {time.monotonic() - began:.0f} s"
        return f"exit {process.returncode} after {time.monotonic() - began:.1f} s"


def full(server: str) -> str:
    """One connection more than allowed, while the others are idle."""
    with started(server, LIMIT[server], str(MOST), "--workers", "1") as (_, port):
        held = [socket.create_connection(("127.0.0.1", port)) for _ in range(MOST)]
        for each in held:
            each.sendall(HEAD + b"\r\n")
            each.recv(1000)
        try:
            return f"answers {status(port, seconds=1)}"
        except TimeoutError:
            return "hangs"
        finally:
            for each in held:
                each.close()


def port_taken(server: str) -> str:
    with started(server) as (_, port), running(SERVERS[server]("probe:app", port), HERE, {}) as two:
        try:
            return f"exit {two.wait(PATIENCE)}"
        except subprocess.TimeoutExpired:
            return "goes on"


BODY = b"POST / HTTP/1.1\r\nHost: probe\r\nContent-Length: 9\r\n\r\n1"
PROBES: dict[str, Callable[[str], str]] = {
    "half a head": sent(HEAD),
    "nothing is sent": sent(b""),
    "idle after an answer": sent(HEAD + b"\r\n"),
    "half a body": sent(BODY),
    "a head of 30 kB": sent(HEAD + b"a: " + b"a" * 30_000 + b"\r\n\r\n"),
    "a head of 600 kB": sent(HEAD + b"a: " + b"a" * 600_000 + b"\r\n\r\n"),
    "no HTTP": sent(b"hello\r\n\r\n"),
    "SIGTERM, a request of 1 s at work": terminated(1),
    "SIGTERM, a request of 5 s at work": terminated(5),
    "a worker is killed": worker_killed,
    "the main process is killed": main_killed,
    "the module cannot be imported": cannot_start,
    "a fifth connection of four": full,
    "the port is taken": port_taken,
}


def main() -> None:
    BUILD.mkdir(parents=True, exist_ok=True)
    environments.install("probe", *VERSIONS)
    print(f"| | {' | '.join(SERVERS)} |\n|---|{'---|' * len(SERVERS)}", flush=True)
    for what, probe in PROBES.items():
        print(f"| {what} | {' | '.join(map(probe, SERVERS))} |", flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    main()
