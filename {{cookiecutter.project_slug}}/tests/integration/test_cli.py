"""The command line: help for everything, a sentence for every mistake, exit codes."""

import signal
from functools import partial

import pyarrow.csv
import pytest
from conftest import wait_for

from {{ cookiecutter.__package_name }} import cli, settings


@pytest.mark.parametrize("command", cli.COMMANDS)
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
    for command in cli.COMMANDS:
        assert f"\n    {command} " in done.stdout
    for heavy in ("numpy", "pyarrow", "sqlalchemy", "mlflow", "sklearn", "pydantic"):
        assert f"'{heavy}'" not in done.stdout


def test_help_and_mistakes_have_their_exit_codes(project):
    assert project.run("--help").returncode == 0
    for words in ((), ("bogus",), ("score", "--bogus"), ("score", "--format", "xls")):
        done = project.run(*words)
        assert done.returncode == 2
        assert "usage:" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["score", "--run-id", "a/b"], "run id"),
        (["score", "--run-id", "../x"], "run id"),
        (["score", "--watermark", "id"], "goes with --incremental"),
        (["score", "--incremental", "--run-id", "x"], "chooses its own run ids"),
        (["score", "--incremental", "--output", "x.csv"], "give a folder or a table"),
        (["score", "--incremental", "--watermark", "id"], "takes a folder, or a table"),
        (["score", "--input", "sqlite:///x.db#t", "--incremental"], "takes a folder, or a table"),
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
    done = project.run("score", ENVIRONMENT="production")
    assert done.returncode == 2
    assert "known are: nonprod, prod" in done.stderr
    assert "Traceback" not in done.stderr


def test_history_and_promote(copied, capsys):
    assert cli.main(["history"]) == 0
    head, *versions = capsys.readouterr().out.splitlines()
    assert head.startswith("version")
    assert [line.split()[:2] for line in versions] == [["1", "champion"]]
    assert cli.main(["promote", "1"]) == 2
    assert "champion already" in capsys.readouterr().err


def test_verbose_logs_what_is_done(project):
    quiet, loud = project.run("contract"), project.run("-v", "contract")
    assert (quiet.returncode, quiet.stderr) == (0, "")
    assert (loud.returncode, " INFO " in loud.stderr) == (0, True)
    assert quiet.stdout == loud.stdout


def test_the_log_folder_tells_what_was_done_and_no_password(project):
    (project.folder / "log").mkdir()
    words = ("score", "--input", "postgresql+pg8000://reader:se%23cret@localhost:1/db#orders")
    assert project.run(*words, "--model", "nowhere").returncode == 2
    log = (project.folder / "log" / f"{settings.PACKAGE}.log").read_text("utf-8")
    assert "score" in log
    assert "holds no model" in log or "refused" in log
    assert "cret" not in log


def test_ctrl_c_is_130_and_a_word(project, saved, rows):
    pyarrow.csv.write_csv(rows(200_000), project.folder / "many.csv")
    words = ("score", "--input", "many.csv", "--model", saved, "--run-id", "slow")
    # A job in the background of a shell inherits an ignored SIGINT.
    listening = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = project.start(*words, BATCH__PART_ROWS=1000, preexec_fn=listening)
    staging = project.folder / "data/predictions/.staging/slow"
    wait_for(lambda: list(staging.glob("part-*.json")), process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == cli.INTERRUPTED
    assert len(err.splitlines()) == 1
    assert err.startswith("interrupted")
    assert not (project.folder / "data/predictions/slow").exists()
