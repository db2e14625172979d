"""The command with cloud storage in and out, as with folders of this machine."""

import json
import signal
from functools import partial

import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from conftest import one_sentence, spoil, wait_for
from real_stores import reachable

from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.tables import reader
from iris_flower_prediction.tables.storage import CloudFolder

CLOUD = ["s3", *(pytest.param(name, marks=pytest.mark.slow) for name in ("google", "azure"))]


@pytest.fixture(params=CLOUD)
def cloud(request, call, monkeypatch) -> str:
    place = request.getfixturevalue(f"{request.param}_place")
    return reachable(place, monkeypatch).uri


@pytest.fixture
def score(call, saved, cloud):
    def run(*words, **settings):
        small = {"APP__BATCH__PART_ROWS": 1000, "APP__BATCH__REJECTED": f"{cloud}/rejected"}
        return call("score", "--model", saved, *words, **small | settings)

    return run


def upload(uri, name, table):
    with CloudFolder(uri).file(name) as path:
        if path.suffix == ".csv":
            pyarrow.csv.write_csv(table, path)
        else:
            pq.write_table(table, path, row_group_size=1000)


def names(uri):
    return sorted(file.name for file in CloudFolder(uri).files())


def content(uri):
    return reader.read(uri, CONTRACT).drop_columns(["source"] if not CONTRACT.key else [])


def test_a_folder_is_scored_as_here(score, cloud, project, rows):
    local = project.folder / "in"
    local.mkdir()
    pq.write_table(rows(2500), local / "a.parquet", row_group_size=1000)
    pyarrow.csv.write_csv(spoil(rows(500), 7), local / "b.csv")
    for path in local.iterdir():
        with CloudFolder(f"{cloud}/in").file(path.name) as copy:
            copy.write_bytes(path.read_bytes())
    here = score("--input", local, "--output", "out", "--run-id", "one")
    assert here.returncode == 0, here.stderr
    there = score("--input", f"{cloud}/in/", "--output", f"{cloud}/out/", "--run-id", "two")
    assert there.returncode == 0, there.stderr
    assert "3,000 rows read, 2,999 predicted, 1 rejected" in there.stdout
    varying = ["run_id", "predicted_at"]
    expected = content(str(project.folder / "out/one")).drop_columns(varying)
    assert content(f"{cloud}/out/two").drop_columns(varying).equals(expected)
    assert len(names(f"{cloud}/out/two")) == 3
    manifest = json.loads(CloudFolder(f"{cloud}/out/two").get("_manifest.json", 10**6)[0])
    assert len(manifest["parts"]) == 2
    folder, _, name = manifest["rejected"].rpartition("/")
    assert (folder, name[:4]) == (f"{cloud}/rejected", "two_")
    with CloudFolder(folder).find(name).open("rb") as file:
        assert pyarrow.csv.read_csv(file).num_rows == 1


def test_a_run_is_published_once_and_repeated_by_force(score, cloud, rows):
    words = ("--input", f"{cloud}/in", "--output", f"{cloud}/out", "--run-id", "one")
    upload(f"{cloud}/in", "a.parquet", rows(100))
    shown = score(*words, "--show", 3)
    assert shown.stdout.count("  prediction ") == 3, shown
    assert "published already" in score(*words).stdout
    upload(f"{cloud}/in", "a.parquet", rows(50))
    assert "50 predicted" in score(*words, "--force").stdout
    assert content(f"{cloud}/out/one").num_rows == 50
    assert names(f"{cloud}/out/one") == ["_manifest.json", "part-000000-000000.parquet"]


def test_files_are_scored_once_also_when_more_arrive(score, cloud, rows):
    words = ("--input", f"{cloud}/in/", "--output", f"{cloud}/out", "--incremental")
    upload(f"{cloud}/in", "a.parquet", rows(30))
    assert "30 predicted" in score(*words).stdout
    assert "Nothing new" in score("--input", f"{cloud}/in", *words[2:]).stdout
    upload(f"{cloud}/in/day", "b.csv", rows(20))
    assert "20 predicted" in score(*words).stdout
    assert content(f"{cloud}/out").num_rows == 50


def test_what_cannot_be_scored_leaves_nothing(score, cloud, rows):
    upload(f"{cloud}/in", "a.csv", spoil(rows(10), 1))
    words = ("--input", f"{cloud}/in", "--output", f"{cloud}/out", "--run-id", "one")
    said = one_sentence(score(*words, APP__BATCH__MAX_REJECTED_SHARE=0))
    assert f"{cloud}/rejected/one_" in said and "_failed.csv" in said
    assert names(f"{cloud}/out") == []
    assert "is both input and output" in one_sentence(score(*words[:2], "--output", f"{cloud}/in"))
    said = one_sentence(score(*words[:2], "--output", f"{cloud}/out.parquet"))
    assert "in the cloud an output is a folder" in said
    assert "does not exist" in one_sentence(score("--input", f"{cloud}/nowhere"))
    for name in ("nowhere", "in/a.csv"):
        said = one_sentence(score("--input", f"{cloud}/{name}", "--incremental"))
        assert "is no folder that holds a file" in said


def test_ctrl_c_ends_a_run_that_reads_from_the_cloud(score, cloud, project, saved, rows):
    """Arrow's threads that read through Python must not block the end of the process."""
    for number in range(6):
        upload(f"{cloud}/in", f"{number}.csv", rows(200_000))
    words = ("score", "--input", f"{cloud}/in", "--model", saved, "--output", "out")
    listening = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = project.start(*words, preexec_fn=listening)
    wait_for(lambda: list((project.folder / "out").glob(".staging/*/*")), process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.splitlines()[-1]) == (130, "interrupted")
