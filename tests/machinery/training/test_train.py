"""Choosing a model: the split, the search, the thresholds."""

import re
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import PROBLEM
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_selection import SelectKBest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from iris_flower_prediction import data, model
from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.errors import ProjectError
from iris_flower_prediction.schema import Column, Contract
from iris_flower_prediction.tables import reader
from iris_flower_prediction.training import split, train
from iris_flower_prediction.training.split import split_table


def training(config, **changes):
    return config.training.model_copy(update=changes)


def sides(table, config):
    """The rows held out and those trained on, each by its key, or by its features without one."""
    split_table(table, config)
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
    both = split_table(examples, config)
    assert len(both.holdout) + len(both.training) == len(examples)
    assert both.holdout.shape[1] == both.training.shape[1] == len(CONTRACT.columns)
    again = split_table(examples, config)
    np.testing.assert_array_equal(both.holdout, again.holdout)
    np.testing.assert_array_equal(both.target, again.target)


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
    assert list(split._keys(contract.checked(table))) == ["0", "1", "2", "3", "4"]


def test_another_seed_is_another_split_of_the_same_share(examples, config):
    seeds = [training(config, seed=seed) for seed in (0, 1)]
    one, two = (config.model_copy(update={"training": each}) for each in seeds)
    assert sides(examples, one)[0] != sides(examples, two)[0]
    share = len(split_table(examples, one).holdout) / len(examples)
    assert share == pytest.approx(config.training.holdout_share, abs=0.1)


def test_a_training_table_that_breaks_the_contract_is_named(examples, config):
    name, target = CONTRACT.names[0], CONTRACT.target.name
    with pytest.raises(ProjectError, match=re.escape(target)):
        split_table(examples.drop(columns=target), config)
    with pytest.raises(ProjectError, match=re.escape(name)):
        split_table(examples.drop(columns=name), config)
    broken = examples.astype({name: object})
    broken.loc[3, name] = "not a value"
    with pytest.raises(ProjectError, match=rf"row 3, column {re.escape(name)}"):
        split_table(broken, config)
    missing = examples.astype({target: object})
    missing.loc[4, target] = None
    with pytest.raises(ProjectError, match=rf"row 4, column {re.escape(target)}.* missing"):
        split_table(missing, config)
    with pytest.raises(ProjectError, match="too few"):
        split_table(examples.iloc[:1], config)


def test_columns_without_a_value_are_named(examples, config, monkeypatch):
    columns = tuple(replace(column, nullable=True) for column in CONTRACT.columns)
    monkeypatch.setattr(split, "CONTRACT", replace(CONTRACT, columns=columns))
    empty = examples.astype(dict.fromkeys(CONTRACT.names, object))
    empty[CONTRACT.names[:2]] = None
    with pytest.raises(ProjectError, match=f"no value of {', '.join(CONTRACT.names[:2])}: fill"):
        split_table(empty, config)


DAYS = pd.DataFrame({"DAY": pd.to_datetime(["2024-01-03", "2024-01-01", "2024-01-02"] * 10)})


def by_time(examples, monkeypatch, days=DAYS["DAY"]):
    """The example with a column DAY, which the contract names as its ``time``."""
    monkeypatch.setattr(split, "CONTRACT", replace(CONTRACT, time="DAY"))
    repeated = examples.iloc[np.arange(len(days)) % len(examples)].reset_index(drop=True)
    return repeated.assign(DAY=days)


@pytest.mark.parametrize(("share", "held"), [(0.3, 0), (0.34, 10), (0.6, 10), (0.7, 20)])
def test_the_newest_days_are_held_out_and_no_day_is_divided(share, held):
    days = np.array([3.0, 1.0, 2.0] * 10)
    mask = split.newest(days, share)
    assert mask.sum() == held
    assert not held or days[mask].min() > days[~mask].max()


def test_rows_are_held_out_by_the_time_that_the_contract_names(examples, config, monkeypatch):
    table = by_time(examples, monkeypatch)
    config = config.model_copy(update={"training": training(config, holdout_share=0.4)})
    both = split_table(table, config)
    newest = (table["DAY"] == "2024-01-03").to_numpy()
    np.testing.assert_array_equal(both.holdout, CONTRACT.encode(table[newest]))
    np.testing.assert_array_equal(both.training, CONTRACT.encode(table[~newest]))


@pytest.mark.parametrize(
    ("days", "sentence"),
    [
        (["2024-01-01"] * 30, "the newest DAY is that of too many"),
        (["2024-01-01"] * 29 + [None], "row 29, column DAY is missing"),
        (["2024-01-01"] * 29 + ["soon"], "row 29, column DAY is not of type date"),
    ],
)
def test_a_time_that_divides_no_rows_is_one_sentence(examples, config, monkeypatch, days, sentence):
    table = by_time(examples, monkeypatch, days)
    with pytest.raises(ProjectError, match=sentence):
        split_table(table, config)
    with pytest.raises(ProjectError, match="column DAY is missing"):
        split_table(table.drop(columns="DAY"), config)


@pytest.mark.parametrize("what", ["load", "prepare"])
def test_what_the_users_own_functions_raise_is_one_sentence(config, monkeypatch, what):
    def fail(_):
        raise KeyError("PRICE")

    monkeypatch.setattr(data, what, fail)
    with pytest.raises(ProjectError, match=rf"^data.{what}\(\) ends with KeyError: 'PRICE'"):
        split.training_table(config)
    monkeypatch.setattr(data, what, lambda _: [])
    with pytest.raises(ProjectError, match=r"data\.py returns list"):
        split.training_table(config)


def test_the_training_table_is_what_the_setting_names_and_what_is_made_of_it(
    examples, config, monkeypatch, folder
):
    examples.to_csv(folder / "mine.csv", index=False)
    monkeypatch.setattr(data, "prepare", lambda table: table.head(7))
    other = config.model_copy(update={"training": training(config, table=str(folder / "mine.csv"))})
    found = split.training_table(other)
    with pytest.raises(ProjectError, match=r"training\.table: .*nothing\.csv does not exist"):
        split.training_table(
            config.model_copy(update={"training": training(config, table=f"{folder}/nothing.csv")})
        )
    assert CONTRACT.encode(found).tolist() == CONTRACT.encode(examples.head(7)).tolist()


def test_select_takes_the_candidate_with_the_best_score(examples, config, monkeypatch):
    few = {name: model.build(0)[name] for name in list(model.build(0))[:2]}
    monkeypatch.setattr(model, "build", lambda seed: few)
    both = split_table(examples, config)
    quick = config.model_copy(update={"training": training(config, folds=2, searches=1)})
    chosen = train.select(both, quick)
    assert chosen.scores.keys() == few.keys()
    assert chosen.name == max(chosen.scores, key=chosen.scores.get) != model.BASELINE
    assert np.isfinite(np.asarray(chosen.estimator.predict(both.holdout), float)).all()


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


def test_the_features_that_a_selector_keeps_are_named(matrix, target):
    few = make_pipeline(StandardScaler(), SelectKBest(k=1), DummyClassifier())
    codes = np.digitize(target, np.quantile(target, [0.5]))
    (kept,) = train.kept_features(few.fit(matrix, codes))
    assert kept in CONTRACT.names
    for alone in (DummyClassifier(), RandomForestClassifier(2)):
        assert train.kept_features(alone.fit(matrix, codes)) == CONTRACT.names
    nameless = make_pipeline(FunctionTransformer(), DummyClassifier())
    assert train.kept_features(nameless.fit(matrix, codes)) == []


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
    both = split_table(examples, config)
    with pytest.raises(ProjectError, match=rf"candidate strange: .*{told}") as found:
        train.select(both, config)
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
        "b 0.4000 is below training.minimum, 0.5",
        "d 2.1000 is above training.maximum, 2",
    ]


def test_a_metric_that_is_not_a_number_misses_its_threshold(config):
    bounds = training(config, minimum={"a": 0.5}, maximum={"b": 0.5})
    assert len(train.shortfalls({"a": float("nan"), "b": float("nan")}, bounds)) == 2


def test_a_threshold_for_a_metric_that_does_not_exist_is_named(config):
    with pytest.raises(ProjectError, match="no typo"):
        train.shortfalls({"a": 1.0}, training(config, minimum={"typo": 0.5}, maximum={}))
