"""Compare predictions row by row: ``agreement.py INPUT OURS OTHER``."""

import json
import sys

import numpy as np
import pyarrow.dataset as ds


def ours(folder: str) -> np.ndarray:
    """Predictions in the input's order, by their row numbers."""
    table = ds.dataset(folder).to_table(columns=["row", "prediction"])
    rows = table["row"].to_numpy()
    predictions = np.full(len(rows), -1)
    predictions[rows] = table["prediction"].to_numpy()
    return predictions


def other(path: str, source: str) -> np.ndarray:
    """Predictions in the input's order; Spark changes the order, so columns identify its rows."""
    table = ds.dataset(path).to_table()
    predictions = table["prediction"].to_numpy()
    keys = [name for name in table.column_names if name != "prediction"]
    if not keys:
        return predictions
    inputs = ds.dataset(source).to_table(columns=keys)
    in_order = np.empty_like(predictions)
    in_order[_sorted(inputs, keys)] = predictions[_sorted(table, keys)]
    return in_order


def _sorted(table, keys: list[str]) -> np.ndarray:
    return np.lexsort([table[key].to_numpy() for key in keys])


if __name__ == "__main__":
    source, mine, theirs = sys.argv[1:]
    expected, found = other(theirs, source), ours(mine)
    if len(expected) != len(found):
        sys.exit(f"{theirs} has {len(expected)} rows, {mine} has {len(found)}")
    print(json.dumps({"rows": len(found), "disagree": int((expected != found).sum())}))
