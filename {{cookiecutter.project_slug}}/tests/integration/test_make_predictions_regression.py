"""The champion answers with a list, and its answers are plausible for known patients.

The rows are the example's. With columns of your own, put rows of yours into KNOWN.
"""

import pytest

from {{ cookiecutter.__package_name }} import registry, settings
from {{ cookiecutter.__package_name }}.contract import CONTRACT
from {{ cookiecutter.__package_name }}.predict import make_predictions

# A lean and a heavy patient of the study, with low and high blood sugar.
KNOWN = {
    "AGE": [48, 59],
    "SEX": [1, 2],
    "BMI": [21.6, 35.0],
    "BLOOD_PRESSURE": [87.0, 110.0],
    "TOTAL_CHOLESTEROL": [183.0, 200.0],
    "LDL": [103.2, 120.0],
    "HDL": [70.0, 35.0],
    "CHOLESTEROL_RATIO": [3.0, 6.0],
    "LOG_TRIGLYCERIDES": [3.8918, 5.5],
    "GLUCOSE": [69.0, 110.0],
}
# The study's values lie between 25 and 346; these two of it were 75 and above 200.
PLAUSIBLE = [(25, 150), (180, 346)]


@pytest.fixture
def loaded_model(untouched):
    lacking = [name for name in CONTRACT.names if name not in KNOWN]
    assert not lacking, f"put rows of your own into KNOWN: it lacks {lacking}"
    return registry.load_model(f"models:/{settings.PACKAGE}@champion", settings.load())


def test_a_list_with_one_prediction_for_each_row(loaded_model):
    predictions = make_predictions(loaded_model, KNOWN)
    assert isinstance(predictions, list)
    assert len(predictions) == len(PLAUSIBLE)
    assert all(type(each) is float for each in predictions)


def test_known_rows_get_a_plausible_value(loaded_model):
    predictions = make_predictions(loaded_model, KNOWN)
    for predicted, (low, high) in zip(predictions, PLAUSIBLE, strict=True):
        assert low < predicted < high
