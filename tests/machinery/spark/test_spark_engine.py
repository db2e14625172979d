"""The Spark engine on a real cluster: what the local engine gives, whatever dies in between.

They need Java, and an environment with Spark: `make machinery RENDERING=spark`.
"""

import json
import os
import pickle
import shutil
import signal
from functools import partial

import psutil
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from conftest import PACKAGE, SECONDS, one_sentence, wait_for
from orders_table import fill
from real_stores import reachable

from iris_flower_prediction import cli
from iris_flower_prediction.batch import sections
from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.tables import reader
from iris_flower_prediction.tables.storage import CloudFolder, LocalFolder

pytest.importorskip("pyspark", reason="no Spark: make setup-spark")
if not shutil.which("java") and "JAVA_HOME" not in os.environ:
    pytest.skip("no Java: apt-get install default-jre-headless", allow_module_level=True)

import spark_cluster

FIRST = CONTRACT.names[0]
PART = 1000
BAD = "not a value"


@pytest.fixture(scope="session")
def spark(tmp_path_factory):
    spark = spark_cluster.Spark(tmp_path_factory.mktemp("spark"))
    yield spark
    spark.stop()


@pytest.fixture(scope="session")
def master(spark) -> str:
    return spark.cluster()


@pytest.fixture
def score(project, call, saved, master):
    """score(*words): with Spark in this process; score.local, and score.start in one of its own."""
    small = {"APP__BATCH__PART_ROWS": PART, "APP__BATCH__SPARK": json.dumps(spark_cluster.OPTIONS)}
    small["APP__BATCH__MASTER_SECONDS"] = 300  # of a machine that has other things to do
    words = ("score", "--model", saved)
    cluster = ("--engine", "spark", "--master", master)

    def run(*more, on=cluster, **options):
        done = call(*words, *more, *on, **small | options)
        assert done.returncode == 0, done.stderr
        return done

    run.local = partial(run, on=())
    run.fails = lambda *more, **options: call(*words, *more, **small | options)
    run.start = lambda *more, on=cluster, **options: project.start(
        *words, *more, *on, **small | options
    )
    run.folder = project.folder
    run.predictions = project.folder / "data/predictions"
    run.rejected = project.folder / "data/rejected"
    return run


def spoil(table: pa.Table, *numbers: int) -> pa.Table:
    """The table as a csv file has it, with a bad value in the first feature of some rows."""
    texts = [None if value is None else str(value) for value in table[FIRST].to_pylist()]
    for number in numbers:
        texts[number] = BAD
    return table.set_column(table.column_names.index(FIRST), FIRST, pa.array(texts))


@pytest.fixture
def many(score, rows):
    """A folder of both formats with three bad rows: 31 parts."""
    folder = score.folder / "many"
    folder.mkdir()
    pyarrow.csv.write_csv(spoil(rows(9_500), 7, 9_499), folder / "a.csv")
    pyarrow.csv.write_csv(spoil(rows(500), 0), folder / "b.csv")
    pq.write_table(rows(29_000), folder / "c.parquet", row_group_size=PART)
    return folder


def finished(score, run_id: str) -> list:
    return sorted((score.predictions / ".staging" / run_id).glob("*/part-*"))


def manifest(score, run_id: str) -> dict:
    return json.loads((score.predictions / run_id / "_manifest.json").read_text("utf-8"))


def assert_same(score, one: str, other: str) -> None:
    """Both runs left the same files with the same rows, and the same rejected rows, in order."""
    folders = [score.predictions / name for name in (one, other)]
    names = [sorted(path.name for path in folder.glob("part-*")) for folder in folders]
    assert names[0] == names[1]
    assert names[0]
    for name in names[0]:
        first, second = (pq.read_table(folder / name) for folder in folders)
        own = ["run_id", "predicted_at"]
        assert first.drop_columns(own).equals(second.drop_columns(own)), name
    texts = [score.rejected / f"{name}.csv" for name in (one, other)]
    assert texts[0].exists() == texts[1].exists()
    if texts[0].exists():
        assert texts[0].read_bytes() == texts[1].read_bytes()
    ours, theirs = (manifest(score, name) for name in (one, other))
    for key in ("input", "model", "contract", "rows", "parts"):
        assert ours[key] == theirs[key], key


def test_a_cluster_gives_what_this_machine_gives(score, many):
    score.local("--input", many, "--run-id", "local")
    done = score("--input", many, "--run-id", "cluster")
    assert "39,000 rows read, 38,997 predicted, 3 rejected" in done.stdout
    assert_same(score, "local", "cluster")
    assert manifest(score, "local")["engine"] == "local"
    assert manifest(score, "cluster")["engine"] == "spark"
    assert not list((score.predictions / ".staging").glob("[!.]*"))
    assert "published already" in score("--input", many, "--run-id", "cluster").stdout


def test_a_table_of_a_database_is_scored_as_here(score, rows):
    url = f"sqlite:///{score.folder}/shop.db"
    fill(url, rows(2_500))
    score.local("--input", f"{url}#orders", "--run-id", "local")
    score("--input", f"{url}#orders", "--run-id", "cluster")
    assert_same(score, "local", "cluster")


def test_no_password_goes_to_the_executors(tmp_path, monkeypatch):
    monkeypatch.setattr(sections.Section, "batches", lambda *_: iter(()))
    whole = sections.Section("shop", uri="postgresql+pg8000://me:sekret@host/shop#orders")
    stored = list(sections.store(whole, [], LocalFolder(tmp_path)))
    assert len(stored) == 1
    assert b"sekret" not in pickle.dumps(stored)


def test_settings_choose_spark_and_it_scores_on_this_machine_alone(score, many):
    score.local("--input", many, "--format", "csv", "--run-id", "local")
    chosen = {"APP__BATCH__ENGINE": "spark", "APP__BATCH__MASTER": "local[2]"}
    score("--input", many, "--format", "csv", "--run-id", "spark", on=(), **chosen)
    names = [path.name for path in sorted((score.predictions / "local").glob("part-*"))]
    for name in names:
        first, second = (
            pyarrow.csv.read_csv(score.predictions / run / name) for run in ("local", "spark")
        )
        own = ["run_id", "predicted_at"]
        assert first.drop_columns(own).equals(second.drop_columns(own)), name


def test_an_executor_that_is_killed_changes_nothing(score, spark, many):
    score.local("--input", many, "--run-id", "local")
    process = score.start("--input", many, "--run-id", "killed")
    wait_for(lambda: len(finished(score, "killed")) > 2, process)
    victims = spark.executors()
    os.kill(victims[0], signal.SIGKILL)
    assert len(finished(score, "killed")) < 31
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "39,000 rows read" in out
    assert len(victims) == 2
    assert_same(score, "local", "killed")


@pytest.mark.parametrize("by", ["cluster", "local"])
def test_a_driver_that_is_killed_has_published_nothing_and_either_engine_repeats_it(
    score, spark, many, by
):
    score.local("--input", many, "--run-id", "whole")
    process = score.start("--input", many, "--run-id", "killed")
    wait_for(lambda: len(finished(score, "killed")) > 2, process)
    executors = [psutil.Process(each) for each in spark.executors()]
    below = [child for each in executors for child in each.children(recursive=True)]
    process.kill()
    process.communicate()
    assert not (score.predictions / "killed").exists()
    # A process that still writes a part would create the removed folder of the attempt again.
    _, alive = psutil.wait_procs([*executors, *below], SECONDS)
    assert executors and below and not alive
    again = score if by == "cluster" else score.local
    again("--input", many, "--run-id", "killed")
    assert_same(score, "whole", "killed")
    assert not list((score.predictions / ".staging").glob("[!.]*"))


def test_executors_write_to_the_cloud_and_read_from_there(score, rows, s3_place, monkeypatch):
    place = reachable(s3_place, monkeypatch)
    source, target = CloudFolder(f"{place.uri}/in"), f"{place.uri}/out"
    for name in ("a.parquet", "b.csv"):
        with source.file(name) as path:
            table = spoil(rows(2_500), 7)
            pyarrow.csv.write_csv(table, path) if "csv" in name else pq.write_table(rows(500), path)
    variables = {f"spark.executorEnv.{name}": text for name, text in place.variables.items()}
    options = json.dumps(spark_cluster.OPTIONS | variables)
    words = ("--input", source, "--output", target)
    score.local(*words, "--run-id", "local")
    score(*words, "--run-id", "cluster", APP__BATCH__SPARK=options)
    tables = [
        reader.read(f"{target}/{run}", CONTRACT).drop_columns(["run_id", "predicted_at"])
        for run in ("local", "cluster")
    ]
    assert tables[0].num_rows == 2_999
    assert tables[0].equals(tables[1])
    files = [file.path.rpartition("/")[2] for file in CloudFolder(f"{target}/cluster").files()]
    assert sorted(files) == [
        "_manifest.json",
        "part-000000-000000.parquet",
        "part-000001-000000.parquet",
    ]


def test_ctrl_c_ends_spark_too(score, spark, many):
    # A job in the background of a shell inherits an ignored SIGINT.
    listening = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = score.start("--input", many, "--run-id", "slow", preexec_fn=listening)
    wait_for(lambda: finished(score, "slow"), process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == cli.INTERRUPTED, err
    # A thread of pyspark may add a message about a broken connection.
    assert "interrupted" in err.splitlines()
    assert f"src/{PACKAGE}" not in err, "a traceback of this project's"
    assert not (score.predictions / "slow").exists()
    wait_for(lambda: not spark.executors())


def test_spark_connect_gives_what_this_machine_gives(score, spark, many):
    url = spark.connect()
    score.local("--input", many, "--run-id", "local")
    on = ("--engine", "spark", "--master", url)
    process = score.start("--input", many, "--run-id", "remote", on=on)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "38,997 predicted" in out
    assert_same(score, "local", "remote")


def test_a_task_that_always_fails_is_one_sentence(score, rows, master):
    on = ("--engine", "spark", "--master", master)
    source = score.folder / "in.parquet"
    pq.write_table(rows(5_000), source, compression="snappy")
    content = bytearray(source.read_bytes())
    content[100:1_000] = bytes(900)  # what the footer tells of is damaged
    source.write_bytes(content)
    said = one_sentence(score.fails("--input", source, "--run-id", "one", *on))
    assert "in.parquet cannot be read as parquet" in said
    assert not (score.predictions / "one").exists()
    pq.write_table(rows(5_000), source)
    score("--input", source, "--run-id", "one")
    assert manifest(score, "one")["rows"]["predicted"] == 5_000


def test_a_csv_file_that_ends_badly_is_named_in_one_sentence(score, rows):
    source = score.folder / "ragged.csv"
    pyarrow.csv.write_csv(rows(300_000), source)
    with source.open("a", encoding="utf-8") as file:
        file.write("1\n")
    on = ("--engine", "spark", "--master", "local[2]")
    done = score.fails("--input", source, "--run-id", "one", *on, APP__BATCH__PART_ROWS=100_000)
    said = one_sentence(done)
    assert f"{source} cannot be read as csv" in said
    assert not (score.predictions / "one").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--engine", "spark", "--master", "nowhere"), "'nowhere' is no Spark master"),
        (("--master", "local[2]"), "--master goes with --engine spark"),
        (("--engine", "spark", "--master", "spark://127.0.0.1:1"), "gave no session"),
    ],
)
def test_a_master_that_is_none_is_one_sentence(score, rows, words, sentence):
    pq.write_table(rows(10), score.folder / "in.parquet")
    process = score.start("--input", "in.parquet", on=words, APP__BATCH__MASTER_SECONDS=5)
    _, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, len(err.splitlines())) == (2, 1), err
    assert sentence in err


def test_without_java_there_is_one_sentence(score, rows):
    pq.write_table(rows(10), score.folder / "in.parquet")
    on = ("--engine", "spark")
    process = score.start("--input", "in.parquet", on=on, PATH="/nowhere", JAVA_HOME="/nowhere")
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 2
    assert len(err.splitlines()) == 1
    assert "install Java" in err


def test_a_connect_server_that_is_none_is_one_sentence(score, rows):
    pq.write_table(rows(10), score.folder / "in.parquet")
    on = ("--engine", "spark", "--master", "sc://127.0.0.1:1")
    process = score.start("--input", "in.parquet", on=on, APP__BATCH__MASTER_SECONDS=5)
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 2
    assert len(err.splitlines()) == 1, err
    assert "gave no session with an executor in 5 seconds" in err
