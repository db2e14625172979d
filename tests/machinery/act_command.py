"""A command `act`, which the tests of pipelines add to a copy of the project.

It notes its name in the file `acts`, and ends with the next one of its exit codes.
"""

import signal
import subprocess
import time
from pathlib import Path


def add_arguments(parser):
    parser.add_argument("name")
    parser.add_argument("codes", nargs="*", type=int, default=[0])
    parser.add_argument("--hang", action="store_true", help="with a child; both ignore SIGTERM")


def run(arguments):
    acts = Path("acts")
    with acts.open("a", encoding="utf-8") as file:
        file.write(f"{arguments.name}\n")
    calls = acts.read_text("utf-8").split().count(arguments.name)
    if arguments.hang:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen(["sleep", "600"])
        Path("child.new").write_text(str(child.pid), "utf-8")
        Path("child.new").rename("child")
        time.sleep(600)
    return arguments.codes[min(calls, len(arguments.codes)) - 1]
