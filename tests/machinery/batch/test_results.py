"""The pieces of a run: which rows are scored, and which command goes on with which run."""

import importlib.util
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from iris_flower_prediction.batch import job, results
from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.errors import ProjectError
from iris_flower_prediction.models import artifact, predict
from iris_flower_prediction.schema.arrow import Checked
from iris_flower_prediction.schema.columns import Column
from iris_flower_prediction.schema.contract import RESERVED


class Answers:
    """A model whose codes are the first feature; it has no probabilities."""

    version = "7"

    def codes(self, matrix):
        return matrix[:, 0].astype(float), None


def checked(values, invalid=()):
    found = Checked(np.array(values, np.float32).reshape(-1, 1))
    if invalid:
        found.reject(np.array(invalid), "A", pa.array(["?"] * len(values)), "is bad")
    return found


def score_valid(model, found):
    return results.finite(found, *results.score_valid(model, found))


def test_only_valid_rows_are_scored_and_they_keep_their_numbers():
    rows, values, probability = score_valid(Answers(), checked([1, 0, 0, 1], [1]))
    assert rows.tolist() == [0, 2, 3]
    assert values.tolist() == CONTRACT.target.decode(np.array([1.0, 0.0, 1.0])).tolist()
    assert probability is None


def test_a_prediction_that_is_no_number_rejects_its_row():
    batch_of_rows = checked([1, np.nan, np.inf, 0])
    rows, values, _ = score_valid(Answers(), batch_of_rows)
    assert rows.tolist() == [0, 3]
    assert values.tolist() == CONTRACT.target.decode(np.array([1.0, 0.0])).tolist()
    violations = batch_of_rows.violations.to_pylist()
    assert [(row["row"], row["column"]) for row in violations] == [
        (1, "prediction"),
        (2, "prediction"),
    ]
    assert batch_of_rows.valid.tolist() == [True, False, False, True]


def test_no_key_is_named_like_another_column_of_the_output(saved):
    predictions = results.predictions_schema(artifact.open_model(saved)).names
    key = {CONTRACT.key.name} if CONTRACT.key else set()
    written = {*predictions, *results.REJECTED.names} - key
    assert written <= RESERVED
    assert RESERVED - written <= {"source", "row", "probability"}


@pytest.mark.parametrize("kind", ["float", "integer", "date"])
def test_no_type_of_the_target_hides_what_is_no_number(kind, monkeypatch):
    target = Column("Y", kind)
    monkeypatch.setattr(predict, "CONTRACT", SimpleNamespace(target=target))
    rows, values, _ = results.finite(checked([0] * 3), np.array([7.0, np.nan, -np.inf]), None)
    assert (rows.tolist(), values.tolist()) == ([0], target.decode(np.array([7.0])).tolist())
    model = predict.Model({}, lambda matrix: (matrix[:, 0], None))
    if kind != "float":
        with pytest.raises(ProjectError, match="row 1: the prediction is not finite"):
            model.score(np.array([[1.0], [np.nan]]))


def test_a_batch_without_a_valid_row_is_not_given_to_the_model():
    rows, values, _ = score_valid(predict.Model({}, None), checked([1, 2], [0, 1]))
    assert len(rows) == len(values) == 0
    assert values.dtype == CONTRACT.target.decode(np.zeros(1)).dtype, "as in any other batch"


def test_predictions_name_their_row(saved):
    model = artifact.open_model(saved)
    names = results.predictions_schema(model).names
    which = [CONTRACT.key.name] if CONTRACT.key else ["source", "row"]
    assert names[: len(which)] == which
    assert names[-3:] == ["model_version", "run_id", "predicted_at"]
    assert ("probability" in names) == model.metadata["probabilities"]


def test_predictions_have_the_targets_own_type(saved):
    model = artifact.open_model(saved)
    kind = results.predictions_schema(model).field("prediction").type
    expected = CONTRACT.target.decode(np.zeros(1))
    assert kind == pa.from_numpy_dtype(expected.dtype)


def test_run_ids_are_new_each_time_and_fit_the_rule():
    one, two = job.new_run_id(), job.new_run_id()
    assert one != two
    assert job.RUN_ID.fullmatch(one)


@pytest.mark.parametrize("bad", ["", "a b", "a/b", "../a", ".a", "a" * 101, "a\n", "ação", "a:b"])
def test_run_ids_that_are_no_file_names_are_refused(bad):
    assert not job.RUN_ID.fullmatch(bad)


@pytest.mark.parametrize("good", ["1", "2026-11-22", "daily.2026", "A" * 100])
def test_run_ids_of_the_users_own(good):
    assert job.RUN_ID.fullmatch(good)


def test_without_pyspark_the_spark_engine_is_one_sentence(call, saved, rows, project, monkeypatch):
    pyarrow.csv.write_csv(rows(10), project.folder / "in.csv")
    known = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *_: None if name == "pyspark" else known(name)
    )
    done = call("score", "--engine", "spark", "--input", "in.csv", "--model", saved)
    assert done.returncode == 2
    assert done.stderr == (
        "error: the Spark engine needs pyspark: install requirements-spark.txt.\n"
    )


def test_a_master_without_spark_is_refused(call, saved):
    done = call("score", "--master", "local[2]", "--model", saved)
    assert (done.returncode, done.stderr) == (2, "error: --master goes with --engine spark.\n")
