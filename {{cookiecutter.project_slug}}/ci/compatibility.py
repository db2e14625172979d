"""Check that the contract breaks neither senders of rows nor readers of predictions.

``python ci/compatibility.py BASE`` compares it with the contract of a revision of git. It prints
breaking changes and returns 1, unless ``version`` in contract.py has changed, too: then they are
intended. Exit code 2: BASE cannot be read.
"""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

{% if cookiecutter.deployment_flavor != "batch" -%}
from {{ cookiecutter.__package_name }}.api.describe import gone
{% endif -%}
from {{ cookiecutter.__package_name }}.contract import CONTRACT
from {{ cookiecutter.__package_name }}.errors import ProjectError
from {{ cookiecutter.__package_name }}.schema.compatibility import changes

PROJECT = Path(__file__).resolve().parents[1]
PACKAGE = "src/{{ cookiecutter.__package_name }}"
DESCRIBE = """
import json
from {{ cookiecutter.__package_name }}.contract import CONTRACT
print(json.dumps(CONTRACT.describe()))
"""
SECONDS = 120


def main(argv: list[str]) -> int:
    if len(argv) != 1:
        print("usage: python ci/compatibility.py BASE", file=sys.stderr)
        return 2
    try:
        old = contract_of(argv[0])
        broken = changes(old, CONTRACT.describe())
{%- if cookiecutter.deployment_flavor != "batch" %}
        broken += operations(argv[0])
{%- endif %}
    except ProjectError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    for each in broken:
        print(f"breaking: {each}")
    if broken and old["version"] == CONTRACT.version:
        print(f"Raise the version in contract.py, now {CONTRACT.version}, if that is meant.")
        return 1
    print("It is meant: the contract has a new version." if broken else "Nothing breaks.")
    return 0


def contract_of(base: str) -> dict:
    """The contract of another revision, as its own code describes it.

    :raises ProjectError: there is no such revision, or its code does not run here.
    """
    archive = io.BytesIO(git("archive", revision(base), PACKAGE))
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=archive) as opened:
            opened.extractall(folder, filter="data")
        done = subprocess.run(
            [sys.executable, "-c", DESCRIBE],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(Path(folder, "src"))},
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        raise ProjectError(f"the contract of {base} cannot be read: {last}.")
    return json.loads(done.stdout)


def revision(base: str) -> str:
    """:raises ProjectError: there is no such commit."""
    words = ("rev-parse", "--verify", "--end-of-options", base + "^{commit}")
    return git(*words).decode().strip()


def git(*words: str) -> bytes:
    """:raises ProjectError: git fails; with its message."""
    command = [shutil.which("git") or "git", *words]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, timeout=SECONDS)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise ProjectError(f"git {words[0]} {words[-1]}: {said}; was it fetched?")
    return done.stdout
{%- if cookiecutter.deployment_flavor != "batch" %}


def operations(base: str) -> list[str]:
    """The operations of the API that BASE has and this revision lacks."""
    old = json.loads(git("show", f"{revision(base)}:docs/openapi.json"))
    new = json.loads((PROJECT / "docs/openapi.json").read_text("utf-8"))
    return gone(old, new)
{%- endif %}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
