"""What the processes of an API know of each other: ``serve``, below it the server, its workers."""

import os
import random
import signal

# Variables of the environment: the folder of all metrics, as prometheus-client names it; the file
# in which a worker says why it cannot start; the process above the server.
METRICS, FAILURE, ABOVE = "PROMETHEUS_MULTIPROC_DIR", "API_FAILURE", "API_ABOVE"
# A file beside that of the failure: a worker has started.
STARTED = "started"


def lives(process: int) -> bool:
    """Whether there is such a process, whoever it belongs to."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it is not ours any more
    return True


def end_with_parents(server: int) -> None:
    """Nobody else would end a worker whose server was killed, nor a server without its own."""
    if os.getppid() != server:
        signal.raise_signal(signal.SIGTERM)
    if not lives(int(os.environ[ABOVE])):
        os.kill(server, signal.SIGTERM)


def backoff(usual: float, failures: int, longest: float) -> float:
    """Seconds until the next try: twice as long after each failure in a row, up to ``longest``.

    Each time a little less, so that replicas of the service do not all return at once.
    """
    seconds = min(usual * 2 ** min(failures, 10), max(usual, longest))
    return seconds * random.uniform(0.8, 1)  # noqa: S311 - no secret
