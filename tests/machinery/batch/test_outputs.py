"""Outputs: published whole, known as published, and never at the expense of anything else."""

import copy
import os
import sqlite3
import time
from pathlib import Path

import pyarrow as pa
import pytest
from real_stores import reachable

from iris_flower_prediction.batch import outputs
from iris_flower_prediction.batch.formats import writer
from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.errors import ProjectError
from iris_flower_prediction.tables import reader
from iris_flower_prediction.tables.storage import CloudFolder

SCHEMA = pa.schema([("row", pa.int64()), ("run_id", pa.string())])
LOCAL = ["folder", "folder of csv", "file.parquet", "file.CSV", "table"]
CLOUD = ["s3", *(pytest.param(name, marks=pytest.mark.slow) for name in ("google", "azure"))]


def attempted(output, run_id, count):
    """An attempt with two parts and what else a run leaves there, and the manifest it will have."""
    attempt, parts = output.attempt(run_id), []
    for index in range(2):
        parts.append(f"part-{index:05d}{output.suffix}")
        with attempt.file(parts[-1]) as path, writer(path, SCHEMA) as out:
            numbers = list(range(index * count, (index + 1) * count))
            out.write_table(pa.table([numbers, [run_id] * count], schema=SCHEMA))
    with attempt.file("part-00001.rejected.csv") as path:
        path.write_text("source,row\n", "utf-8")
    return attempt, {"run_id": run_id, "input": {"uri": "x"}, "parts": parts}


def publish(output, run_id, count=3):
    output.published(run_id)
    publish_as_found(output, run_id, count)


def publish_as_found(output, run_id, count):
    attempt, manifest = attempted(output, run_id, count)
    try:
        output.publish(attempt, SCHEMA, manifest)
    finally:
        output.discard(attempt)


@pytest.fixture(params=[*LOCAL, *CLOUD])
def output(request, tmp_path, monkeypatch):
    kind = request.param
    if kind in LOCAL:
        uris = {"table": f"sqlite:///{tmp_path / 'out.db'}#predictions"}
        form = "csv" if "csv" in kind.lower() else "parquet"
        uri = uris.get(kind, str(tmp_path / "out" / kind))
        return outputs.open_output(uri, form, tmp_path / "work")
    place = request.getfixturevalue(f"{kind}_place")
    return outputs.open_output(reachable(place, monkeypatch).uri, "parquet", tmp_path / "work")


@pytest.fixture
def s3(s3_place, monkeypatch):
    return outputs.open_output(reachable(s3_place, monkeypatch).uri, "parquet", Path())


def stored(output):
    uri = str(output)
    if isinstance(output, outputs.FileOutput):
        uri = str(output.file)
    table = reader.read(uri, CONTRACT).select(SCHEMA.names)
    return sorted(zip(*table.to_pydict().values(), strict=True))


def left(output):
    """The runs that have something in the staging folder."""
    return [path.name for path in output.staging.glob("[!.]*")]


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


def test_what_an_attempt_leaves_is_no_run_and_goes(output):
    publish(output, "one", 1)
    attempt, _ = attempted(output, "two", 1)
    assert output.published("two") is None
    output.discard(attempt)
    expected = [(0, "one"), (1, "one")]
    assert stored(output) == expected
    attempted(output, "two", 1)  # killed
    publish(output, "two", 1)
    if not isinstance(output, outputs.CloudOutput):
        single = isinstance(output, outputs.FileOutput)
        two = [(0, "two"), (1, "two")]
        assert stored(output) == (two if single else sorted(expected + two))
        assert not left(output)


@pytest.mark.parametrize("output", ["folder", "table", *CLOUD], indirect=True)
def test_of_two_machines_that_publish_a_run_the_second_changes_nothing(output):
    """Both publish at once. On a shared file system, the lock of the output prevents this."""
    other = copy.copy(output)
    for each in (output, other):
        each.published("one")
    attempt, manifest = attempted(output, "one", 3)
    publish_as_found(other, "one", 2)
    with pytest.raises(ProjectError, match=r"published by another|is not there any more"):
        output.publish(attempt, SCHEMA, manifest)
    output.discard(attempt)
    assert stored(output) == [(n, "one") for n in range(4)]


@pytest.mark.parametrize("output", ["folder", "table", "file.CSV"], indirect=True)
def test_a_part_that_was_removed_meanwhile_is_not_published_as_nothing(output):
    attempt, manifest = attempted(output, "one", 3)
    removed = manifest["parts"][1]
    (attempt.path / removed).unlink()
    with pytest.raises(ProjectError, match=f"{removed} is not there any more: start the run again"):
        output.publish(attempt, SCHEMA, manifest)
    assert output.published("one") is None


@pytest.mark.parametrize("output", LOCAL[:4], indirect=True)
def test_two_machines_that_share_an_output_share_its_locks(output, tmp_path):
    other = outputs.open_output(str(output), "parquet", tmp_path / "another work")
    assert output.locks == other.locks
    assert output.locks.is_relative_to(tmp_path / "out")


@pytest.mark.parametrize("text", ["[]", '{"a": 1}', '{"run_id": "one", "input": 3, "parts": []}'])
def test_what_is_no_manifest_is_one_sentence(tmp_path, s3, text):
    folder = outputs.open_output(str(tmp_path / "out"), "parquet", tmp_path)
    file = outputs.open_output(str(tmp_path / "o.csv"), "parquet", tmp_path)
    (tmp_path / "out/one").mkdir(parents=True)
    (tmp_path / "out/one/_manifest.json").write_text(text, "utf-8")
    (tmp_path / "_o.csv_manifest.json").write_text(text, "utf-8")
    s3.folder.put("one/_manifest.json", text.encode())
    for output in (folder, file, s3):
        with pytest.raises(ProjectError, match="has no manifest of a run"):
            output.published("one")
    s3.folder.put("one/_manifest.json", b"xx")
    with pytest.raises(ProjectError, match="has no manifest of a run"):
        s3.published("one")


@pytest.mark.parametrize("output", CLOUD, indirect=True)
def test_of_two_machines_that_repeat_a_run_the_second_changes_nothing(output):
    publish(output, "one", 1)
    other = copy.copy(output)
    for each in (output, other):
        each.published("one")
    publish_as_found(other, "one", 2)
    with pytest.raises(ProjectError, match="published by another"):
        publish_as_found(output, "one", 3)
    assert stored(output) == [(n, "one") for n in range(4)]


def test_a_run_whose_publication_was_not_answered_is_published(s3, monkeypatch):
    put = CloudFolder.put

    def put_and_again(*arguments):
        put(*arguments)
        put(*arguments)  # as obstore does where no answer came

    monkeypatch.setattr(CloudFolder, "put", put_and_again)
    attempt, manifest = attempted(s3, "one", 3)
    s3.publish(attempt, SCHEMA, manifest)
    s3.discard(attempt)
    assert s3.published("one")["parts"] == manifest["parts"]
    assert stored(s3) == [(n, "one") for n in range(6)]


def test_what_others_keep_in_the_folder_of_a_run_stays(s3):
    CloudFolder(str(s3)).put("one/notes.parquet", b"mine")
    publish(s3, "one")
    publish(s3, "one", 1)
    names = sorted(file.name for file in CloudFolder(str(s3)).files())
    assert names == ["_manifest.json", "notes.parquet", "part-00000.parquet", "part-00001.parquet"]


def test_a_single_file_in_the_cloud_is_refused():
    with pytest.raises(ProjectError, match="in the cloud an output is a folder"):
        outputs.open_output("s3://b/x.parquet", "parquet", Path())


def test_what_killed_runs_of_other_ids_left_goes_after_a_day(tmp_path):
    output = outputs.open_output(str(tmp_path / "out"), "parquet", tmp_path / "work")
    mine = tmp_path / "out/.staging/mine/f.txt"
    mine.parent.mkdir(parents=True)
    mine.touch()
    for name, days in (("old", 2), ("young", 0)):
        attempt, _ = attempted(output, name, 1)
        then = time.time() - days * 86_400
        os.utime(attempt.path, (then, then))
    publish(output, "one")
    assert sorted(left(output)) == ["mine", "young"]


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


def test_a_kill_while_one_run_replaces_itself_loses_nothing(tmp_path, monkeypatch):
    output = outputs.open_output(str(tmp_path / "out"), "parquet", tmp_path / "work")
    publish(output, "one", 3)
    publish(output, "one", 2)
    assert stored(output) == [(n, "one") for n in range(4)]
    rename = Path.rename

    def killed_at_the_last(path, target):
        if path.parent.parent.name == ".staging":
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", killed_at_the_last)
        publish(output, "one", 1)
    assert not (tmp_path / "out/one").exists()
    assert output.published("one")["run_id"] == "one"
    assert stored(output) == [(n, "one") for n in range(4)]
    publish(output, "one", 1)
    assert stored(output) == [(n, "one") for n in range(2)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".staging", "one"]


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
    two = [(0, "two"), (1, "two")]
    assert stored(output) == (two if single else sorted([(0, "one"), (1, "one"), *two]))
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
