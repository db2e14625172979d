"""From the training table to a champion in the registry."""

from {{ cookiecutter.__package_name }} import settings
from {{ cookiecutter.__package_name }}.contract import CONTRACT
from {{ cookiecutter.__package_name }}.tables import reader


def test_training_registers_and_promotes_the_first_model(trained):
    assert "Version 1: " in trained.told
    assert f"  {settings.load().training.metric} " in trained.told
    assert "Promoted: there is no champion yet." in trained.told


def test_it_leaves_plots_and_the_split(trained):
    pictures = {path.name for path in trained.folder.glob("mlartifacts/**/*.png")}
    assert "feature_importance.png" in pictures and len(pictures) == 2
    split = reader.read(str(trained.folder / "data/processed/split.parquet"), CONTRACT)
    held_out = split["holdout"]
    assert 0 < sum(held_out.to_pylist()) < len(held_out)
