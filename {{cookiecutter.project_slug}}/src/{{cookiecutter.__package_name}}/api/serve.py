"""``serve``: run the API on granian, and next to it the work that would delay requests.

This process copies new models from a registry and delivers kept predictions to the database, which
takes memory and may hang. The server is its child process, and the workers are the server's.
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .. import settings
from ..errors import ProjectError
from ..models import artifact, stores
from ..settings import PACKAGE, Settings
from .auth import Authenticator
from .logs import JsonLines
from .processes import ABOVE, FAILURE, METRICS, STARTED
from .status_page import writer

# Connections that the operating system queues while the workers are busy.
BACKLOG = 1024
MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own in it
STEP_SECONDS, END_SECONDS = 0.5, 10
NICE = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--host", help="address to listen on (default: HOST, api.host)")
    add("--port", help="port to listen on (default: PORT, api.port)")
    add("--workers", help="processes, 0 is one for each core (default: api.workers)")
    add("--model", metavar="URI", help="a connection string (default: models.uri)")


def run(arguments: argparse.Namespace) -> int:
    config = _settings(arguments)
    if tokens := Authenticator(config.authentication).tokens:
        tokens.load()
    address, lines = _free(config.api.host, config.api.port), JsonLines()
    lines.install(config.log_level)
    signal.signal(signal.SIGTERM, _end)
    with _shared_folder(f"{address}-{config.api.port}"), ExitStack() as stack:
        stack.callback(lines.flush)
        return _serve(config, address, stack)


def _settings(arguments: argparse.Namespace) -> Settings:
    """The settings, with those of the command line; workers read them from the environment."""
    given = {
        "api.host": arguments.host,
        "api.port": arguments.port,
        "api.workers": arguments.workers,
        "models.uri": arguments.model
        and settings.absolute(stores.typed(arguments.model), Path.cwd()),
    }
    settings.override(given)
    return settings.load()


def _free(host: str, port: int) -> str:
    """Check that the port is free; returns the address of the host."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
        return str(address[0])
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ProjectError(
            f"{host}:{port} cannot be listened on: {reason}; --port names another."
        ) from None


@contextmanager
def _shared_folder(address: str) -> Iterator[None]:
    """An empty folder for the processes of this API; no other API listens on the address.

    It is in memory if possible: a full disk would kill a process that has mapped a file.
    """
    parent = MEMORY if os.access(MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    folder = parent / f"{PACKAGE}-{os.getuid()}-{address}"
    shutil.rmtree(folder, ignore_errors=True)  # left by an API that was killed
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        raise ProjectError(f"{folder} is not of this user: remove it.") from None
    os.environ |= {METRICS: str(folder), FAILURE: str(folder / "failure")}
    os.environ[ABOVE] = str(os.getpid())
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _announce(config: Settings) -> None:
    host = f"[{config.api.host}]" if ":" in config.api.host else config.api.host
    docs = ", described at /docs" if config.api.docs else ""
    print(f"Serving on http://{host}:{config.api.port}{docs}; Ctrl-C ends it.", file=sys.stderr)


def _server(config: Settings, address: str) -> list[str]:
    """The command line that starts the server."""
    api = config.api
    options: dict[str, object] = {
        "interface": "asgi",
        "http": 1,
        "host": address,
        "port": api.port,
        "workers": api.workers or os.cpu_count(),
        "backlog": BACKLOG,
        # Limits connections; front.py limits the requests in flight.
        "backpressure": api.max_connections,
        "http1-header-read-timeout": int(api.header_seconds * 1000),
        "http1-buffer-size": api.max_header_bytes,
        "workers-kill-timeout": api.shutdown_seconds,
        "log-level": "warning",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    flags = ["--factory", "--no-ws", "--respawn-failed-workers"]
    # By its path: a module name would be looked up in the working directory first.
    app = f"{Path(__file__).with_name('server.py')}:create"
    return [sys.executable, "-m", f"{__package__}.server", *words, *flags, app]


def _serve(config: Settings, address: str, stack: ExitStack) -> int:
    """Run the server; meanwhile, follow the registry and deliver kept predictions."""
    from .metrics import of_start

    steps = [_deliver(config)] if config.keeping.enabled else []
    if not stores.model_folder(config.models.uri):
        steps.append(_follow(config, stack))
    steps.append(writer(settings.load()))  # with the folder of the model that is served
    of_start()
    failure = Path(os.environ[FAILURE])
    started = failure.with_name(STARTED)
    # Signals are only recorded: an exception inside Popen could leave it locked.
    ended: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: ended.append(number))
    # In a new session, which Ctrl-C does not reach: two signals at once may keep granian (2.8.9)
    # from ending.
    command = _server(config, address)
    server = subprocess.Popen(command, start_new_session=True)  # noqa: S603 - this very program
    os.nice(NICE)  # background work must not delay requests
    # A thread, because a registry or a database may hang.
    beside = threading.Thread(target=_go_on, args=(steps, server), daemon=True)
    beside.start()
    announced = False
    while server.poll() is None and not ended:
        time.sleep(STEP_SECONDS)
        if not announced and started.exists():
            _announce(config)
            announced = True
    _end_server(server, config.api.shutdown_seconds + END_SECONDS)
    beside.join(END_SECONDS)
    if failure.exists():
        raise ProjectError(failure.read_text("utf-8"))
    if server.returncode and not ended:
        raise ProjectError(f"the server has ended by itself, with {server.returncode}.")
    return 0


def _go_on(steps: list[Callable[[], None]], server: subprocess.Popen) -> None:
    """Call all steps again and again until the server has ended, and then once more."""
    while True:
        last = server.returncode is not None
        for step in steps:
            step()
        if last:
            return
        time.sleep(STEP_SECONDS)


def _end_server(server: subprocess.Popen, seconds: float) -> None:
    server.terminate()
    try:
        server.wait(seconds)
    except subprocess.TimeoutExpired:
        server.kill()  # then its workers end by themselves
        server.wait()


def _deliver(config: Settings) -> Callable[[], None]:
    from ..tables.databases import engine
    from .kept import Delivery
    from .metrics import of_delivery

    engine(config.database, create=True).dispose()  # fails now if it can never be used

    told = of_delivery(config.keeping.spool_mb << 20)
    return Delivery(Path(config.keeping.spool), config.database, told).step


def _follow(config: Settings, stack: ExitStack) -> Callable[[], None]:
    """Copy the model to the workers' folder; returns the function that keeps it up to date."""
    from .follow import Follower, alone
    from .metrics import of_source

    folder = Path(config.api.models)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        stack.enter_context(alone(folder))
    except ProjectError as error:
        hint = f"a running API has its model there: serve it too with --model {folder}."
        raise ProjectError(f"{error} Perhaps {hint}") from None
    follower = Follower(config.models.uri, folder, config, of_source())
    try:
        follower.update()
    except Exception as error:  # any error of a registry's client
        if not config.api.start_from_copy or not (folder / artifact.CURRENT).exists():
            raise
        print(f"{error} Starting from the last copy of the model.", file=sys.stderr)
    settings.override({"models.uri": str(folder)})
    return follower.step


def _end(*_) -> None:
    """Exit by an exception, so that everything that was opened is closed."""
    raise SystemExit(0)
