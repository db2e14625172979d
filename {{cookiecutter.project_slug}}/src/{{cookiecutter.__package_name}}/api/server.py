"""The server below ``serve``: granian, and what it calls in each of its worker processes.

What the server's own process imports stays in memory beside the workers: nothing more of ours.
"""

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from ..errors import ProjectError
from .processes import FAILURE, STARTED, end_with_parents

AGAIN_SECONDS = 5.0


def create():
    """The ASGI application of a worker.

    One that cannot be made ends the server that has just been started. In the place of a worker
    that has died it is tried again, while the other workers go on.
    """
    from .app import make_front

    failure, server = Path(os.environ[FAILURE]), os.getppid()
    started = failure.with_name(STARTED)
    while True:
        try:
            front = make_front()
            with suppress(FileNotFoundError):  # it ends already
                started.touch()
            return front
        except ProjectError as error:
            if not started.exists():
                with suppress(FileNotFoundError):
                    failure.write_text(str(error), "utf-8")
                os.kill(os.getppid(), signal.SIGTERM)
                sys.exit(1)
            print(f"error: a worker cannot start: {error}", file=sys.stderr, flush=True)
            time.sleep(AGAIN_SECONDS)
            end_with_parents(server)


def main() -> None:
    """granian's own command; a worker that is starting ends by a signal as one that serves does.

    Forked from the server it has the server's handler, which does nothing there (granian 2.8.9).
    """
    from granian.cli import entrypoint

    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    entrypoint()


if __name__ == "__main__":
    main()
