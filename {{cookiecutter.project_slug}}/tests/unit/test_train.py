"""Choosing a model: the split, the search, the thresholds."""

import numpy as np
import pytest

from {{ cookiecutter.__package_name }} import model, train
from {{ cookiecutter.__package_name }}.contract import CONTRACT
from {{ cookiecutter.__package_name }}.errors import ProjectError


def training(config, **changes):
    return config.training.model_copy(update=changes)


def test_the_sides_share_no_row_and_stay_the_same(examples, config):
    split = train.split_table(examples, config)
    held = {row.tobytes() for row in split.holdout}
    assert not held & {row.tobytes() for row in split.training}
    assert len(split.holdout) + len(split.training) == len(examples)
    assert split.holdout.shape[1] == split.training.shape[1] == len(CONTRACT.columns)
    again = train.split_table(examples, config)
    np.testing.assert_array_equal(split.holdout, again.holdout)
    np.testing.assert_array_equal(split.target, again.target)


def test_a_row_stays_on_its_side_when_the_table_grows(examples, config):
    """So a champion is never compared on rows that it was fitted on."""
    small = train.split_table(examples.iloc[: len(examples) // 2], config)
    large = train.split_table(examples, config)
    held = {row.tobytes() for row in small.holdout}
    assert held <= {row.tobytes() for row in large.holdout}


def test_another_seed_is_another_split_of_the_same_share(examples, config):
    one = train.split_table(examples, config)
    other_seed = config.model_copy(update={"training": training(config, seed=1)})
    two = train.split_table(examples, other_seed)
    assert one.holdout.shape != two.holdout.shape or (one.holdout != two.holdout).any()
    share = len(one.holdout) / len(examples)
    assert share == pytest.approx(config.training.holdout_share, abs=0.1)


def test_a_training_table_that_breaks_the_contract_is_named(examples, config):
    name, target = CONTRACT.names[0], CONTRACT.target.name
    with pytest.raises(ProjectError, match=target):
        train.split_table(examples.drop(columns=target), config)
    with pytest.raises(ProjectError, match=name):
        train.split_table(examples.drop(columns=name), config)
    broken = examples.astype({name: object})
    broken.loc[3, name] = "not a value"
    with pytest.raises(ProjectError, match=rf"row 3, column {name}"):
        train.split_table(broken, config)
    missing = examples.astype({target: object})
    missing.loc[4, target] = None
    with pytest.raises(ProjectError, match=rf"row 4, column {target}.* missing"):
        train.split_table(missing, config)
    with pytest.raises(ProjectError, match="too few"):
        train.split_table(examples.iloc[:1], config)


def test_select_takes_the_candidate_with_the_best_score(examples, config, monkeypatch):
    few = {name: model.build(0)[name] for name in list(model.build(0))[:2]}
    monkeypatch.setattr(model, "build", lambda seed: few)
    split = train.split_table(examples, config)
    chosen = train.select(split, training(config, folds=2, searches=1))
    assert chosen.scores.keys() == few.keys()
    assert chosen.name == max(chosen.scores, key=chosen.scores.get) != model.BASELINE
    assert np.isfinite(np.asarray(chosen.estimator.predict(split.holdout), float)).all()


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
