"""The server process of ``serve``: granian, and the function that it calls in each worker.

Imports of the server process stay in memory next to the workers: this module imports little.
"""

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from ..errors import ProjectError
from .processes import FAILURE, SERVER, STARTED, end_with_parents

AGAIN_SECONDS = 5.0


def create():
    """The ASGI application of a worker.

    If it cannot be made before any worker has started, the server ends. Later, this worker replaces
    a dead one: it tries again while the other workers go on.
    """
    from .app import make_front

    failure = Path(os.environ[FAILURE])
    started = failure.with_name(STARTED)
    while True:
        try:
            front = make_front()
            with suppress(FileNotFoundError):  # the API is ending
                started.touch()
            return front
        except ProjectError as error:
            if not started.exists():
                with suppress(FileNotFoundError, ProcessLookupError):  # the API is ending
                    failure.write_text(str(error), "utf-8")
                    os.kill(int(os.environ[SERVER]), signal.SIGTERM)
                sys.exit(1)
            print(f"error: a worker cannot start: {error}", file=sys.stderr, flush=True)
            time.sleep(AGAIN_SECONDS)
            end_with_parents()


def main() -> None:
    """Run granian's command, so that SIGTERM also ends a worker that is still starting.

    A forked worker has the server's signal handler, which does nothing there (granian 2.8.9).
    """
    from granian.cli import entrypoint

    os.environ[SERVER] = str(os.getpid())
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    entrypoint()


if __name__ == "__main__":
    main()
