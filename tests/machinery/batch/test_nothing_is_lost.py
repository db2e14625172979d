"""Mistakes on the command line must not destroy files, outputs or the champion."""

import os
import shutil
import sqlite3

import pyarrow.csv
import pytest
from conftest import one_sentence, spoil, use
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from orders_table import fill

from iris_flower_prediction import settings
from iris_flower_prediction.errors import ProjectError
from iris_flower_prediction.models import registry


@pytest.fixture
def table(project, rows):
    file = project.folder / "in" / "rows.csv"
    file.parent.mkdir()
    pyarrow.csv.write_csv(rows(20), file)
    return file


@pytest.mark.parametrize("output", ["in/rows.csv", "in", "in/out", "in/../in/out"])
def test_the_output_never_replaces_its_input(call, saved, table, output):
    before = table.read_bytes()
    source = table if "out" not in output else table.parent
    done = call("score", "--model", saved, "--input", source, "--output", output)
    assert done.returncode == 2
    assert "both input and output" in done.stderr
    assert table.read_bytes() == before


def test_one_run_id_may_fill_two_tables(call, saved, project, table):
    for name in ("first", "second"):
        uri = f"sqlite:///{project.folder}/out.db#{name}"
        done = call("score", "--model", saved, "--input", table, "--output", uri, "--run-id", "a")
        assert "20 predicted" in done.stdout
    with sqlite3.connect(project.folder / "out.db") as database:
        for name in ("first", "second"):
            assert database.execute(f"SELECT count(*) FROM {name}").fetchone() == (20,)


def test_an_empty_option_is_no_default(call, capsys):
    with pytest.raises(SystemExit) as ended:
        call("score", "--run-id", "")
    assert ended.value.code == 2
    assert "must not be empty" in capsys.readouterr().err


def test_one_run_id_does_not_mix_the_rejected_rows_of_two_outputs(call, saved, project, table):
    pyarrow.csv.write_csv(spoil(pyarrow.csv.read_csv(table), 1), table)
    words = ("score", "--model", saved, "--input", table, "--run-id", "a")
    other = ("--output", f"sqlite:///{project.folder}/out.db#first")
    assert "1 rejected" in call(*words).stdout
    assert "1 rejected" in call(*words, *other).stdout
    assert call(*words, "--output", "out", APP__BATCH__MAX_REJECTED_SHARE=0).returncode == 2
    rejected = project.folder / "data/rejected"
    names = sorted(path.name for path in rejected.iterdir())
    assert len(names) == 3
    assert names[0] == "a.csv"
    assert sum(name.endswith("_failed.csv") for name in names) == 1
    assert "20 predicted" not in call(*words, "--force").stdout
    assert sorted(path.name for path in rejected.iterdir()) == names


def test_a_file_that_holds_no_rejected_rows_is_never_touched(call, saved, project, table):
    words = ("score", "--model", saved, "--input", table, "--run-id", "daily")
    for name in ("daily.csv", "daily_failed.csv"):
        mine = project.folder / "reports" / name
        mine.parent.mkdir(exist_ok=True)
        mine.write_text("precious\n", "utf-8")
        said = one_sentence(call(*words, APP__BATCH__REJECTED="reports"))
        assert f"{name} holds no rejected rows" in said
        assert mine.read_text("utf-8") == "precious\n"
        mine.unlink()


def test_an_output_among_the_rejected_rows_is_refused(call, saved, table):
    words = ("score", "--model", saved, "--input", table, "--run-id", "z")
    said = one_sentence(call(*words, "--output", "data/rejected/z.csv"))
    assert "is among the rejected rows" in said


def test_a_link_does_not_hide_that_the_output_is_the_input(call, saved, project, table):
    (project.folder / "links").mkdir()
    (project.folder / "links" / "a.csv").symlink_to(table)
    before = table.read_bytes()
    done = call("score", "--model", saved, "--input", "links", "--output", table)
    assert "is both input and output" in one_sentence(done)
    assert table.read_bytes() == before


def test_a_file_whose_name_is_no_utf8_is_one_sentence(call, saved, table):
    odd = os.fsdecode(os.fsencode(table.parent) + b"/caf\xe9.csv")
    shutil.copy(table, odd)
    for source in (odd, table.parent):
        done = call("score", "--model", saved, "--input", source)
        assert "its name is no UTF-8" in one_sentence(done)


def test_rejected_rows_within_the_input_are_refused(call, saved, table):
    words = ("score", "--model", saved, "--input", table.parent)
    said = one_sentence(call(*words, APP__BATCH__REJECTED="in/rejected"))
    assert "in/rejected is both input and output" in said


def test_a_table_is_not_its_own_output(call, saved, project, rows):
    url = f"sqlite:///{project.folder}/shop.db#orders"
    fill(url, rows(5))
    said = one_sentence(call("score", "--model", saved, "--input", url, "--output", url))
    assert "is both input and output" in said


def test_a_number_of_rows_to_show_is_judged_before_the_run(call, capsys):
    with pytest.raises(SystemExit):
        call("score", "--show", "-1")
    assert "must be 0 or more" in capsys.readouterr().err


def test_a_run_is_known_in_a_moved_project(call, project, saved, table, tmp_path, monkeypatch):
    words = ("score", "--model", saved, "--input", "in", "--run-id", "a")
    assert "20 predicted" in call(*words).stdout
    moved = project.folder.rename(tmp_path / "moved")
    use(moved, monkeypatch)
    monkeypatch.chdir(moved)
    assert "published already" in call(*words).stdout
    assert "20 predicted" in call(*words, "--force").stdout


def test_a_query_may_end_in_a_comment(call, saved, project, rows):
    url = f"sqlite:///{project.folder}/shop.db"
    fill(url, rows(20))
    query = f"{url}#SELECT * FROM orders WHERE number < 5 -- the first ones"
    assert "5 predicted" in call("score", "--model", saved, "--input", query).stdout


def test_a_bad_file_is_not_claimed_and_blocks_nothing_once_it_is_gone(call, saved, table):
    words = ("score", "--model", saved, "--input", table.parent, "--incremental")
    (table.parent / "bad.csv").write_text("other\n1\n")
    assert call(*words).returncode == 2
    (table.parent / "bad.csv").unlink()
    assert "20 predicted" in call(*words).stdout


def test_an_unknown_watermark_is_refused(call, saved, project):
    with sqlite3.connect(project.folder / "shop.db") as database:
        database.execute("CREATE TABLE orders (number INTEGER)")
    uri = f"sqlite:///{project.folder}/shop.db#orders"
    words = ("score", "--model", saved, "--input", uri, "--incremental", "--watermark", "nmber")
    assert "there is no column nmber" in call(*words).stderr


def test_a_registry_that_fails_is_no_missing_champion(untouched, monkeypatch):
    def fail(*_):
        raise MlflowException("503: try again later")

    monkeypatch.setattr(MlflowClient, "get_model_version_by_alias", fail)
    with pytest.raises(ProjectError, match="503"):
        registry.find(registry.CHAMPION, settings.load())


def test_prod_shares_nothing_with_nonprod(project, monkeypatch):
    monkeypatch.setattr(settings, "root", lambda: project.folder)
    places = []
    for environment in ("nonprod", "prod"):
        monkeypatch.setenv("ENVIRONMENT", environment)
        config = settings.load()
        batch = config.batch
        stores = {config.models.tracking_uri, config.models.artifacts, config.database}
        places.append(stores | {batch.output, batch.rejected, batch.work})
    assert not places[0] & places[1]
