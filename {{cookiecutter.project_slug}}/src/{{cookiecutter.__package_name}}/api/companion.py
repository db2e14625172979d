"""A process of this project that works beside the API, and is started again should it die.

What takes much memory, holds the interpreter's lock or may hang, such as the client of a registry
or of a database, is kept out of the processes that answer requests.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from ..settings import PACKAGE

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
# How long a companion may take to end in order.
END_SECONDS = 5.0
# How long threads that hang may hold up the end of a process.
EXIT_SECONDS = 7.0


class Companion:
    """``python -m <package> WORDS --until-eof``.

    Its standard input is a pipe that ends with this process, however that dies; so does it.

    :param heard: called in a thread with each line that it prints, and with "" when it has ended.
    """

    def __init__(self, *words: str, heard: Callable[[str], None]) -> None:
        self.command = [sys.executable, "-m", PACKAGE, *words, "--until-eof"]
        self.heard = heard
        # As it is now: this process may change its own later.
        self.environment = dict(os.environ)
        self._stop = threading.Event()
        self._process = self._start()
        threading.Thread(target=self._watch, name=words[0], daemon=True).start()

    def _start(self) -> subprocess.Popen:
        return subprocess.Popen(  # noqa: S603 - this very program
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self.environment,
            start_new_session=True,  # Ctrl-C is meant for us; it ends when we do
        )

    def _watch(self) -> None:
        pause = FIRST_PAUSE
        while True:
            for line in self._process.stdout:
                pause = FIRST_PAUSE
                self.heard(line.strip())
            self._process.wait()
            self.heard("")
            while not self._stop.wait(pause):
                pause = min(2 * pause, LONGEST_PAUSE)
                with suppress(OSError):  # no process or memory is left, for now
                    self._process = self._start()
                    break
            else:
                return

    def stop(self) -> None:
        """Let it end in order, and wait for that."""
        self._stop.set()
        self._process.stdin.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def until_eof(stop: Callable[[], None]) -> None:
    """In a companion: call ``stop`` when the process that started it has ended.

    A call that hangs must not outlive that process for long.
    """

    def wait() -> None:
        sys.stdin.read()
        stop()
        time.sleep(END_SECONDS)
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def leave_within(seconds: float) -> None:
    """End this process even if one of its threads never does."""
    timer = threading.Timer(seconds, os._exit, (1,))
    timer.daemon = True
    timer.start()
