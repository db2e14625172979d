"""Outputs: published whole, known as published, and never at the expense of anything else."""

import shutil
import sqlite3
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from iris_flower_prediction.batch import outputs, parts
from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.errors import ProjectError
from iris_flower_prediction.tables import reader

SCHEMA = pa.schema([("row", pa.int64()), ("run_id", pa.string())])


def staged(output, run_id, count):
    """Two parts in the staging folder, as a run leaves them."""
    folder = output.staging / run_id / outputs.PARTS
    folder.mkdir(parents=True)
    for index in range(2):
        with parts.writer(folder / f"part-{index:05d}{output.suffix}", SCHEMA) as out:
            numbers = list(range(index * count, (index + 1) * count))
            out.write_table(pa.table([numbers, [run_id] * count], schema=SCHEMA))
    return sorted(folder.iterdir())


def publish(output, run_id, count=3):
    manifest = {"run_id": run_id, "input": {"uri": "x"}}
    output.published(run_id)
    output.publish(run_id, staged(output, run_id, count), SCHEMA, manifest)
    shutil.rmtree(output.staging / run_id)


@pytest.fixture(params=["folder", "folder of csv", "file.parquet", "file.CSV", "table"])
def output(request, tmp_path):
    uri = {"table": f"sqlite:///{tmp_path / 'out.db'}#predictions"}.get(
        request.param, str(tmp_path / "out" / request.param)
    )
    form = "csv" if "csv" in request.param.lower() else "parquet"
    return outputs.open_output(uri, form, tmp_path / "work")


def stored(output):
    uri = str(output)
    if isinstance(output, outputs.FileOutput):
        uri = str(output.file)
    table = reader.read(uri, CONTRACT).select(SCHEMA.names)
    return sorted(zip(*table.to_pydict().values(), strict=True))


def test_what_was_published_is_there_and_known(output):
    assert output.published("one") is None
    publish(output, "one")
    assert stored(output) == [(n, "one") for n in range(6)]
    assert output.published("one")["run_id"] == "one"
    assert output.published("two") is None


def test_the_same_run_replaces_itself(output):
    publish(output, "one", 3)
    publish(output, "one", 2)
    assert stored(output) == [(n, "one") for n in range(4)]


@pytest.mark.parametrize("name", ["file.parquet", "file.csv"])
def test_a_kill_before_the_manifest_gives_no_run_the_predictions_of_another(
    name, tmp_path, monkeypatch
):
    output = outputs.open_output(str(tmp_path / name), "parquet", tmp_path / "work")
    publish(output, "one")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(outputs, "write_json", killed)
        publish(output, "two")
    assert {run_id for _, run_id in stored(output)} == {"two"}
    assert output.published("one") is None
    assert output.published("two") is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux swaps two folders in one step")
def test_two_folders_are_swapped_in_one_step(tmp_path, monkeypatch):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    # Neither is renamed: at no moment one of them is missing.
    monkeypatch.delattr(Path, "rename")
    outputs._exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a" / "b").exists() and (tmp_path / "b" / "a").exists()


def test_where_they_cannot_be_a_kill_in_between_loses_no_run(tmp_path, monkeypatch):
    monkeypatch.setattr(outputs.sys, "platform", "darwin")
    output = outputs.open_output(str(tmp_path / "out"), "parquet", tmp_path / "work")
    publish(output, "one", 3)
    publish(output, "one", 2)
    assert stored(output) == [(n, "one") for n in range(4)]
    rename = Path.rename

    def killed_at_the_last(path, target):
        if path.name == "ready":
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", killed_at_the_last)
        publish(output, "one", 1)
    assert not output.path("one").exists()
    assert output.published("one")["run_id"] == "one"
    assert stored(output) == [(n, "one") for n in range(4)]


def test_two_runs_to_one_file_publish_one_after_the_other(tmp_path, monkeypatch):
    output = outputs.open_output(str(tmp_path / "file.csv"), "parquet", tmp_path / "work")
    monkeypatch.setattr(outputs, "PUBLISHING_SECONDS", 0.1)
    write = outputs.write_json

    def another_meanwhile(*arguments):
        write(*arguments)
        with pytest.raises(ProjectError, match=r"another run to .*file\.csv is at work"):
            publish(output, "two")

    monkeypatch.setattr(outputs, "write_json", another_meanwhile)
    publish(output, "one")
    assert output.published("one")["run_id"] == "one"


@pytest.mark.parametrize("name", ["o.csv.gz", "O.CSV.GZ", "o.parquet.bz2", "o.json"])
def test_an_output_of_another_kind_is_refused(name, tmp_path):
    with pytest.raises(ProjectError, match=r"an output is a \.parquet or \.csv file, or a folder"):
        outputs.open_output(str(tmp_path / name), "parquet", tmp_path)
    (tmp_path / name).mkdir()
    assert outputs.open_output(str(tmp_path / name), "parquet", tmp_path).suffix == ".parquet"


def test_runs_stand_side_by_side_but_in_a_single_file(output):
    publish(output, "one", 1)
    publish(output, "two", 1)
    single = isinstance(output, outputs.FileOutput)
    expected = [(0, "two"), (1, "two")]
    assert stored(output) == (expected if single else sorted([(0, "one"), (1, "one"), *expected]))
    assert (output.published("one") is None) == single


def test_a_folder_that_is_no_run_is_left_alone(tmp_path):
    precious = tmp_path / "data" / "raw" / "precious.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("mine", "utf-8")
    output = outputs.open_output(str(tmp_path / "data"), "parquet", tmp_path / "work")
    with pytest.raises(ProjectError, match="raw"):
        publish(output, "raw")
    assert precious.read_text("utf-8") == "mine"


def test_a_table_that_cannot_be_written_stays_as_it_was(tmp_path):
    file = tmp_path / "out.db"
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE predictions (row INTEGER, run_id TEXT CHECK (row < 4))")
    output = outputs.open_output(f"sqlite:///{file}#predictions", "parquet", tmp_path / "work")
    with pytest.raises(ProjectError, match="CHECK"):
        publish(output, "one")
    with sqlite3.connect(file) as database:
        assert database.execute("SELECT count(*) FROM predictions").fetchone() == (0,)
    assert output.published("one") is None


def test_a_table_needs_a_name(tmp_path):
    for what in ("", "#", "#a-b", "#a; DROP TABLE b"):
        with pytest.raises(ProjectError, match="behind the #"):
            outputs.open_output(f"sqlite:///{tmp_path / 'out.db'}{what}", "parquet", tmp_path)
