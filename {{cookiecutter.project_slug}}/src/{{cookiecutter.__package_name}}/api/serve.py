"""``serve``: answer requests for predictions over HTTP, until it is told to end.

The model comes from a folder; one that is named by ``models:/…`` is copied there by another process
(follow.py), which also brings the next one when the alias moves.
"""

import argparse
import os
import signal
import socket
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from .. import settings
from ..errors import ProjectError
from ..models import artifact, stores
from ..settings import PACKAGE, Settings
from . import metrics
from .auth import Authenticator
from .companion import EXIT_SECONDS, Companion, leave_within
from .follow import Follower
from .protocol import BoundedProtocol
from .serving import Shelf

# Connections the system holds while the workers are busy.
BACKLOG = 1024
# Of files that a process opens beside its connections.
FILES = 256
# A worker that does not stir for so long is replaced; a busy machine makes it slow, too.
WORKER_SECONDS = 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--host", help="address to listen on (default: HOST, api.host)")
    add("--port", help="port to listen on (default: PORT, api.port)")
    add("--workers", help="processes, 0 is one for each core (default: api.workers)")
    add("--model", metavar="URI", help="a connection string (default: models.uri)")


def run(arguments: argparse.Namespace) -> int:
    config = _settings(arguments)
    authenticator = Authenticator(config.authentication)
    _require_free(config.api.host, config.api.port)
    signal.signal(signal.SIGTERM, _end)
    _allow_files(config)
    with ExitStack() as stack:
        folder = _model_folder(config, stack)
        settings.override({"models.uri": str(folder)})
        if config.api.workers != 1:
            # A worker that cannot start would be started again and again.
            Shelf(folder, config.models.allow_pickle)
            authenticator.prepare()
        stack.enter_context(metrics.own_directory())
        if config.keeping.enabled:
            stack.callback(Companion("deliver", heard=_pass_on).stop)
        if config.api.metrics_port:
            metrics.serve(config.api.host, config.api.metrics_port)
        _announce(config)
        try:
            _serve(config)
        finally:
            # Not before the companions have ended, who get as long each.
            leave_within(3 * EXIT_SECONDS)
    return 0


def _allow_files(config: Settings) -> None:
    """As many open files as the connections need, those that are refused and what we open too.

    :raises ProjectError: the system does not allow it.
    """
    try:
        import resource
    except ModuleNotFoundError:  # not on Windows
        return
    needed = 2 * config.api.max_connections + FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY not in (soft, hard) and hard < needed:
        raise ProjectError(
            f"api.max_connections = {config.api.max_connections} needs {needed} open files, and "
            f"the system allows {hard}: lower it, or raise the hard limit (ulimit -Hn)."
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


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
    config = settings.load()
    if config.api.workers == 0:
        settings.override({"api.workers": str(os.cpu_count() or 1)})
        config = settings.load()
    return config


def _model_folder(config: Settings, stack: ExitStack) -> Path:
    """Where the workers find the model; for one in a registry a process keeps it in step."""
    if stores.model_folder(config.models.uri):
        return Path(config.models.uri)
    folder = Path(config.api.models)
    folder.mkdir(parents=True, exist_ok=True)
    follower = Follower(folder)
    stack.callback(follower.stop)
    try:
        follower.first_copy()
    except ProjectError as error:
        if not config.api.start_from_copy or not (folder / artifact.CURRENT).exists():
            raise
        print(f"{error} Starting from the last copy of the model.", file=sys.stderr)
    return folder


def _pass_on(line: str) -> None:
    """A companion's line of log, to where ours go."""
    if line:
        print(line, flush=True)


def _require_free(host: str, port: int) -> None:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ProjectError(
            f"{host}:{port} cannot be listened on: {reason}; --port names another."
        ) from None


def _announce(config: Settings) -> None:
    host = f"[{config.api.host}]" if ":" in config.api.host else config.api.host
    docs = ", described at /docs" if config.api.docs else ""
    print(f"Serving on http://{host}:{config.api.port}{docs}; Ctrl-C ends it.", file=sys.stderr)


def _serve(config: Settings) -> None:
    options = uvicorn.Config(
        f"{PACKAGE}.api.app:create",
        factory=True,
        host=config.api.host,
        port=config.api.port,
        workers=config.api.workers,
        http=BoundedProtocol,
        ws="none",
        lifespan="on",
        backlog=BACKLOG,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=config.api.keep_alive_seconds,
        timeout_graceful_shutdown=config.api.shutdown_seconds,
        timeout_worker_healthcheck=WORKER_SECONDS,
    )
    if config.api.workers > 1:
        started = Supervisor(options, [options.bind_socket()]).run()
    else:
        server = uvicorn.Server(options)
        with suppress(KeyboardInterrupt):  # which it sends again once it has ended in order
            server.run()
        started = server.started
    if not started:
        raise ProjectError("the API cannot start; the log has more.")


class Supervisor(Multiprocess):
    """uvicorn's, which starts workers and starts them again."""

    def run(self) -> bool:
        """Returns whether the workers could start."""
        super().run()
        return all(process.exitcode != STARTUP_FAILURE for process in self.processes)

    def keep_subprocess_alive(self) -> None:
        for worker in self.processes:
            worker.child_conn.close()  # or its end would not end the wait for its answer
        super().keep_subprocess_alive()

    def terminate_all(self) -> None:
        # Or it would go on to take connections that no worker accepts any more.
        for listening in self.sockets:
            listening.close()
        super().terminate_all()


def _end(*_) -> None:
    """Leave in order: what the process started ends with it."""
    raise SystemExit(0)
