"""Incremental scoring: every file and every row exactly once, also after sudden death."""

import signal
import sqlite3
from contextlib import closing

import pyarrow.csv
import pytest
from conftest import PACKAGE, SECONDS, spoil
from orders_table import fill

from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.tables import reader

BY_NUMBER = ("--incremental", "--watermark", "number")
# The command, which dies between publishing and marking the claim as done.
KILLED = f"""
import os, signal, sys
from {PACKAGE} import cli
from {PACKAGE}.batch import ledger
ledger.Ledger.done = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
sys.exit(cli.main())
"""


@pytest.fixture
def score(project, call, saved):
    """score(*words): the command with the saved model; start and killed make real processes."""

    def run(*words, **settings):
        return call("score", "--model", saved, *words, **settings)

    run.start = lambda *words: project.start("score", "--model", saved, *words)
    script = project.folder / "killed.py"
    script.write_text(KILLED, "utf-8")
    run.killed = lambda *words: project.run(script, "score", "--model", saved, *words)
    run.folder = project.folder
    run.predictions = project.folder / "data/predictions"
    run.ledger = project.folder / "data/project.db"
    run.published = lambda: sorted(
        path.name for path in run.predictions.iterdir() if (path / "_manifest.json").exists()
    )
    return run


def count(score):
    return reader.read(str(score.predictions), CONTRACT).num_rows


def ok(done):
    assert done.returncode == 0, done.stderr
    return done.stdout


def arrived(score, table):
    """The first file of a folder."""
    file = score.folder / "in" / "a.csv"
    file.parent.mkdir()
    pyarrow.csv.write_csv(table, file)
    return file


def killed_before_done(score, *words):
    before = set(score.published()) if score.predictions.exists() else set()
    assert score.killed(*words).returncode == -signal.SIGKILL
    assert set(score.published()) - before
    with closing(sqlite3.connect(score.ledger)) as ledger:
        query = "SELECT count(*) FROM score_claims WHERE NOT done"
        assert ledger.execute(query).fetchone() != (0,)


def test_every_file_once_however_the_folder_is_named(score, rows):
    folder = score.folder / "in"
    folder.mkdir()
    pyarrow.csv.write_csv(rows(30), folder / "a.csv")
    assert "30 rows read" in ok(score("--input", "in", "--incremental"))
    for name in ("in", "./in/", folder, folder.as_uri()):
        assert "Nothing new" in ok(score("--input", name, "--incremental"))
    pyarrow.csv.write_csv(rows(40), folder / "b.csv")
    assert "40 rows read" in ok(score("--input", "in", "--incremental"))
    assert count(score) == 70


def test_files_once_also_when_killed_between_publishing_and_done(score, rows):
    folder = score.folder / "in"
    folder.mkdir()
    pyarrow.csv.write_csv(rows(30), folder / "a.csv")
    killed_before_done(score, "--input", "in", "--incremental")
    pyarrow.csv.write_csv(rows(5), folder / "b.csv")
    out = ok(score("--input", "in", "--incremental"))
    assert "published already" in out
    assert "5 rows read" in out
    assert count(score) == 35
    assert "Nothing new" in ok(score("--input", "in", "--incremental"))


def test_a_claim_that_failed_is_finished_by_the_next_call(score, rows):
    folder = score.folder / "in"
    folder.mkdir()
    (folder / "a.csv").write_text("WRONG\n1\n", "utf-8")
    assert score("--input", "in", "--incremental").returncode == 2
    pyarrow.csv.write_csv(rows(30), folder / "a.csv")
    assert "30 rows read" in ok(score("--input", "in", "--incremental"))
    assert count(score) == 30


def test_a_refused_file_that_was_taken_away_is_scored_when_it_comes_back(score, rows):
    file = arrived(score, rows(30))
    assert score("--input", "in", "--incremental", "--model", "nowhere").returncode == 2
    file.rename(score.folder / "a.csv")
    pyarrow.csv.write_csv(rows(5), file.with_name("b.csv"))
    assert "5 rows read" in ok(score("--input", "in", "--incremental"))
    (score.folder / "a.csv").rename(file)
    assert "30 rows read" in ok(score("--input", "in", "--incremental"))
    assert count(score) == 35


def test_a_published_file_that_was_taken_away_is_not_scored_again(score, rows):
    file = arrived(score, rows(30))
    killed_before_done(score, "--input", "in", "--incremental")
    file.rename(score.folder / "a.csv")
    ok(score("--input", "in", "--incremental"))
    (score.folder / "a.csv").rename(file)
    assert "Nothing new" in ok(score("--input", "in", "--incremental"))
    assert count(score) == 30


def test_a_claim_that_was_refused_is_finished_where_nothing_is_left_of_it(score, rows):
    arrived(score, spoil(rows(10), 0))
    words = ("--input", "in", "--incremental", "--output", "sqlite:///out.db#scores")
    assert score(*words, APP__BATCH__MAX_REJECTED_SHARE="0").returncode == 2
    said = ok(score(*words, APP__BATCH__MAX_REJECTED_SHARE="0.5", APP__BATCH__WORK="elsewhere"))
    assert "9 predicted, 1 rejected" in said


def test_rows_past_the_watermark_once(score, rows):
    file = score.folder / "shop.db"
    uri = f"sqlite:///{file}#orders"
    fill(uri, rows(100))
    assert "100 rows read" in ok(score("--input", uri, *BY_NUMBER))
    assert "Nothing new" in ok(score("--input", uri, *BY_NUMBER))
    with sqlite3.connect(file) as database:
        database.execute("DELETE FROM orders WHERE number > 50")
    assert "Nothing new" in ok(score("--input", uri, *BY_NUMBER))
    fill(uri, rows(20), first=100)
    killed_before_done(score, "--input", uri, *BY_NUMBER)
    fill(uri, rows(3), first=120)
    out = ok(score("--input", uri, *BY_NUMBER))
    assert "published already" in out
    assert "3 rows read" in out
    assert count(score) == 123


def test_an_empty_table_has_nothing_new(score, rows):
    uri = f"sqlite:///{score.folder / 'shop.db'}#orders"
    fill(uri, rows(1).slice(0, 0))
    assert "Nothing new" in ok(score("--input", uri, *BY_NUMBER))


def test_two_calls_at_once_score_nothing_twice(score, rows):
    folder = score.folder / "in"
    folder.mkdir()
    pyarrow.csv.write_csv(rows(30), folder / "a.csv")
    calls = [score.start("--input", "in", "--incremental") for _ in range(2)]
    ended = [(call.communicate(timeout=SECONDS), call.returncode) for call in calls]
    for (_, err), code in ended:
        assert code == 0 or (code == 2 and len(err.splitlines()) == 1), err
    assert 0 in [code for _, code in ended]
    assert count(score) == 30


def test_the_database_says_which_value_is_the_larger_one(score, rows):
    """By the column's collation a1 comes before B2; in Python, B2 comes before a1."""
    uri = f"sqlite:///{score.folder / 'shop.db'}#orders"
    fill(uri, rows(2))
    words = ("--incremental", "--watermark", "code", "--input", uri)
    with sqlite3.connect(score.folder / "shop.db") as database:
        database.execute("ALTER TABLE orders ADD COLUMN code TEXT COLLATE NOCASE")
        database.execute("UPDATE orders SET code = 'a' || (number + 1)")
    assert "2 rows read" in ok(score(*words))
    for code in ("B2", "c1"):
        fill(uri, rows(1), first=10)
        with sqlite3.connect(score.folder / "shop.db") as database:
            database.execute("UPDATE orders SET code = ? WHERE code IS NULL", (code,))
        assert "1 rows read" in ok(score(*words))
        assert "Nothing new" in ok(score(*words))


def test_one_table_is_the_same_by_any_name(score, rows):
    fill(f"sqlite:///{score.folder / 'shop.db'}#orders", rows(5))
    assert "5 rows read" in ok(score("--input", "sqlite:///shop.db#orders", *BY_NUMBER))
    (score.folder / "x").mkdir()
    for uri in ("sqlite:///x/../shop.db#orders", "sqlite:///shop.db# orders;"):
        assert "Nothing new" in ok(score("--input", uri, *BY_NUMBER))
