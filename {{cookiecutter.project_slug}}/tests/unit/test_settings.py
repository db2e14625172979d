"""The settings in config/: every environment loads, and a misspelt name is reported."""

from argparse import Namespace

import pytest
from conftest import CHECKOUT

from {{ cookiecutter.__package_name }} import settings
from {{ cookiecutter.__package_name }}.errors import ProjectError
from {{ cookiecutter.__package_name }}.monitoring.slo import write

NAMES = {path.stem for path in (CHECKOUT / "config").glob("*.toml")}


@pytest.mark.parametrize("environment", sorted(NAMES - {"model"}))
def test_every_environment_loads(environment, monkeypatch):
    monkeypatch.setenv("ENVIRONMENT", environment)
    assert settings.load().models.uri


def test_the_rules_follow_from_the_objectives(monkeypatch):
    monkeypatch.setenv("ENVIRONMENT", "prod")
    assert write.run(Namespace(check=True)) == 0


def test_a_misspelt_setting_is_named(monkeypatch):
    monkeypatch.setenv("APP__TRAINING__FOLD", "3")
    with pytest.raises(ProjectError, match=r"(?i)training.fold\b"):
        settings.load()
