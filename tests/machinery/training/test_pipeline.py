"""From the training table to a model that predicts, and what happens to the champion."""

import json

import pytest
from conftest import QUICK

from iris_flower_prediction import cli, settings
from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.models import export, registry, stores
from iris_flower_prediction.models.predict import make_predictions
from iris_flower_prediction.models.reference import reference_of
from iris_flower_prediction.tables import reader
from iris_flower_prediction.training import train

CHAMPION = f"models:/{settings.PACKAGE}@champion"


@pytest.fixture
def config(copied, monkeypatch):
    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)
    return settings.load()


def with_training(config, **changes):
    return config.model_copy(update={"training": config.training.model_copy(update=changes)})


def test_train_register_load_predict(untouched):
    """The session's training was `train` on the command line; its champion predicts."""
    model = stores.load_model(CHAMPION, settings.load())
    assert (model.name, str(model.version)) == (settings.PACKAGE, "1")
    rows = reader.read("data/raw/example.csv", CONTRACT)
    assert len(make_predictions(model, rows)) == rows.num_rows > 0
    assert model.metadata["features"]


def test_scored_rows_are_counted_into_the_bins_of_the_training(copied):
    assert cli.main(["score", "--run-id", "one"]) == 0
    manifest = json.loads((copied.folder / "data/predictions/one/_manifest.json").read_text())
    model = stores.load_model(CHAMPION, settings.load())
    matrix = CONTRACT.encode(reader.read("data/raw/example.csv", CONTRACT))
    bins = reference_of(model)
    counts = bins.count(matrix, model.score(matrix).codes)
    assert manifest["binned"] == bins.named(counts)
    assert sum(manifest["binned"]["prediction"]) == len(matrix)
    assert sum(sum(each.counts) for each in bins.columns.values()) % len(bins.columns) == 0


def test_training_says_what_became_of_the_model_and_nothing_else(trained):
    assert "there is no champion yet" in trained.training.stdout
    assert settings.load().training.metric in trained.training.stdout
    assert trained.training.stderr == ""


def test_training_leaves_metrics_plots_and_the_split(copied):
    config = settings.load()
    [row] = registry.history(config)
    assert row.number == "1"
    assert row.tags["verdict"] == "promoted"
    assert config.training.metric in row.metrics
    for rows in ("holdout", "drawn"):
        assert any(name.startswith(f"disagreement_{rows}_") for name in row.metrics)
    assert sum(name.startswith("cv_") for name in row.metrics) >= 3
    pictures = {path.name for path in copied.folder.glob("mlartifacts/**/*.png")}
    assert "feature_importance.png" in pictures
    assert len(pictures) == 2
    held = reader.read(f"{config.training.work}/split.parquet", CONTRACT)["holdout"].to_pylist()
    assert 0 < sum(held) < len(held)


@pytest.mark.parametrize(
    ("share", "told"),
    [(0.0001, "other labels for 0.01 % of the rows"), (0.4, "slower than ONNX would be: its")],
)
def test_training_tells_how_the_export_differs(config, monkeypatch, capsys, share, told):
    monkeypatch.setattr(export, "compare", lambda *_: {"labels": share})
    train.train(config)
    assert told in capsys.readouterr().out


def test_a_second_training_keeps_the_champion(config, capsys):
    assert train.train(with_training(config, margin=unreachable(config))) == 0
    assert "Kept as challenger" in capsys.readouterr().out
    newest, oldest = registry.history(config)
    assert (newest.aliases, newest.tags["verdict"]) == (("challenger",), "kept as challenger")
    assert oldest.aliases == ("champion",)
    assert "does not beat" in newest.tags["reason"]


def unreachable(config):
    """A margin that no challenger reaches."""
    [row] = registry.history(config)
    return 4 * abs(row.metrics[config.training.metric]) + 1


def test_force_promotes_and_rollback_takes_it_back(config, capsys):
    unbeatable = with_training(config, margin=unreachable(config))
    assert train.train(unbeatable, force=True) == 0
    champion = registry.find("champion", config)
    assert champion.number == "2"
    assert champion.tags["reason"].startswith("by --force, although ")
    assert registry.rollback(config) == ("2", "1")
    assert registry.find("champion", config).number == "1"


def test_a_model_that_misses_a_threshold_is_rejected(config, monkeypatch, capsys):
    metric = config.training.metric
    bounds, never = ("MINIMUM", 1e9) if metric in config.training.minimum else ("MAXIMUM", -1)
    monkeypatch.setenv(f"APP__TRAINING__{bounds}", json.dumps({metric: never}))
    assert cli.main(["train"]) == 1
    assert "Rejected" in capsys.readouterr().out
    newest, oldest = registry.history(config)
    assert (newest.aliases, newest.tags["verdict"]) == ((), "rejected")
    assert f"{metric} " in newest.tags["reason"]
    assert (oldest.number, oldest.aliases) == ("1", ("champion",))
