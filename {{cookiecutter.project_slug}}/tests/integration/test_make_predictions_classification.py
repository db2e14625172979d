"""The champion answers with a list, and knows flowers that nobody mistakes.

The rows are the example's. With columns of your own, put rows of yours into DATA and KNOWN.
"""

import pytest

from {{ cookiecutter.__package_name }} import registry, settings
from {{ cookiecutter.__package_name }}.contract import CONTRACT
from {{ cookiecutter.__package_name }}.predict import make_predictions

DATA = {
    "SEPAL_LENGTH": [5.3, 5.1],
    "SEPAL_WIDTH": [6.7, 3.5],
    "PETAL_LENGTH": [2.1, 1.4],
    "PETAL_WIDTH": [2.3, 0.2],
}
# One of each species: setosa, versicolor, virginica.
KNOWN = {
    "SEPAL_LENGTH": [5.1, 5.8, 7.2],
    "SEPAL_WIDTH": [3.5, 2.7, 3.2],
    "PETAL_LENGTH": [1.4, 4.1, 6.0],
    "PETAL_WIDTH": [0.2, 1.0, 1.8],
}
ANSWERS = [0, 1, 2]


@pytest.fixture
def loaded_model(untouched):
    lacking = [name for name in CONTRACT.names if name not in DATA or name not in KNOWN]
    assert not lacking, f"put rows of your own into DATA and KNOWN: they lack {lacking}"
    return registry.load_model(f"models:/{settings.PACKAGE}@champion", settings.load())


def test_a_list_with_one_prediction_for_each_row(loaded_model):
    predictions = make_predictions(loaded_model, DATA)
    assert isinstance(predictions, list)
    assert len(predictions) == len(DATA[CONTRACT.names[0]])
    assert all(type(each) is type(ANSWERS[0]) for each in predictions)


def test_known_rows_get_their_class(loaded_model):
    assert make_predictions(loaded_model, KNOWN) == ANSWERS


def test_a_known_row_gets_its_class_alone_too(loaded_model):
    for row, answer in enumerate(ANSWERS):
        data = {name: [values[row]] for name, values in KNOWN.items()}
        assert make_predictions(loaded_model, data) == [answer]
