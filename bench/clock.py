"""The clock of all measured scripts."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def work() -> Iterator[None]:
    """Print the seconds of the block, which leaves out imports and loading."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    seconds = {"work": time.perf_counter() - wall, "work_cpu": time.process_time() - cpu}
    print(json.dumps(seconds))
