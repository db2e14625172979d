"""Whether who sends rows and who reads predictions can go on: this contract beside another one.

``python ci/compatibility.py BASE`` compares it with that of a revision of git. It prints what would
break them and returns 1, unless ``version`` in contract.py has changed as well, which says that it
is meant. 2: BASE cannot be read.
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
from {{ cookiecutter.__package_name }}.api.openapi import breaking
{% endif -%}
from {{ cookiecutter.__package_name }}.contract import CONTRACT
from {{ cookiecutter.__package_name }}.errors import ProjectError

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
    """:raises ProjectError: git's own words."""
    command = [shutil.which("git") or "git", *words]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, timeout=SECONDS)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise ProjectError(f"git {words[0]} {words[-1]}: {said}; was it fetched?")
    return done.stdout


def changes(old: dict, new: dict) -> list[str]:
    """What of a contract's description breaks those who relied on it, a phrase for each."""
    before, after = ({each["name"]: each for each in one["columns"]} for one in (old, new))
    found = [f"column {name} is gone" for name in before if name not in after]
    for name, column in after.items():
        if name not in before and not column.get("nullable"):
            found.append(f"column {name} is required")
        elif name in before and (reason := narrower(before[name], column)):
            found.append(f"column {name} {reason}")
    if (old["key"] or {}).get("name") != (new["key"] or {}).get("name"):
        found.append("the key is another one")
    # Whoever reads predictions must understand all of them.
    if old["target"]["name"] != new["target"]["name"] or narrower(new["target"], old["target"]):
        found.append("the prediction takes values that it did not")
    return sorted(found)


def narrower(old: dict, new: dict) -> str:
    """Why a value that the old column took may be refused by the new one; empty if none is."""
    if old["type"] != new["type"]:
        return f"is of type {new['type']}, no longer {old['type']}"
    if old.get("nullable") and not new.get("nullable"):
        return "must not be missing any more"
    if gone := set(old.get("allowed", ())) - set(new.get("allowed", ())):
        return f"no longer takes {', '.join(map(str, sorted(gone)))}"
    if "minimum" in new and ("minimum" not in old or new["minimum"] > old["minimum"]):
        return "has a higher minimum"
    if "maximum" in new and ("maximum" not in old or new["maximum"] < old["maximum"]):
        return "has a lower maximum"
    return ""
{%- if cookiecutter.deployment_flavor != "batch" %}


def operations(base: str) -> list[str]:
    """What breaks clients of the API beside its columns: operations that are gone."""
    old = json.loads(git("show", f"{revision(base)}:docs/openapi.json"))
    new = json.loads((PROJECT / "docs/openapi.json").read_text("utf-8"))
    columns = ("column ", "the prediction ")  # which `changes` has told
    return [each for each in breaking(old, new) if not each.startswith(columns)]
{%- endif %}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
