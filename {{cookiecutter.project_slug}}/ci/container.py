"""Containers as a cautious operator runs them: no network, no rights, nothing to write to."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from {{ cookiecutter.__package_name }}.errors import ProjectError

SECONDS = 120
LOCKED = ("--network=none", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--memory=1g")
LINES_SHOWN = 20


def try_image(work: Callable[[str, str, Path], None], argv: list[str]) -> int:
    """The exit code of ``work(engine, image, model folder)``: 1 if it fails, with a sentence."""
    if len(argv) != 3:
        print(f"usage: python {sys.argv[0]} ENGINE IMAGE MODEL", file=sys.stderr)
        return 2
    engine, image, model = argv
    try:
        work(engine, image, Path(model).resolve())
    except (ProjectError, OSError) as problem:
        print(f"error: {image}: {problem}", file=sys.stderr)
        return 1
    return 0


def run(*command: str) -> str:
    """What a command prints, within SECONDS.

    :raises ProjectError: it fails, or takes longer; with the last that it said.
    """
    shown = f"`{' '.join(command[:3])} …`"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise ProjectError(f"{shown} took longer than {SECONDS} seconds.") from None
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()[-LINES_SHOWN:]
        raise ProjectError("\n".join([f"{shown} exited {done.returncode}:", *said]))
    return done.stdout
