"""What is counted of predictions, for each type of target."""

from datetime import date

import numpy as np
import pytest

from iris_flower_prediction.api.metrics import Metrics
from iris_flower_prediction.schema import Column, Contract

INPUT = Column("X", "float", "Input")
DAYS = np.array([0.0, 40.0, 41.0])
TARGETS = [
    (Column("Y", "date", "Day"), DAYS, {"1970-01-11 to 1970-04-11": 2}),
    (
        Column("Y", "date", "Day", minimum=date(1970, 1, 1), maximum=date(1970, 4, 11)),
        DAYS,
        {"up to 1970-01-01": 1, "1970-02-05 to 1970-02-10": 1},
    ),
    (Column("Y", "float", "Price", minimum=0, maximum=100), DAYS, {"up to 0": 1, "35 to 40": 1}),
    (Column("Y", "category", "Kind", allowed=("a", "b")), np.array(["b", "b", "a"]), {"b": 2}),
]


@pytest.mark.parametrize(("target", "values", "expected"), TARGETS)
def test_predictions_are_counted_by_class_or_by_range(target, values, expected):
    metrics = Metrics(Contract("1.0.0", (INPUT,), target), 1, ["/predict"])
    metrics.predicted(values)
    metrics.tick()
    found = {
        sample.labels["prediction"]: sample.value
        for family in metrics._predictions.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    }
    assert found.items() >= expected.items()
    assert sum(found.values()) == len(values)
