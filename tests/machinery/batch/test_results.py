"""What a batch comes to: which rows are scored, and what is written of them."""

import importlib.util
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from conftest import BAD, spoil

from iris_flower_prediction.batch import job, results, sections
from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.errors import ProjectError
from iris_flower_prediction.models import artifact, predict
from iris_flower_prediction.schema.columns import Column
from iris_flower_prediction.schema.contract import RESERVED
from iris_flower_prediction.tables.storage import LocalFolder


def model(answers, probabilities=None):
    """A model that gives these codes, whatever it is asked; it counts the rows it was asked."""

    def run(matrix):
        found.asked = len(matrix)
        return np.array(answers, float), probabilities

    found = predict.Model({"version": "7", "probabilities": probabilities is not None}, run)
    found.asked = 0
    return found


def target(found, attempt=None):
    return results.Results(
        attempt=attempt,
        suffix=".parquet",
        schema=results.predictions_schema(found, 20),
        batch_rows=100,
        run_id="one",
        model_version=found.version,
        reference=None,
        started=datetime.now(UTC),
    )


def score(found, table, first=0):
    batch = table.combine_chunks().to_batches()[0]
    return target(found)._score(found, (batch, "in.csv", first))


def test_only_valid_rows_are_scored_and_they_keep_their_numbers(rows):
    found = model([1, 0, 1])
    scored = score(found, spoil(rows(4), 1), first=100)
    assert found.asked == 3
    predicted = scored.predictions.to_pydict()
    assert predicted["prediction"] == CONTRACT.target.decode(np.array([1.0, 0.0, 1.0])).tolist()
    if not CONTRACT.key:
        assert predicted["row"] == [100, 102, 103]
    assert "probability" not in predicted
    [bad] = scored.violations.to_pylist()
    assert (bad["row"], bad["column"], bad["value"]) == (101, CONTRACT.names[0], BAD)
    assert scored.rows == 4


def test_a_prediction_that_is_no_number_rejects_its_row(rows):
    scored = score(model([1, np.nan, 0, np.inf]), spoil(rows(5), 1))
    expected = CONTRACT.target.decode(np.array([1.0, 0.0])).tolist()
    assert scored.predictions["prediction"].to_pylist() == expected
    violations = scored.violations.to_pylist()
    assert [(row["row"], row["column"]) for row in violations] == [
        (1, CONTRACT.names[0]),
        (2, "prediction"),
        (4, "prediction"),
    ]


def test_a_section_that_has_other_rows_than_it_had_leaves_no_part(rows, tmp_path):
    file = tmp_path / "in.parquet"
    pq.write_table(rows(10), file)
    [section] = sections.sections(str(file), [file], 100)
    writes = target(model([0] * 10), LocalFolder(tmp_path / "attempt"))
    assert writes.write(model([0] * 10), section)["predicted"] == 10
    with pytest.raises(ProjectError, match=r"in\.parquet was changed while it was read"):
        writes.write(model([0] * 10), replace(section, number=1, rows=11))
    assert [path.name for path in (tmp_path / "attempt").iterdir()] == [
        "part-000000-000000.parquet"
    ]


def test_a_batch_without_a_valid_row_is_not_given_to_the_model(rows):
    found = model([1, 0])
    scored = score(found, spoil(rows(2), 0, 1))
    assert (found.asked, scored.predictions.num_rows, scored.violations.num_rows) == (0, 0, 2)


@pytest.mark.parametrize("strange", [[{"a": 1}, {"a": 2}], [b"x", b"\xff"], [[1], [2]]])
def test_a_key_of_any_type_is_told(rows, monkeypatch, strange):
    key = Column("K", "text")
    monkeypatch.setattr(results, "CONTRACT", replace(CONTRACT, key=key))
    kinds = {"row": pa.int64()}
    names = ["source", "K", "row", "column", "value", "reason"]
    rejected = pa.schema([(name, kinds.get(name, pa.string())) for name in names])
    monkeypatch.setattr(results, "REJECTED", rejected)
    scored = score(model([]), rows(2).append_column("K", pa.array(strange)))
    assert scored.predictions.num_rows == 0
    assert [row["row"] for row in scored.violations.to_pylist()] == [0, 1]


@pytest.mark.parametrize("kind", ["float", "integer", "date"])
def test_no_type_of_the_target_hides_what_is_no_number(kind, rows, monkeypatch):
    column = Column("Y", kind)
    monkeypatch.setattr(predict, "CONTRACT", replace(CONTRACT, target=column))
    values, finite = predict.in_own_values(np.array([7.0, np.nan, -np.inf]))
    assert finite.tolist() == [True, False, False]
    assert values[:1].tolist() == column.decode(np.array([7.0])).tolist()
    if kind != "float":
        with pytest.raises(ProjectError, match="row 1: the prediction is not finite"):
            predict.make_predictions(model([7, np.nan]), rows(2))


def test_no_key_is_named_like_another_column_of_the_output(saved):
    predictions = results.predictions_schema(artifact.open_model(saved), 20).names
    key = {CONTRACT.key.name} if CONTRACT.key else set()
    written = {*predictions, *results.REJECTED.names} - key - {*CONTRACT.probabilities}
    assert written <= RESERVED
    assert RESERVED - written <= {"source", "row", "probability"}


def test_predictions_name_their_row(saved):
    model = artifact.open_model(saved)
    names = results.predictions_schema(model, 20).names
    which = [CONTRACT.key.name] if CONTRACT.key else ["source", "row"]
    assert names[: len(which)] == which
    assert names[-3:] == ["model_version", "run_id", "predicted_at"]
    assert ("probability" in names) == model.metadata["probabilities"]


@pytest.mark.skipif(not CONTRACT.target.classes, reason="a number has no classes")
def test_the_probability_of_each_class_stands_in_its_column(rows, saved):
    found, table = artifact.open_model(saved), rows(30)
    predicted = score(found, spoil(table, 3)).predictions
    kept = table.take([*range(3), *range(4, 30)])
    _, expected = found.run(CONTRACT.encode(kept))
    for name, column in zip(CONTRACT.probabilities, expected.T, strict=True):
        np.testing.assert_allclose(predicted[name], column, rtol=1e-5)
    names = results.predictions_schema(found, CONTRACT.target.classes - 1).names
    assert "probability" in names and not {*CONTRACT.probabilities} & {*names}


def test_predictions_have_the_targets_own_type(saved):
    model = artifact.open_model(saved)
    kind = results.predictions_schema(model, 20).field("prediction").type
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
