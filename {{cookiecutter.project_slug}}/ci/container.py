"""Run containers with Docker or Podman, with as few rights as possible.

The engine may run on another machine, named by DOCKER_HOST or CONTAINER_HOST. Therefore only the
smoke tests mount folders of this machine.
"""

import json
import os
import subprocess
from contextlib import suppress

from {{ cookiecutter.__package_name }}.errors import ProjectError

SECONDS, TRANSFER_SECONDS = 120, 1800
RIGHTS = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--pids-limit=256")
# For containers whose memory no setting limits, such as those of the smoke tests.
LOCKED = ("--network=none", *RIGHTS, "--memory=1g")
LINES_SHOWN = 20


def run(*command: str, seconds: float = SECONDS, given: str | None = None, **environment) -> str:
    """Run a command, with a timeout of ``seconds``, and return its standard output.

    :param given: its standard input.
    :param environment: additional variables, for secrets, as a list of processes shows arguments.
    :raises ProjectError: it fails, with the end of its output, or takes longer.
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
    """Whether an image's registry is on this machine, and so has no certificate."""
    return image.startswith(("localhost:", "127.0.0.1:"))


def _insecure(engine: str, image: str) -> tuple[str, ...]:
    # Docker accepts a local registry without a certificate by default.
    return ("--tls-verify=false",) if is_local(image) and "podman" in engine else ()


def inspect(engine: str, container: str) -> dict | None:
    """The engine's description of a container; None if there is no such container."""
    with suppress(ProjectError):
        return json.loads(run(engine, "container", "inspect", container))[0]
    return None


def remove(engine: str, container: str, seconds: int = 0) -> None:
    """Stop a container, with this many seconds to finish, and remove it, if it exists."""
    with suppress(ProjectError):
        run(engine, "stop", "-t", str(seconds), container, seconds=seconds + SECONDS)
    with suppress(ProjectError):
        run(engine, "rm", "--force", container)
