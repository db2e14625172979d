"""`make docs` writes any contract into the pages, as requests that a shell passes on unchanged."""

import json
import re
import shutil
import subprocess
import sys

import pytest
from conftest import CHECKOUT, PACKAGE, SECONDS

NASTY = """
from datetime import date

from .schema import Column, Contract

CONTRACT = Contract(
    version="2.0.0",
    columns=(
        Column("@it's $HOME", "category", "a | b\\nc <!-- end -->", allowed=("x, `y`", "$(z) 'q'")),
        Column("Größe", "float", unit="m|s", maximum=-10),
        Column("N", "integer", minimum=7),
        Column("DAY", "date", minimum=date(2020, 1, 1), nullable=True),
    ),
    target=Column("Y", "boolean"),
)
"""
# Prints what it was given instead of sending it.
CURL = 'curl() { python3 -c "import json, sys; print(json.dumps(sys.argv[1:]))" "$@"; }\n'


@pytest.fixture
def project(tmp_path):
    for name in ("src", "docs", "data/raw"):
        shutil.copytree(CHECKOUT / name, tmp_path / name)
    shutil.copy(CHECKOUT / "README.md", tmp_path)
    (tmp_path / "src" / PACKAGE / "contract.py").write_text(NASTY, "utf-8")
    return tmp_path


def pages(project, *words):
    command = [sys.executable, "docs/pages.py", *words]
    variables = {"PYTHONPATH": "src", "PYTHONUTF8": "1"}
    done = subprocess.run(
        command, cwd=project, env=variables, capture_output=True, text=True, timeout=SECONDS
    )
    return done.returncode, done.stdout + done.stderr


def test_outdated_pages_are_named_and_once_written_they_are_not(project):
    code, told = pages(project, "--check")
    assert code == 1
    assert len(re.findall(r"(?m)\.md is outdated: make docs$", told)) == 3
    assert pages(project)[0] == 0
    assert pages(project, "--check") == (0, "")
    assert "| m\\|s |" in (project / "docs" / "contract.md").read_text("utf-8")


def test_a_shell_passes_on_each_request_as_it_is(project):
    assert pages(project)[0] == 0
    found = 0
    for name in ("README.md", "docs/api.md"):
        text = (project / name).read_text("utf-8")
        marked = re.findall(r"of the contract: make docs -->\n(.*?)<!-- end -->", text, re.S)
        for code in (
            block for part in marked for block in re.findall(r"```bash\n(.*?)```", part, re.S)
        ):
            done = subprocess.run(
                ["bash", "-euc", CURL + code], cwd=project, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            sent = json.loads(done.stdout)
            if sent[-1] == "@data/raw/rows.csv":
                continue
            body = json.loads(sent[-1])
            data = body.get("data") or {each["name"]: each["data"] for each in body["inputs"]}
            assert data["Größe"][0] <= -10 and data["N"] == [7] and len(data["DAY"]) == 1
            assert data.get("@it's $HOME", ["x, `y`"]) == ["x, `y`"]
            found += 1
    assert found == 4
    header, row = (project / "data" / "raw" / "rows.csv").read_text("utf-8").splitlines()
    assert header.startswith("@it's $HOME,Größe") and row.startswith('"x, `y`",')
