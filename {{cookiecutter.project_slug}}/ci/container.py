"""Containers as a cautious operator runs them: no network, no rights, nothing to write to."""

import subprocess

from {{ cookiecutter.__package_name }}.errors import ProjectError

SECONDS = 120
LOCKED = ("--network=none", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--memory=1g")
LINES_SHOWN = 20


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
