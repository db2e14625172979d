"""Choosing a model: the split, the search, the thresholds."""

import re
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import PROBLEM
from sklearn.dummy import DummyClassifier, DummyRegressor

from iris_flower_prediction import model
from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.errors import ProjectError
from iris_flower_prediction.schema import Column, Contract
from iris_flower_prediction.tables import reader
from iris_flower_prediction.training import train


def training(config, **changes):
    return config.training.model_copy(update=changes)


def sides(table, config):
    """The rows held out and those trained on, each by its key, or by its features without one."""
    train.split_table(table, config)
    stored = reader.read(f"{config.training.work}/split.parquet", CONTRACT).to_pandas()
    names = [CONTRACT.key.name] if CONTRACT.key else CONTRACT.names
    rows = [tuple(row) for row in stored[names].astype(str).to_numpy()]
    marked = list(zip(rows, stored["holdout"], strict=True))
    return {row for row, held in marked if held}, {row for row, held in marked if not held}


def test_the_sides_share_no_row_and_stay_the_same(examples, config):
    held, trained_on = sides(examples, config)
    assert held
    assert trained_on
    assert not held & trained_on
    split = train.split_table(examples, config)
    assert len(split.holdout) + len(split.training) == len(examples)
    assert split.holdout.shape[1] == split.training.shape[1] == len(CONTRACT.columns)
    again = train.split_table(examples, config)
    np.testing.assert_array_equal(split.holdout, again.holdout)
    np.testing.assert_array_equal(split.target, again.target)


def test_a_row_stays_on_its_side_when_the_table_grows(examples, config):
    """So a champion is never compared on rows that it was fitted on."""
    small, small_rest = sides(examples.iloc[: len(examples) // 2], config)
    large, large_rest = sides(examples, config)
    assert small <= large
    assert small_rest <= large_rest


@pytest.mark.parametrize("kind", ["int64", "float64", "object"])
def test_a_key_is_the_same_whichever_type_a_table_holds_it_in(kind):
    contract = Contract("1.0.0", (), CONTRACT.target, Column("K", "integer"))
    table = pd.DataFrame({"K": np.arange(5).astype(kind)})
    assert list(train._keys(contract.checked(table))) == ["0", "1", "2", "3", "4"]


def test_another_seed_is_another_split_of_the_same_share(examples, config):
    seeds = [training(config, seed=seed) for seed in (0, 1)]
    one, two = (config.model_copy(update={"training": each}) for each in seeds)
    assert sides(examples, one)[0] != sides(examples, two)[0]
    share = len(train.split_table(examples, one).holdout) / len(examples)
    assert share == pytest.approx(config.training.holdout_share, abs=0.1)


def test_a_training_table_that_breaks_the_contract_is_named(examples, config):
    name, target = CONTRACT.names[0], CONTRACT.target.name
    with pytest.raises(ProjectError, match=re.escape(target)):
        train.split_table(examples.drop(columns=target), config)
    with pytest.raises(ProjectError, match=re.escape(name)):
        train.split_table(examples.drop(columns=name), config)
    broken = examples.astype({name: object})
    broken.loc[3, name] = "not a value"
    with pytest.raises(ProjectError, match=rf"row 3, column {re.escape(name)}"):
        train.split_table(broken, config)
    missing = examples.astype({target: object})
    missing.loc[4, target] = None
    with pytest.raises(ProjectError, match=rf"row 4, column {re.escape(target)}.* missing"):
        train.split_table(missing, config)
    with pytest.raises(ProjectError, match="too few"):
        train.split_table(examples.iloc[:1], config)


def test_columns_without_a_value_are_named(examples, config, monkeypatch):
    columns = tuple(replace(column, nullable=True) for column in CONTRACT.columns)
    monkeypatch.setattr(train, "CONTRACT", replace(CONTRACT, columns=columns))
    empty = examples.astype(dict.fromkeys(CONTRACT.names, object))
    empty[CONTRACT.names[:2]] = None
    with pytest.raises(ProjectError, match=f"no value of {', '.join(CONTRACT.names[:2])}: fill"):
        train.split_table(empty, config)


def test_select_takes_the_candidate_with_the_best_score(examples, config, monkeypatch):
    few = {name: model.build(0)[name] for name in list(model.build(0))[:2]}
    monkeypatch.setattr(model, "build", lambda seed: few)
    split = train.split_table(examples, config)
    quick = config.model_copy(update={"training": training(config, folds=2, searches=1)})
    chosen = train.select(split, quick)
    assert chosen.scores.keys() == few.keys()
    assert chosen.name == max(chosen.scores, key=chosen.scores.get) != model.BASELINE
    assert np.isfinite(np.asarray(chosen.estimator.predict(split.holdout), float)).all()


class Failing(DummyClassifier if PROBLEM == "classification" else DummyRegressor):
    """A candidate with a fault."""

    def __init__(self, fault="fit"):
        self.fault = fault
        super().__init__()

    def fit(self, matrix, target):
        warnings.warn("this is tiresome", UserWarning, stacklevel=1)
        if self.fault == "fit":
            raise RuntimeError("no such luck")
        if self.fault == "exit":
            raise SystemExit("I leave")
        self.function = lambda: None if self.fault == "kept" else print  # nothing keeps a lambda
        return super().fit(matrix, target)


@pytest.mark.parametrize(
    ("fault", "told"),
    [("fit", "no such luck"), ("exit", "I leave"), ("kept", "can only be pickled")],
)
def test_a_candidate_that_cannot_be_served_is_named_before_the_search(
    examples, config, monkeypatch, fault, told
):
    strange = {name: model.Candidate(Failing(fault), {}) for name in ("strange", "another")}
    candidates = model.build(0) | strange
    monkeypatch.setattr(model, "build", lambda seed: candidates)
    monkeypatch.setattr(train, "_search", lambda *_: pytest.fail("the search has begun"))
    split = train.split_table(examples, config)
    with pytest.raises(ProjectError, match=rf"candidate strange: .*{told}") as found:
        train.select(split, config)
    assert "candidate another: " in str(found.value)


def test_a_warning_is_told_once_with_its_candidate(caplog):
    with train._named("strange"):
        for _ in range(45):
            warnings.warn("this is tiresome", UserWarning, stacklevel=1)
    assert caplog.messages == ["candidate strange: this is tiresome (45 times)"]


def test_thresholds_that_are_missed_are_named_with_both_numbers(config):
    bounds = training(config, minimum={"a": 0.5, "b": 0.5}, maximum={"c": 2.0, "d": 2.0})
    metrics = {"a": 0.5, "b": 0.4, "c": 2.0, "d": 2.1}
    assert train.shortfalls(metrics, bounds) == [
        "b 0.4000 is below the minimum 0.5",
        "d 2.1000 is above the maximum 2",
    ]


def test_a_metric_that_is_not_a_number_misses_its_threshold(config):
    bounds = training(config, minimum={"a": 0.5}, maximum={"b": 0.5})
    assert len(train.shortfalls({"a": float("nan"), "b": float("nan")}, bounds)) == 2


def test_a_threshold_for_a_metric_that_does_not_exist_is_named(config):
    with pytest.raises(ProjectError, match="no typo"):
        train.shortfalls({"a": 1.0}, training(config, minimum={"typo": 0.5}, maximum={}))
