"""The champion predicts a valid value of the target for every row.

``tests/known_answers.csv`` holds rows with the target that must be predicted. If the target is a
number, the column WITHIN holds the tolerance.
"""

import numpy as np
import pytest
from conftest import CHECKOUT

from {{ cookiecutter.__package_name }}.contract import CONTRACT
from {{ cookiecutter.__package_name }}.models.predict import make_predictions
from {{ cookiecutter.__package_name }}.tables import reader

KNOWN = CHECKOUT / "tests" / "known_answers.csv"
TARGET = CONTRACT.target.name


def test_a_list_with_one_prediction_for_each_row(loaded_model, rows):
    predictions = make_predictions(loaded_model, rows)
    assert isinstance(predictions, list)
    assert len(predictions) == len(rows)
    if CONTRACT.target.allowed:
        assert set(predictions) <= set(CONTRACT.target.allowed)
    elif CONTRACT.target.type in ("float", "integer"):
        assert np.isfinite(predictions).all()


def test_a_row_gets_the_same_prediction_alone(loaded_model, rows):
    together = make_predictions(loaded_model, rows.head(20))
    alone = [make_predictions(loaded_model, rows.iloc[[row]])[0] for row in range(len(together))]
    assert alone == pytest.approx(together)


def test_known_rows_get_their_answer(loaded_model):
    if not KNOWN.exists():
        pytest.skip(f"put rows with answers that nobody doubts into {KNOWN}")
    known = reader.read(str(KNOWN), CONTRACT).to_pandas()
    lacking = {*CONTRACT.names, TARGET} - {*known.columns}
    assert not lacking, f"{KNOWN} lacks {sorted(lacking)}: put rows of yours there, or remove it"
    for number, predicted in enumerate(make_predictions(loaded_model, known)):
        answer = known.at[number, TARGET]
        if "WITHIN" in known:
            assert abs(predicted - answer) <= known.at[number, "WITHIN"], f"row {number}"
        else:
            assert str(predicted) == str(answer), f"row {number}"
