"""The rooms of the package: what each is for, and that imports run downwards only."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import CHECKOUT, PACKAGE, SECONDS

SRC = CHECKOUT / "src" / PACKAGE
ROOMS = sorted(file.parent.name for file in SRC.glob("*/__init__.py"))


@pytest.fixture
def lint(tmp_path):
    """What import-linter says of the project, with lines added to a module of it."""
    shutil.copytree(CHECKOUT / "src", tmp_path / "src")
    shutil.copy(CHECKOUT / "pyproject.toml", tmp_path)
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"]

    def run(module: str, line: str) -> subprocess.CompletedProcess:
        with (tmp_path / "src" / PACKAGE / module).open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")
        path = {"PYTHONPATH": str(tmp_path / "src")}
        options = {"cwd": tmp_path, "env": path, "capture_output": True, "text": True}
        return subprocess.run(command, timeout=SECONDS, **options)

    return run


def test_every_module_at_the_top_has_its_floor():
    found = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))
    layers, circles = found["tool"]["importlinter"]["contracts"]
    named = {name for layer in layers["layers"] for name in re.split(r" [|:] ", layer)}
    assert named == {*ROOMS, *(file.stem for file in SRC.glob("*.py"))} - {"__init__"}
    assert circles["ancestors"] == layers["containers"] == [PACKAGE]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_it_is_for(room):
    assert len(list((SRC / room).glob("*.py"))) > 2
    says = ast.get_docstring(ast.parse((SRC / room / "__init__.py").read_text("utf-8")))
    assert len(re.findall(r"\.(?:\s|$)", says)) == 2


def test_imports_run_downwards(lint):
    done = lint("errors.py", "")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "line", "refused"),
    [
        ("tables/reader.py", "from ..contract import CONTRACT", ".tables.reader -> "),
        ("schema/arrow.py", "def late():\n    from .. import settings\n", ".schema.arrow -> "),
        ("models/registry.py", "from .stores import label", "- .stores -> .registry"),
        ("training/plots.py", "from ..models import predict\n", ""),
    ],
)
def test_what_runs_upwards_or_in_a_circle_is_named(lint, module, line, refused):
    done = lint(module, line)
    assert done.returncode == bool(refused), done.stdout
    assert refused in done.stdout
