"""One try of a step: a process with a time limit that never outlives this one."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import contextmanager, suppress

from .. import settings

# Exit codes, as those of timeout(1) and of a shell.
TIMED_OUT, INTERRUPTED = 124, 130
# Seconds between SIGTERM and SIGKILL.
GRACE = 10
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def on_end(handler):
    """Handle the signals that ask this process to end, except those that nohup ignores."""
    those = [each for each in SIGNALS if signal.getsignal(each) != signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in those}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def once(command: Sequence[str], seconds: float, actor: str) -> int:
    """Run a command of this project in the project's folder; its exit code, or TIMED_OUT.

    :param actor: who decides what the command decides.
    """
    words, process, early = [sys.executable, "-m", settings.PACKAGE, *command], None, []
    try:
        # While the process starts, a signal only leaves a note: nobody could end the process yet.
        with on_end(lambda *note: early.append(note)):
            options = {"stdin": subprocess.DEVNULL, "start_new_session": True}
            options |= {"cwd": settings.root(), "env": {"ACTOR": actor} | os.environ}
            process = subprocess.Popen(words, **options)  # noqa: S603
        if early:
            raise KeyboardInterrupt
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return TIMED_OUT
    finally:
        if process and process.poll() is None:
            with on_end(lambda *_: None):
                _end(process)


def _end(process: subprocess.Popen) -> None:
    """End a process and what it has started: with SIGTERM, then with SIGKILL what is left."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, number)
            process.wait(GRACE)
