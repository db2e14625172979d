"""The git repository of this project, and the server of its remote ``origin``."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from {{ cookiecutter.__package_name }}.errors import ProjectError

PROJECT = Path(__file__).resolve().parents[1]
MAIN = "main"
SECONDS = 120
# git@host:path, ssh://git@host:22/path, https://user@host/path, each with or without .git
ORIGIN = re.compile(
    r"(?:(?P<scheme>https?|ssh)://)?(?:[^@/]*@)?(?P<host>[^/:@]+)(?P<port>:\d+)?[:/]+"
    r"(?P<path>.+?)(?:\.git)?/?"
)


def git(*words: str, given: str | None = None, **variables: str) -> str:
    """Run git and return its output.

    :param given: its standard input.
    :raises ProjectError: git fails; with its message.
    """
    command = [shutil.which("git") or "git", *words]
    options = {"cwd": PROJECT, "env": os.environ | variables, "timeout": SECONDS}
    options |= {"capture_output": True, "encoding": "utf-8", "errors": "replace"}
    done = subprocess.run(command, input=given, **options)
    if done.returncode:
        said = done.stderr.strip().rpartition("\n")[2]
        raise ProjectError(f"git {words[0]}: {said or f'it exited {done.returncode}'}")
    return done.stdout.strip()


def url() -> str:
    """The URL of ``origin``, without a user name and password."""
    return without_password(git("remote", "get-url", "origin"))


def without_password(address: str) -> str:
    """A URL without the credentials that a workflow's checkout may have added."""
    return re.sub(r"^(https?://)[^@/]*@", r"\1", address)


def address() -> tuple[str, str]:
    """The server of ``origin``, such as https://github.com, and the project's path there.

    :raises ProjectError: ``origin`` is a folder.
    """
    found = ORIGIN.fullmatch(url())
    if not found or url().startswith(("/", ".", "file:")):
        raise ProjectError(f"the remote origin, {url()}, is on no server.")
    if found["scheme"] in ("http", "https"):
        return f"{found['scheme']}://{found['host']}{found['port'] or ''}", found["path"]
    return f"https://{found['host']}", found["path"]
