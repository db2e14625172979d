"""One process at a time for what must not be done twice at once."""

from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import ProjectError


@contextmanager
def only_one(name: str, work: Path, what: str, seconds: float = 0):
    """Hold a lock; the system releases it when the process dies, however it dies.

    :param seconds: how long to wait for it.
    :raises ProjectError: another process holds it; ``what`` begins the sentence.
    """
    file = work / ".locks" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file, timeout=seconds)
    try:
        lock.acquire()
    except Timeout:
        raise ProjectError(f"{what} is at work in another process.") from None
    try:
        yield
    finally:
        # Removed while it is held: whoever waits on the removed file is told so by FileLock.
        with suppress(PermissionError):
            file.unlink(missing_ok=True)
        lock.release()
