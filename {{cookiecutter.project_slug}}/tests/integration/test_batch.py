"""The batch job: from a table to predictions and rejected rows, in files and in a database."""

import json

import pandas as pd
import pytest
import sqlalchemy as sa
from conftest import BAD

from {{ cookiecutter.__package_name }} import settings
from {{ cookiecutter.__package_name }}.contract import CONTRACT
from {{ cookiecutter.__package_name }}.models.predict import make_predictions

ROWS = 100
FIRST = CONTRACT.names[0]


@pytest.fixture
def source(trained, rows, tmp_path):
    """An input of a hundred rows."""
    table = pd.concat([rows] * (ROWS // len(rows) + 1), ignore_index=True).head(ROWS)
    table.to_parquet(tmp_path / "in.parquet")
    return tmp_path / "in.parquet"


@pytest.fixture
def score(trained, champion):
    """score(*words) runs the command and returns its output."""
    return lambda *words: trained.succeed("score", "--model", champion, *words)


def test_a_table_is_scored_into_parquet_as_predicted(trained, score, source, loaded_model):
    assert f"{ROWS} predicted" in score("--input", source, "--run-id", "parquet")
    folder = trained.folder / "data/predictions/parquet"
    found, given = pd.read_parquet(folder), pd.read_parquet(source)
    expected = make_predictions(loaded_model, given)
    assert found["prediction"].tolist() == pytest.approx(expected)
    assert set(found["model_version"]) == {"1"}
    if CONTRACT.key:
        assert found[CONTRACT.key.name].tolist() == given[CONTRACT.key.name].tolist()
    manifest = json.loads((folder / "_manifest.json").read_text("utf-8"))
    assert manifest["rows"] == {"read": ROWS, "predicted": ROWS, "rejected": 0}
    assert manifest["contract"] == CONTRACT.version
    # The same run again has nothing to do.
    assert "published already" in score("--input", source, "--run-id", "parquet")


def test_rows_that_break_the_contract_are_set_aside_with_a_reason(trained, score, source):
    table = pd.read_parquet(source).astype(object)
    table.loc[3, FIRST] = BAD
    table.to_csv(source.with_suffix(".csv"), index=False)
    score("--input", source.with_suffix(".csv"), "--run-id", "spoilt")
    assert len(pd.read_parquet(trained.folder / "data/predictions/spoilt")) == ROWS - 1
    [row] = pd.read_csv(trained.folder / "data/rejected/spoilt.csv").to_dict("records")
    assert (row["row"], row["column"], row["value"]) == (3, FIRST, BAD)
    assert row["reason"].startswith("is not")


def test_the_champion_scores_a_table_of_a_database_into_another(trained, source, tmp_path):
    url = f"sqlite:///{tmp_path}/shop.db"
    table = pd.read_parquet(source)
    engine = sa.create_engine(url)
    table.to_sql("orders", engine, index=False)
    trained.succeed("score", "--input", f"{url}#orders", "--output", f"{url}#predictions")
    with engine.connect() as connection:
        stored = connection.execute(sa.text("SELECT prediction FROM predictions")).scalars().all()
    assert len(stored) == ROWS and None not in stored


def test_labels_make_the_predictions_measurable(trained, score, examples, rows, tmp_path):
    rows.to_parquet(tmp_path / "in.parquet")
    score("--input", tmp_path / "in.parquet", "--run-id", "labelled")
    predicted = pd.read_parquet(trained.folder / "data/predictions/labelled")
    labels = predicted.assign(**{CONTRACT.target.name: examples[CONTRACT.target.name]})
    labels.to_parquet(tmp_path / "labels.parquet")
    trained.succeed("labels", "import", tmp_path / "labels.parquet")
    metric = settings.load().training.metric
    assert f"    {metric} " in trained.succeed("monitor", "--window", "labelled")


def test_an_input_without_a_column_is_one_sentence(trained, champion, source):
    pd.read_parquet(source).drop(columns=FIRST).to_parquet(source)
    done = trained.run("score", "--model", champion, "--input", source)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ") and f"column {FIRST} is missing" in line
