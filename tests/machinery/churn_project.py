"""A classification with a training table that tests write: see cases/churn."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Project
from mirror_project import replace_user_files

FILES = Path(__file__).parent / "cases" / "churn"
TRAINING = 'table = "data/raw/customers.csv"\nmetric = "log_loss"\nmaximum = { log_loss = 0.6 }'
ROWS = 2000


def customers() -> pd.DataFrame:
    """Invented: to leave is rare, and likelier where the age is missing; keys begin with 0."""
    random = np.random.default_rng(0)
    age = pd.Series(random.integers(18, 80, ROWS), dtype="Int64").mask(random.random(ROWS) < 0.15)
    risk = np.where(age.isna(), 0.35, 0.04)
    since = pd.Timestamp("2019-01-01") + pd.to_timedelta(random.integers(0, 900, ROWS), "D")
    return pd.DataFrame(
        {
            "CUSTOMER": [f"{number:05d}" for number in range(ROWS)],
            "PLAN": random.choice(["basic", "family", "business"], ROWS),
            "SINCE": since,
            "AGE": age,
            "OUTCOME": np.where(random.random(ROWS) < risk, "leaves", "stays"),
        }
    )


class Churn(Project):
    """A project with the files of cases/churn."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        replace_user_files(self, FILES, TRAINING)
        self.table = folder / "data" / "raw" / "customers.csv"


@pytest.fixture
def churn(tmp_path):
    project = Churn(tmp_path / "project")
    yield project
    project.stop()
