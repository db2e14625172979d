"""Containers by Docker or Podman, as a cautious operator runs them.

Whatever the engine talks to is meant: this machine, or another one by DOCKER_HOST or
CONTAINER_HOST. So nothing of this machine is mounted but by the smoke tests.
"""

import json
import os
import subprocess
from contextlib import suppress

from {{ cookiecutter.__package_name }}.errors import ProjectError

SECONDS, TRANSFER_SECONDS = 120, 1800
# Of a container's memory, where the settings of an environment say nothing else.
RIGHTS = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--pids-limit=256")
LOCKED = ("--network=none", *RIGHTS, "--memory=1g")
LINES_SHOWN = 20


def run(*command: str, seconds: float = SECONDS, given: str | None = None, **environment) -> str:
    """What a command prints, within so many seconds.

    :param given: its standard input.
    :param environment: variables on top of ours, for what no list of processes shall show.
    :raises ProjectError: it fails, or takes longer; with the last that it said.
    """
    shown = f"`{' '.join(command[:3])} …`"
    try:
        done = subprocess.run(
            command,
            input=given,
            capture_output=True,
            text=True,
            timeout=seconds,
            env=os.environ | environment,
        )
    except FileNotFoundError:
        raise ProjectError(f"{command[0]} is not installed.") from None
    except subprocess.TimeoutExpired:
        raise ProjectError(f"{shown} took longer than {seconds:g} seconds.") from None
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()[-LINES_SHOWN:]
        raise ProjectError("\n".join([f"{shown} exited {done.returncode}:", *said]))
    return done.stdout


def push(engine: str, image: str) -> None:
    run(engine, "push", *_insecure(engine, image), image, seconds=TRANSFER_SECONDS)


def pull(engine: str, image: str) -> None:
    run(engine, "pull", "--quiet", *_insecure(engine, image), image, seconds=TRANSFER_SECONDS)


def is_local(image: str) -> bool:
    """Whether an image's registry is on this machine, where none has a certificate."""
    return image.startswith(("localhost:", "127.0.0.1:"))


def _insecure(engine: str, image: str) -> tuple[str, ...]:
    # Docker knows by itself.
    return ("--tls-verify=false",) if is_local(image) and "podman" in engine else ()


def inspect(engine: str, container: str) -> dict | None:
    """What the engine knows of a container; None if there is none of that name."""
    with suppress(ProjectError):
        return json.loads(run(engine, "container", "inspect", container))[0]
    return None


def remove(engine: str, container: str, seconds: int = 0) -> None:
    """Stop and remove a container that may not be there, after so many seconds of grace."""
    with suppress(ProjectError):
        run(engine, "stop", "-t", str(seconds), container, seconds=seconds + SECONDS)
    with suppress(ProjectError):
        run(engine, "rm", "--force", container)
