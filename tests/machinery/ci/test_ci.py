"""The programs of ci/: each passes where it should, and is red where something is wrong."""

import json
import re
import runpy
import shutil
import subprocess
import sys

import pytest
from conftest import CHECKOUT, PACKAGE, QUICK, one_sentence

from iris_flower_prediction import settings
from iris_flower_prediction.contract import CONTRACT

COLUMN = CONTRACT.columns[0]
# As somebody would write it: the first column is gone, or the whole is another version, too.
GONE = """
from dataclasses import replace
CONTRACT = replace(CONTRACT, version={version!r}, columns=CONTRACT.columns[1:])
"""


@pytest.fixture
def repository(project):
    """The project as a repository of git; its first commit is ``main``."""
    for name in ("ci", "docs"):
        shutil.copytree(CHECKOUT / name, project.folder / name)
    shutil.copy(CHECKOUT / ".gitignore", project.folder)
    git(project, "init", "--quiet", "--initial-branch=main")
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message", "First")
    return project


def git(project, *words: str) -> None:
    identity = ("-c", "user.name=A team", "-c", "user.email=team@example.com")
    command = [shutil.which("git"), *identity, *words]
    subprocess.run(command, cwd=project.folder, check=True)


def compare(project, base: str = "main") -> subprocess.CompletedProcess:
    return project.run(project.folder / "ci/compatibility.py", base)


def change_contract(project, version: str) -> None:
    file = project.folder / "src" / PACKAGE / "contract.py"
    file.write_text(file.read_text("utf-8") + GONE.format(version=version), "utf-8")


def test_an_unchanged_contract_breaks_nothing(repository):
    done = compare(repository)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Nothing breaks.\n", "")


def test_a_column_that_is_gone_is_red_until_the_version_says_so(repository):
    change_contract(repository, CONTRACT.version)
    done = compare(repository)
    assert done.returncode == 1
    assert f"breaking: column {COLUMN.name} is gone\n" in done.stdout
    change_contract(repository, "99.0.0")
    done = compare(repository)
    assert (done.returncode, "It is meant" in done.stdout) == (0, True)


@pytest.mark.parametrize("base", ["nowhere", "--help", ""])
def test_a_base_that_is_none_is_one_sentence(repository, base):
    assert "was it fetched?" in one_sentence(compare(repository, base))


def test_a_base_without_a_contract_is_one_sentence(repository):
    file = repository.folder / "src" / PACKAGE / "contract.py"
    kept = file.read_text("utf-8")
    file.write_text("raise OSError('strange')\n", "utf-8")
    git(repository, "commit", "--quiet", "--all", "--message", "Broken")
    file.write_text(kept, "utf-8")
    assert "strange" in one_sentence(compare(repository))


def test_a_new_value_of_the_target_breaks_who_reads_predictions(monkeypatch):
    import compatibility

    old = CONTRACT.describe()
    target = {"name": "Y", "type": "category", "allowed": ["a"]}
    changed = target | {"allowed": ["a", "b"]}
    found = compatibility.changes(old | {"target": target}, old | {"target": changed})
    assert found == ["the prediction takes values that it did not"]
    assert compatibility.changes(old | {"target": changed}, old | {"target": target}) == []


def gate(project, **chosen):
    words = (project.folder / "ci/gate.py", "build/gate", "build/reports/model.md")
    return project.run(*words, **QUICK, **chosen)


@pytest.mark.slow
def test_the_gate_leaves_a_model_and_a_report_or_is_red(repository):
    done = gate(repository)
    assert done.returncode == 0, done.stdout + done.stderr
    report, model = repository.folder / "build/reports/model.md", repository.folder / "build/gate"
    told = report.read_text("utf-8")
    assert "## Model: promoted" in told
    assert re.search(r"\| \w+ \| [\d.]+ \| at (least|most) [\d.]+ \|", told)
    assert (model / "model/metadata.json").is_file()
    # The project's own registry is left alone.
    assert not (repository.folder / "mlflow.db").exists()

    # It may run again; of a model under the threshold only the report is left.
    training = settings.load().training
    bounds, never = ("MINIMUM", 1e9) if training.minimum else ("MAXIMUM", -1)
    done = gate(repository, **{f"APP__TRAINING__{bounds}": json.dumps({training.metric: never})})
    assert done.returncode == 1, done.stdout + done.stderr
    assert "## Model: rejected" in report.read_text("utf-8")
    assert not (model / "model").exists()


# sbom.py has an environment of its own.
PROGRAMS = [path for path in CHECKOUT.glob("ci/[!s]*.py") if "__main__" in path.read_text("utf-8")]
PROGRAMS += CHECKOUT.glob("ci/smoke_*.py")


@pytest.mark.parametrize("name", sorted(path.name for path in PROGRAMS))
def test_a_program_without_arguments_says_how_it_is_used(name, monkeypatch, capsys):
    """As ``python ci/NAME``, but in this process, which has imported already what all need."""
    monkeypatch.setattr(sys, "argv", [name])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(CHECKOUT / "ci" / name), run_name="__main__")
    assert (ended.value.code, capsys.readouterr().err[:6]) == (2, "usage:")


def test_an_image_that_does_nothing_is_red(repository, tmp_path):
    """An engine that fails, in place of the real one, which the tests of images use."""
    for program in sorted(CHECKOUT.glob("ci/smoke_*.py")):
        words = (repository.folder / "ci" / program.name, sys.executable, "image", tmp_path)
        done = repository.run(*words)
        assert done.returncode == 1
        assert "exited" in done.stderr
        assert "Traceback" not in done.stderr
