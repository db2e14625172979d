"""The command line: help for everything, a sentence for every mistake, exit codes."""

import re
from importlib.util import find_spec

import pytest

from iris_flower_prediction import cli, settings

COMMANDS = [
    name for name, (module, _) in cli.COMMANDS.items() if find_spec(f"{settings.PACKAGE}.{module}")
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    out = capsys.readouterr().out
    assert ended.value.code == 0
    assert cli.COMMANDS[command][1][1:] in " ".join(out.split())


def test_help_lists_every_command_and_imports_nothing_heavy(project):
    script = project.folder / "heavy.py"
    script.write_text(
        f"import sys\nfrom {settings.PACKAGE}.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    print(sorted(sys.modules))\n",
        "utf-8",
    )
    done = project.run(script)
    assert done.returncode == 0
    for command in COMMANDS:
        assert f"\n    {command} " in done.stdout
    for heavy in ("numpy", "pyarrow", "sqlalchemy", "mlflow", "sklearn", "pydantic"):
        assert f"'{heavy}'" not in done.stdout


def test_a_file_of_the_user_that_is_no_python_is_named_with_its_line(project):
    file = project.folder / "src" / settings.PACKAGE / "model.py"
    file.write_text("def build(seed:\n", "utf-8")
    done = project.run("train")
    assert done.returncode == cli.FAILED
    assert done.stderr == f"error: {file}, line 1: '(' was never closed.\n"


def test_help_and_mistakes_have_their_exit_codes(project):
    assert project.run("--help").returncode == 0
    for words in ((), ("bogus",), ("train", "--bogus"), ("promote",)):
        done = project.run(*words)
        assert done.returncode == 2
        assert "usage:" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["promote", "first"], "no such model"),
        (["rollback"], "no previous champion"),
        (["copy", "nowhere", "somewhere"], "holds no model"),
    ],
)
def test_mistakes_are_explained_in_one_sentence(untouched, monkeypatch, capsys, words, sentence):
    monkeypatch.chdir(untouched.folder)
    assert cli.main(words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert sentence in lines[0]


def test_an_unknown_environment_is_explained(project):
    done = project.run("history", ENVIRONMENT="production")
    assert done.returncode == 2
    assert "known are: nonprod, prod" in done.stderr
    assert "Traceback" not in done.stderr


def test_history_and_promote(copied, capsys):
    assert cli.main(["history"]) == 0
    versions, decisions = capsys.readouterr().out.split("\n\n")
    head, *versions = versions.splitlines()
    assert head.startswith("version")
    assert [line.split()[:2] for line in versions] == [["1", "champion"]]
    assert re.search(r"(?m)^\d{4}-\d\d-\d\d \d\d:\d\dZ .*  promoted  1 ", decisions)
    assert cli.main(["promote", "1"]) == 2
    assert "champion already" in capsys.readouterr().err


def test_verbose_logs_what_is_done(project):
    quiet, loud = project.run("contract"), project.run("-v", "contract")
    assert (quiet.returncode, quiet.stderr) == (0, "")
    assert (loud.returncode, " INFO " in loud.stderr) == (0, True)
    assert quiet.stdout == loud.stdout


def test_the_log_folder_tells_what_was_done(project):
    (project.folder / "log").mkdir()
    assert project.run("copy", "nowhere", "somewhere").returncode == 2
    log = (project.folder / "log" / f"{settings.PACKAGE}.log").read_text("utf-8")
    assert "started: copy" in log
    assert "holds no model" in log
