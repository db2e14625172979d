"""The command `score`: the champion's predictions, mistakes in one sentence, interruption."""

import signal
from functools import partial

import pyarrow.csv
import pytest
from conftest import SECONDS, wait_for
from slow_score import SLOWLY

from iris_flower_prediction import cli, settings
from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.models import stores
from iris_flower_prediction.models.predict import make_predictions
from iris_flower_prediction.tables import reader

CHAMPION = f"models:/{settings.PACKAGE}@champion"


def test_the_champion_scores_as_it_predicts(copied):
    done = copied.run("score", "--run-id", "first")
    assert done.returncode == 0, done.stderr
    predictions = reader.read(str(copied.folder / "data/predictions/first"), CONTRACT)
    source = copied.folder / "data/raw/example.csv"
    rows = reader.read(str(source), CONTRACT)
    assert predictions.num_rows == rows.num_rows
    model = stores.load_model(CHAMPION, settings.load())
    assert predictions["prediction"].to_pylist() == make_predictions(model, rows)
    assert set(predictions["model_version"].to_pylist()) == {"1"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--run-id", "a/b"], "run id"),
        (["--run-id", "../x"], "run id"),
        (["--watermark", "id"], "goes with --incremental"),
        (["--incremental", "--run-id", "x"], "chooses its own run ids"),
        (["--incremental", "--output", "x.csv"], "give a folder or a table"),
        (["--incremental", "--watermark", "id"], "takes a folder, or a table"),
        (["--input", "sqlite:///x.db#t", "--incremental"], "takes a folder, or a table"),
    ],
)
def test_mistakes_are_explained_in_one_sentence(untouched, monkeypatch, capsys, words, sentence):
    monkeypatch.chdir(untouched.folder)
    assert cli.main(["score", *words]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert sentence in lines[0]


def test_an_unknown_format_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["score", "--format", "xls"])
    assert "xls" in capsys.readouterr().err


def test_the_log_folder_holds_no_password(project):
    (project.folder / "log").mkdir()
    words = ("score", "--input", "postgresql+pg8000://reader:se%23cret@localhost:1/db#orders")
    assert project.run(*words, "--model", "nowhere").returncode == 2
    log = (project.folder / "log" / f"{settings.PACKAGE}.log").read_text("utf-8")
    assert "holds no model" in log or "refused" in log
    assert "cret" not in log


def test_ctrl_c_is_130_and_a_word(project, saved, rows):
    pyarrow.csv.write_csv(rows(200_000), project.folder / "many.csv")
    words = (SLOWLY, "score", "--input", "many.csv", "--model", saved, "--run-id", "slow")
    # A job in the background of a shell inherits an ignored SIGINT.
    listening = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = project.start(*words, APP__BATCH__PART_ROWS=1000, preexec_fn=listening)
    staging = project.folder / "data/predictions/.staging/slow"
    wait_for(lambda: list(staging.glob("*")), process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == cli.INTERRUPTED
    assert len(err.splitlines()) == 1
    assert err.startswith("interrupted")
    assert not (project.folder / "data/predictions/slow").exists()
