"""Where the training table comes from.

This is one of the three files to change for your own project. Return a DataFrame with the columns
of ``contract.py`` and the target, one row per example; more columns do no harm. A file or a table
of a database is read by ``read("data/raw/flowers.csv", CONTRACT).to_pandas()``, after
``from .tables.reader import read``.
"""

import pandas as pd
from sklearn.datasets import load_iris

from .contract import CONTRACT


def load() -> pd.DataFrame:
    """Fisher's iris flowers: 150 rows, four measurements in cm, three species of 50 rows each."""
    features, species = load_iris(return_X_y=True)
    names = ["SEPAL_LENGTH", "SEPAL_WIDTH", "PETAL_LENGTH", "PETAL_WIDTH"]
    table = pd.DataFrame(features, columns=names)
    return table.assign(**{CONTRACT.target.name: species})
