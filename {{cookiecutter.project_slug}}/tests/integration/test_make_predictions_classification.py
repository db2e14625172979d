"""The champion answers with a list, and knows flowers that nobody mistakes."""

import pytest

from {{ cookiecutter.__package_name }} import registry, settings
from {{ cookiecutter.__package_name }}.predict import make_predictions

SETOSA, VERSICOLOR, VIRGINICA = 0, 1, 2


@pytest.fixture
def loaded_model(copied):
    return registry.load_model(f"models:/{settings.PACKAGE}@champion", settings.load())


def test_a_list_with_one_prediction_for_each_row(loaded_model):
    data = {
        "SEPAL_LENGTH": [5.3, 5.1],
        "SEPAL_WIDTH": [6.7, 3.5],
        "PETAL_LENGTH": [2.1, 1.4],
        "PETAL_WIDTH": [2.3, 0.2],
    }
    predictions = make_predictions(loaded_model, data)
    assert isinstance(predictions, list)
    assert len(predictions) == 2
    assert all(type(each) is int and each in (0, 1, 2) for each in predictions)


@pytest.mark.parametrize(
    ("flower", "species"),
    [
        ((5.1, 3.5, 1.4, 0.2), SETOSA),
        ((5.8, 2.7, 4.1, 1.0), VERSICOLOR),
        ((7.2, 3.2, 6.0, 1.8), VIRGINICA),
    ],
)
def test_a_known_flower_gets_its_class(loaded_model, flower, species):
    names = ("SEPAL_LENGTH", "SEPAL_WIDTH", "PETAL_LENGTH", "PETAL_WIDTH")
    data = {name: [value] for name, value in zip(names, flower, strict=True)}
    assert make_predictions(loaded_model, data) == [species]
