"""The batch job, as real processes that meet bad data, full disks and sudden death.

Whatever happens: rows read = rows predicted + rows rejected, a reader never sees half a run, and
the same command finishes what was begun.
"""

import gzip
import json
import random
import re
import resource
import secrets
import shutil
import signal
import threading
from contextlib import contextmanager

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from conftest import BAD, PACKAGE, SECONDS, one_sentence, spoil, wait_for
from orders_table import fill
from slow_score import SLOWLY

from iris_flower_prediction import data
from iris_flower_prediction.batch import outputs, sections
from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.models import artifact, predict
from iris_flower_prediction.schema import arrow
from iris_flower_prediction.tables import reader

FIRST = CONTRACT.names[0]
PART = 1000


@pytest.fixture
def score(project, call, saved):
    """score(*words, **settings): the command with the saved model, in a project of its own.

    It runs in this process; score.run makes a real one, and score.start one that takes its time.
    """
    small = {"APP__BATCH__PART_ROWS": PART}

    def run(*words, **options):
        return call("score", "--model", saved, *words, **small | options)

    run.run = lambda *words, **options: project.run(
        "score", "--model", saved, *words, **small | options
    )
    run.start = lambda *words, **options: project.start(
        SLOWLY, "score", "--model", saved, *words, **small | options
    )
    run.folder = project.folder
    run.predictions = project.folder / "data/predictions"
    run.rejected = project.folder / "data/rejected"
    run.staging = run.predictions / ".staging"
    return run


def finished(staging) -> list:
    return sorted(staging.glob("*/part-*"))


def staged(output) -> list:
    """What attempts have left."""
    return list(output.glob(".staging/[!.]*"))


def killed(score, parts: int, *words) -> None:
    """The run called one, killed when so many of its parts are there."""
    process = score.start(*words)
    wait_for(lambda: len(finished(score.staging / "one")) >= parts, process)
    process.kill()
    process.communicate()


def content(uri) -> dict:
    """Everything a run published but the time and its id."""
    table = reader.read(str(uri), CONTRACT)
    return table.drop_columns(["predicted_at"]).to_pydict()


def nothing_published(score) -> bool:
    return not [path for path in score.predictions.glob("*") if path.name[0] != "."]


def test_bad_rows_are_set_aside_and_the_others_scored(score, saved, rows):
    table = rows(2500)
    pyarrow.csv.write_csv(spoil(table, 3, 1700), score.folder / "in.csv")
    done = score.run("--input", "in.csv", "--run-id", "one")
    assert done.returncode == 0, done.stderr

    manifest = json.loads((score.predictions / "one" / "_manifest.json").read_text("utf-8"))
    assert manifest["rows"] == {"read": 2500, "predicted": 2498, "rejected": 2}
    assert manifest["parts"] == ["part-000000-000000.parquet"]
    assert manifest["run_id"] == "one"
    assert manifest["contract"] == CONTRACT.version
    assert manifest["model"]["sha256"] == artifact.read_metadata(saved)["sha256"]
    assert manifest["input"]["sha256"] == sections.digest([score.folder / "in.csv"])

    refused = pyarrow.csv.read_csv(score.rejected / "one.csv").to_pylist()
    assert [(row["row"], row["column"], row["value"]) for row in refused] == [
        (3, FIRST, BAD),
        (1700, FIRST, BAD),
    ]
    assert all(row["reason"].startswith("is not") for row in refused)
    assert all(row["source"].endswith("in.csv") for row in refused)

    predictions = reader.read(str(score.predictions / "one"), CONTRACT)
    kept = [number for number in range(2500) if number not in (3, 1700)]
    if not CONTRACT.key:
        assert predictions["row"].to_pylist() == kept
    model = artifact.open_model(saved)
    expected = predict.make_predictions(model, table.take(kept))
    assert predictions["prediction"].to_pylist() == pytest.approx(expected)
    assert set(predictions["run_id"].to_pylist()) == {"one"}
    assert set(predictions["model_version"].to_pylist()) == {model.version}
    assert ("probability" in predictions.column_names) == model.metadata["probabilities"]
    assert not staged(score.predictions)


def test_raw_rows_are_prepared_as_those_of_training_are(score, rows, monkeypatch):
    monkeypatch.setattr(data, "prepare", lambda table: table.rename(columns={"raw": FIRST}))
    table = spoil(rows(300), 7)
    names = ["raw" if name == FIRST else name for name in table.column_names]
    pq.write_table(table, score.folder / "good.parquet")
    raw = table.rename_columns(names)
    (score.folder / "raw").mkdir()
    pq.write_table(raw.slice(0, 100), score.folder / "raw" / "a.parquet")
    pq.write_table(raw.slice(100), score.folder / "raw" / "b.parquet")
    assert score("--input", "good.parquet", "--output", "good", "--run-id", "one").returncode == 0
    done = score("--input", "raw", "--output", "found", "--run-id", "one", "--raw")
    assert done.returncode == 0 and "300 rows read, 299 predicted, 1 rejected" in done.stdout
    expected, found = (
        reader.read(str(score.folder / name / "one"), CONTRACT) for name in ("good", "found")
    )
    assert found["prediction"] == expected["prediction"]
    if not CONTRACT.key:
        assert found["row"].to_pylist() == [*range(7), *range(8, 300)]
        assert set(found["source"].to_pylist()) == {str(score.folder / "raw")}
    assert not [*(score.folder / "found" / "one").glob("prepared*")]


@pytest.mark.skipif(bool(CONTRACT.key), reason="with a key its rows are known")
def test_without_a_key_raw_rows_stay_what_and_where_they_are(score, rows, monkeypatch):
    pq.write_table(rows(5), score.folder / "raw.parquet")
    for prepare in (lambda table: table.iloc[::-1], lambda table: table.iloc[1:]):
        monkeypatch.setattr(data, "prepare", prepare)
        assert "raw rows need a key" in one_sentence(score("--input", "raw.parquet", "--raw"))


def test_raw_rows_that_cannot_be_prepared_are_one_sentence(score, rows, monkeypatch):
    pq.write_table(rows(5), score.folder / "raw.parquet")
    faults = {
        "column .* is missing": lambda table: table.drop(columns=FIRST),
        r"data\.prepare\(\) ends with KeyError: 'X'": lambda table: table["X"],
        "give a mapping": lambda table: None,
    }
    for sentence, prepare in faults.items():
        monkeypatch.setattr(data, "prepare", prepare)
        assert re.search(sentence, one_sentence(score("--input", "raw.parquet", "--raw")))
    assert "--raw, or batch.raw, goes" in one_sentence(score("--raw", "--incremental"))


def test_every_kind_of_input_and_output_gives_the_same_predictions(score, rows):
    folder, table = score.folder, rows(300)
    (folder / "both").mkdir()
    pq.write_table(table, folder / "in.parquet")
    pyarrow.csv.write_csv(table, folder / "in.csv")
    pq.write_table(table.slice(0, 100), folder / "both/a.parquet")
    pyarrow.csv.write_csv(table.slice(100), folder / "both/b.csv")
    found = []
    for number, (source, target) in enumerate(
        [
            ("in.parquet", "out.csv"),
            ("in.csv", "out.parquet"),
            ("both", "folder"),
            ("in.parquet", f"sqlite:///{folder}/out.db#predictions"),
        ]
    ):
        form = ["--format", "csv"] if target == "folder" else []
        words = ["--input", source, "--output", target, "--run-id", f"run-{number}", *form]
        done = score(*words)
        assert done.returncode == 0, (words, done.stderr)
        uri = target if "://" in target else str(folder / target)
        predictions = reader.read(uri, CONTRACT)["prediction"].combine_chunks()
        # SQLite has neither booleans nor dates: compared is what the values stand for.
        found.append(arrow.encode(CONTRACT.target, predictions)[0])
    assert len(found[0]) == 300
    assert np.isfinite(found[0]).all()
    for each in found:
        np.testing.assert_allclose(each, found[0], rtol=1e-6)


def test_a_table_in_a_database_is_scored_into_another(score, rows):
    url = f"sqlite:///{score.folder}/shop.db"
    fill(url, rows(1500))
    words = ["--input", f"{url}#orders", "--output", f"{url}#predictions", "--run-id", "one"]
    done = score(*words)
    assert done.returncode == 0, done.stderr
    assert "1,500 predicted" in done.stdout
    again = score(*words)
    assert "published already" in again.stdout
    assert reader.read(f"{url}#predictions", CONTRACT).num_rows == 1500
    forced = score(*words, "--force")
    assert forced.returncode == 0, forced.stderr
    assert reader.read(f"{url}#predictions", CONTRACT).num_rows == 1500


def test_the_same_run_again_does_nothing_until_forced(score, rows):
    source = score.folder / "in.csv"
    pyarrow.csv.write_csv(spoil(rows(100), 5), source)
    words = ["--input", "in.csv", "--run-id", "one"]
    assert score(*words).returncode == 0
    part = next((score.predictions / "one").glob("part-*"))
    before = part.read_bytes()

    pyarrow.csv.write_csv(rows(50), source)
    again = score(*words)
    assert (again.returncode, "published already" in again.stdout) == (0, True)
    assert part.read_bytes() == before

    forced = score(*words, "--force")
    assert forced.returncode == 0, forced.stderr
    assert len(content(score.predictions / "one")["prediction"]) == 50
    assert not (score.rejected / "one.csv").exists(), "nothing was rejected this time"
    pyarrow.csv.write_csv(rows(50), score.folder / "other.csv")
    for more in ((), ("--force",)):
        taken = score("--input", "other.csv", "--run-id", "one", *more)
        assert "taken" in one_sentence(taken)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("gone.csv", None, "gone.csv does not exist"),
        ("empty.csv", b"", "empty.csv cannot be read"),
        ("not.parquet", b"no parquet", "not.parquet cannot be read"),
        ("other.csv", b"SOMETHING\n1\n", f"column .*{re.escape(FIRST)}.* missing"),
        ("ragged.csv", "{header}\n1\n", "ragged.csv cannot be read"),
        ("twice.csv", "{header},{first}\n", f"{re.escape(FIRST)}.*twice"),
        ("bad.csv", "{header}\n{bad}\n", "1 of 1 rows break the contract"),
    ],
)
def test_an_input_that_cannot_be_scored_is_one_sentence(score, name, text, sentence):
    header = ",".join([*CONTRACT.needed, "EXTRA"])
    bad = ",".join([BAD] * (len(CONTRACT.needed) + 1))
    if isinstance(text, str):
        for mark, value in (("{header}", header), ("{bad}", bad), ("{first}", FIRST)):
            text = text.replace(mark, value)
        text = text.encode()
    if text is not None:
        (score.folder / name).write_bytes(text)
    said = one_sentence(score("--input", name, "--run-id", "one"))
    assert re.search(sentence, said), said
    assert nothing_published(score)


def test_too_many_bad_rows_stop_the_run_and_a_mended_input_goes_through(score, rows):
    source = score.folder / "in.csv"
    pyarrow.csv.write_csv(spoil(rows(100), 1, 2, 3, 4, 5), source)
    words = ["--input", "in.csv", "--run-id", "one"]
    said = one_sentence(score(*words, APP__BATCH__MAX_REJECTED_SHARE=0.04))
    assert "5 of 100" in said
    assert nothing_published(score)
    failed = score.rejected / "one_failed.csv"
    assert str(failed) in said
    assert pyarrow.csv.read_csv(failed).num_rows == 5
    assert score(*words, APP__BATCH__MAX_REJECTED_SHARE=0.05).returncode == 0
    assert pyarrow.csv.read_csv(score.rejected / "one.csv").num_rows == 5
    assert not failed.exists()
    assert score(*words, "--force", APP__BATCH__MAX_REJECTED_SHARE=0.04).returncode == 2
    assert (score.rejected / "one.csv").exists(), "the run that was published has it"
    pyarrow.csv.write_csv(rows(100), source)
    assert score(*words, "--force").returncode == 0
    assert not list(score.rejected.iterdir())


def test_a_folder_that_cannot_be_written_is_one_sentence(score, rows):
    (score.folder / "file").write_text("in the way", "utf-8")
    pyarrow.csv.write_csv(spoil(rows(100), 1), score.folder / "in.csv")
    table = ("--output", "sqlite:///out.db#predictions")
    for setting, how, more in (
        ("OUTPUT", score.run, ()),
        ("REJECTED", score, ()),
        ("WORK", score, table),
    ):
        done = how("--input", "in.csv", *more, **{f"APP__BATCH__{setting}": "file/below"})
        assert "file" in one_sentence(done)
        assert nothing_published(score)


def test_a_full_disk_is_one_sentence_and_the_run_goes_on_when_there_is_room(score, rows):
    pq.write_table(rows(5000), score.folder / "in.parquet", row_group_size=PART)
    words = ["--input", "in.parquet", "--run-id", "one", "--format", "csv"]
    log = score.folder / "log" / f"{PACKAGE}.log"
    log.parent.mkdir()
    log.write_text("full\n" * 1700, "utf-8")

    def no_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    full = score.start(*words, preexec_fn=no_room)
    _, err = full.communicate(timeout=SECONDS)
    assert (full.returncode, len(err.splitlines())) == (2, 1), err
    assert "too large" in err
    assert nothing_published(score)
    done = score(*words)
    assert done.returncode == 0, done.stderr
    assert len(content(score.predictions / "one")["prediction"]) == 5000


def test_an_input_that_vanishes_midway_is_one_sentence(score, rows):
    folder = score.folder / "in"
    folder.mkdir()
    for name in "abcdefgh":
        pyarrow.csv.write_csv(rows(20_000), folder / f"{name}.csv")
    process = score.start("--input", folder, "--run-id", "one")
    wait_for(lambda: finished(score.staging / "one"), process)
    process.send_signal(signal.SIGSTOP)
    (folder / "h.csv").unlink()
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, len(err.splitlines())) == (2, 1), err
    assert "h.csv" in err
    assert nothing_published(score)


@pytest.fixture
def many(score, rows):
    """A folder of both formats with two bad rows: 41 parts."""
    folder = score.folder / "many"
    folder.mkdir()
    pyarrow.csv.write_csv(spoil(rows(40_000), 7, 39_999), folder / "a.csv")
    pq.write_table(rows(40_000), folder / "b.parquet", row_group_size=PART)
    return folder


@pytest.mark.slow
def test_killed_at_any_moment_the_same_command_ends_as_if_nothing_had_happened(score, many):
    plain = score.start("--input", many, "--run-id", "one", "--output", "plain")
    assert plain.wait(SECONDS) == 0, plain.communicate()
    [refused] = [path.read_bytes() for path in score.rejected.iterdir()]
    shutil.rmtree(score.rejected)

    words = ["--input", many, "--run-id", "one"]
    seed = secrets.randbelow(10**6)
    moments = random.Random(seed)  # noqa: S311
    for _ in range(4):
        killed(score, moments.randint(1, 40), *words)
        assert nothing_published(score), f"seed {seed}"

    done = score.start(*words)
    out, err = done.communicate(timeout=SECONDS)
    assert done.returncode == 0, (seed, err)
    assert "80,000 rows read, 79,998 predicted, 2 rejected" in out
    published = score.predictions / "one"
    assert content(published) == content(score.folder / "plain/one"), f"seed {seed}"
    assert (score.rejected / "one.csv").read_bytes() == refused, f"seed {seed}"
    assert not staged(score.predictions), "what the killed ones have left"


def test_killed_while_it_writes_one_file_the_old_one_stays(score, many, rows):
    target = score.folder / "out.csv"
    pq.write_table(rows(10), score.folder / "few.parquet")
    first = score("--input", "few.parquet", "--output", target, "--run-id", "one")
    assert first.returncode == 0, first.stderr
    old = target.read_bytes()
    process = score.start("--input", many, "--output", target, "--run-id", "two")

    def unfinished():
        return list((score.folder / ".staging").glob("two/*/whole.csv"))

    wait_for(lambda: unfinished() or target.read_bytes() != old, process)
    process.kill()
    process.communicate()
    if target.read_bytes() != old:
        assert len(content(target)["prediction"]) == 79_998
    done = score("--input", many, "--output", target, "--run-id", "two")
    assert done.returncode == 0, done.stderr
    assert len(content(target)["prediction"]) == 79_998
    assert not staged(score.folder)


@pytest.fixture
def ends_when_published(monkeypatch):
    """A context in which a run ends as by a kill, as soon as it is published."""
    publish = outputs.FolderOutput.publish

    def publish_and_end(*arguments):
        publish(*arguments)
        raise KeyboardInterrupt

    @contextmanager
    def ends():
        with monkeypatch.context() as patch:
            patch.setattr(outputs.FolderOutput, "publish", publish_and_end)
            yield

    return ends


def test_a_forced_run_never_puts_back_what_it_has_replaced(score, rows, ends_when_published):
    words = ["--input", "in.csv", "--run-id", "one"]
    pyarrow.csv.write_csv(rows(10), score.folder / "in.csv")
    assert score(*words).returncode == 0
    pyarrow.csv.write_csv(rows(20), score.folder / "in.csv")
    with ends_when_published():
        assert score(*words, "--force").returncode == 130
    for _ in range(2):
        assert len(content(score.predictions / "one")["prediction"]) == 20
        assert score(*words, "--force").returncode == 0
        assert not staged(score.predictions)


def test_an_input_that_changes_midway_is_refused(score, many, rows):
    process = score.start("--input", many, "--run-id", "one")
    wait_for(lambda: finished(score.staging / "one"), process)
    process.send_signal(signal.SIGSTOP)
    pyarrow.csv.write_csv(rows(10), many / "a.csv")
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, len(err.splitlines())) == (2, 1), err
    assert "was changed while it was read" in err
    assert nothing_published(score)


def test_no_file_of_a_folder_is_left_out_unseen(score, rows):
    folder = score.folder / "in"
    folder.mkdir()
    for name in ("a.csv", "B.CSV"):
        pyarrow.csv.write_csv(rows(10), folder / name)
    with gzip.open(folder / "c.csv.gz", "wb") as packed:
        packed.write((folder / "a.csv").read_bytes())
    assert "30 rows read, 30 predicted" in score("--input", folder).stdout
    assert "10 rows read" in score("--input", folder / "B.CSV").stdout
    (folder / "d.xlsx").write_bytes(b"?")
    for more in ((), ("--incremental",)):
        assert "d.xlsx cannot be read" in one_sentence(score("--input", folder, *more))
    packed = folder / "c.csv.gz"
    packed.write_bytes(packed.read_bytes()[:20])
    assert "c.csv.gz cannot be read as csv" in one_sentence(score("--input", packed))


def test_a_second_process_with_the_same_id_is_refused(score, many):
    words = ["--input", many, "--run-id", "one"]
    first = score.start(*words)
    wait_for(lambda: finished(score.staging / "one"), first)
    first.send_signal(signal.SIGSTOP)
    second = score.run(*words)
    first.send_signal(signal.SIGCONT)
    assert "at work in another process" in one_sentence(second)
    assert first.wait(SECONDS) == 0, first.communicate()
    assert len(content(score.predictions / "one")["prediction"]) == 79_998


def test_a_reader_never_sees_half_a_run(score, many):
    seen, stop = set(), threading.Event()

    def read():
        while not stop.is_set():
            # As a dataset reader does: names with a leading dot or underscore are none of its own.
            files = score.predictions.glob("[!._]*/*.parquet")
            seen.add(sum(pq.read_metadata(path).num_rows for path in files))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        process = score.start("--input", many, "--run-id", "one")
        wait_for(lambda: (score.predictions / "one").exists(), process)
        process.communicate(timeout=SECONDS)
        wait_for(lambda: len(seen) > 1)
    finally:
        stop.set()
        reader.join()
    assert seen == {0, 79_998}


def test_a_folder_that_is_no_run_is_never_replaced(score, rows):
    pq.write_table(rows(10), score.folder / "in.parquet")
    before = sorted((score.folder / "data/raw").iterdir())
    done = score("--input", "in.parquet", "--output", "data", "--run-id", "raw")
    assert "raw" in one_sentence(done)
    assert sorted((score.folder / "data/raw").iterdir()) == before
    shutil.rmtree(score.folder / "data/raw")
    done = score("--input", "in.parquet", "--output", "data", "--run-id", "raw")
    assert done.returncode == 0, done.stderr
