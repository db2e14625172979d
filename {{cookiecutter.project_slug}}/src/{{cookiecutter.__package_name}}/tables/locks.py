"""Locks for work that only one process may do at a time."""

from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import ProjectError


@contextmanager
def only_one(name: str, work: Path, what: str, seconds: float = 0):
    """Hold a lock; the operating system releases it if the process dies.

    :param seconds: how long to wait for it.
    :raises ProjectError: another process holds it; ``what`` is the subject of the message.
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
        # Removed while the lock is held: a waiting FileLock notices this and creates a new file.
        with suppress(PermissionError):
            file.unlink(missing_ok=True)
        lock.release()
