"""The command ``cron``: lines of a crontab, which stand there between two comments."""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from datetime import datetime
from zoneinfo import ZoneInfo

from .. import settings
from ..errors import ProjectError
from ..settings import PACKAGE, Settings
from .definition import pipelines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_mutually_exclusive_group().add_argument
    add("--install", action="store_true", help="put the lines into your crontab")
    add("--uninstall", action="store_true", help="remove them from your crontab")


def run(arguments: argparse.Namespace) -> int:
    config = settings.load()
    jobs = [] if arguments.uninstall else lines(config)
    if arguments.install or arguments.uninstall:
        if jobs:
            _require_same_clock(config.pipelines.timezone)
        before = _crontab("-l")
        after = replaced(before, jobs)
        if after != before:
            _crontab("-", after)
        print(f"Your crontab has {len(jobs)} lines for {_place()}.")
    for job in jobs:
        print(job)
    return 0


def lines(config: Settings) -> list[str]:
    """One line for each pipeline with a schedule; standard error goes to cron's mail."""
    words = (str(settings.root()), settings.environment(), sys.executable)
    folder, environment, python = map(shlex.quote, words)
    start = f"cd {folder} && ENVIRONMENT={environment} {python} -m {PACKAGE} run"
    if "\n" in start:
        raise ProjectError(f"a crontab cannot name {start!r}: rename the folder.")
    return [
        f"{each.schedule} " + f"{start} {each.name} >/dev/null".replace("%", r"\%")
        for each in pipelines(config).values()
        if each.schedule
    ]


def _place() -> str:
    return f"{settings.root()}, environment {settings.environment()}"


def replaced(crontab: bytes, jobs: list[str]) -> bytes:
    """A crontab with these lines instead of those between the marker comments, if any."""
    begin, end = (os.fsencode(f"# {word} pipelines of {_place()}\n") for word in ("Begin", "End"))
    head, begun, rest = crontab.partition(begin)
    _, ended, tail = rest.partition(end)
    counts = {crontab.count(begin), crontab.count(end)}
    if counts not in ({0}, {1}) or bool(begun) != bool(ended):
        problem = f"pipelines of {_place()} do not begin and end once: correct the two comments"
        raise ProjectError(f"in your crontab, the {problem} with `crontab -e`.")
    if head and not head.endswith(b"\n"):
        head += b"\n"
    block = [begin, *(os.fsencode(f"{job}\n") for job in jobs), end] if jobs else []
    return head + b"".join(block) + tail


def _crontab(word: str, given: bytes = b"") -> bytes:
    """Call ``crontab -l`` or ``crontab -``."""
    program = shutil.which("crontab")
    if program is None:
        advice = "install cron, for example with `apt-get install cron`"
        raise ProjectError(f"there is no program `crontab` on this machine: {advice}.")
    done = subprocess.run([program, word], input=given, capture_output=True)  # noqa: S603
    if done.returncode and not (word == "-l" and b"no crontab for" in done.stderr):
        says = "; ".join(done.stderr.decode(errors="replace").split("\n")).strip("; .")
        raise ProjectError(f"`crontab {word}` failed: {says}.")
    return done.stdout


def _require_same_clock(timezone: str) -> None:
    """Refuse another time zone than this machine's, which is the only one that cron knows."""
    months = [datetime(datetime.now().year, month, 1) for month in range(1, 13)]
    ours = [month.replace(tzinfo=ZoneInfo(timezone)).utcoffset() for month in months]
    if ours != [month.astimezone().utcoffset() for month in months]:
        machine = f"cron uses this machine's time zone, {datetime.now().astimezone():%Z}"
        advice = "set pipelines.timezone to it, or change that of the machine"
        raise ProjectError(f"pipelines.timezone is {timezone}, but {machine}: {advice}.")
