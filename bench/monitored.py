"""Give a project predictions to monitor, in its own folder: ``monitored.py ROWS LABELS``.

The batch job's run ``big`` must be there. The API's predictions are written into the database as
the API would keep them; labels are for the first rows of each.
"""

import json
import sqlite3
import sys
from datetime import UTC, datetime

import numpy as np
import pandas as pd

from iris_flower_prediction import settings
from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.monitoring.records import database

ROWS, LABELS = map(int, sys.argv[1:])
random = np.random.default_rng(0)
predicted = pd.read_parquet("data/predictions/big", columns=["run_id", "source", "row"]).head(
    LABELS
)
predicted[CONTRACT.target.name] = random.integers(0, 3, len(predicted))
predicted.to_parquet("labels-batch.parquet")
of_api = pd.DataFrame({"request_id": [f"{number:08x}" for number in range(LABELS)], "row": 0})
of_api[CONTRACT.target.name] = random.integers(0, 3, LABELS)
of_api.to_parquet("labels-api.parquet")

with database(settings.load().database):
    pass  # makes the tables
now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f}"
values = random.uniform(1, 5, (10_000, len(CONTRACT.columns))).round(2).tolist()
inputs = [json.dumps(dict(zip(CONTRACT.names, row, strict=True))) for row in values]
with sqlite3.connect("data/project.db") as kept:
    kept.executemany(
        "INSERT INTO kept_predictions (segment, line, row, request_id, row_id, predicted_at, "
        "client, model, model_version, inputs, prediction, probability) "
        "VALUES ('s', ?, 0, ?, ? || '/0', ?, '', 'iris_flower_prediction', '1', ?, ?, 0.9)",
        (
            (number, f"{number:08x}", f"{number:08x}", now, inputs[number % 10_000], number % 3)
            for number in range(ROWS)
        ),
    )
