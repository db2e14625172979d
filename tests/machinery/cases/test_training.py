"""Training tables as users have them: what cannot be used is named in a sentence."""

from functools import partial

import pandas as pd
import pytest
from churn_project import customers
from conftest import one_sentence

pytestmark = pytest.mark.slow


def put(value: str | None, name: str, table: pd.DataFrame) -> pd.DataFrame:
    """The table with a value in row 3 of a column."""
    values = [value if row == 3 else each for row, each in enumerate(table[name])]
    return table.assign(**{name: values})


FAULTS = {
    "columns are missing": (
        lambda table: table.drop(columns=["AGE", "OUTCOME"]),
        "customers.csv: column AGE, OUTCOME is missing.",
    ),
    "a target is missing": (partial(put, None, "OUTCOME"), "row 3, column OUTCOME is missing"),
    "a class is not allowed": (
        partial(put, "moves", "OUTCOME"),
        "row 3, column OUTCOME is not one of stays, leaves",
    ),
    "a value is infinite": (partial(put, "inf", "AGE"), "row 3, column AGE: inf is not finite"),
    "a class has no row": (
        lambda table: table[table["OUTCOME"] == "stays"],
        "no rows to train on have OUTCOME leaves",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_training_table_that_cannot_be_used_is_one_sentence(churn, fault):
    change, sentence = FAULTS[fault]
    change(customers()).to_csv(churn.table, index=False)
    assert sentence in one_sentence(churn.run("train"))
    assert not (churn.folder / "mlartifacts").exists()
