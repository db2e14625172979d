"""What the processes of an API share: ``serve`` starts the server, which starts the workers."""

import os
import random
import signal

# Environment variables: the folder of all metrics, as prometheus-client names it; the file in which
# a worker reports why it cannot start; the ids of the ``serve`` process and of its server.
METRICS, FAILURE = "PROMETHEUS_MULTIPROC_DIR", "API_FAILURE"
ABOVE, SERVER = "API_ABOVE", "API_SERVER"
# A file next to that of the failure; it exists once a worker has started.
STARTED = "started"
# A file in the folder of the metrics: the gauges of monitoring.
MONITORED = "monitored.prom"


def lives(process: int) -> bool:
    """Whether the process exists, even if it belongs to another user."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it belongs to another user
    return True


def end_with_parents() -> None:
    """End this worker if its server was killed, and the server if ``serve`` was killed."""
    server = int(os.environ[SERVER])
    if os.getppid() != server:
        signal.raise_signal(signal.SIGTERM)
    if not lives(int(os.environ[ABOVE])):
        os.kill(server, signal.SIGTERM)


def backoff(usual: float, failures: int, longest: float) -> float:
    """Seconds until the next try: twice as long after each failure in a row, up to ``longest``.

    Each wait is shortened at random, so that replicas of the service do not all retry at once.
    """
    seconds = min(usual * 2 ** min(failures, 10), max(usual, longest))
    return seconds * random.uniform(0.8, 1)  # noqa: S311 - no secret
