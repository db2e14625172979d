"""Where the training table comes from.

This is one of the three files to change for your own project. Return a DataFrame with the columns
of ``contract.py`` and the target, one row per example; more columns do no harm. A file or a table
of a database is read by ``read("data/raw/patients.csv", CONTRACT).to_pandas()``, after
``from .tables.reader import read``.
"""

import pandas as pd
from sklearn.datasets import load_diabetes

from .contract import CONTRACT

NAMES = [
    *("AGE", "SEX", "BMI", "BLOOD_PRESSURE", "TOTAL_CHOLESTEROL", "LDL", "HDL"),
    *("CHOLESTEROL_RATIO", "LOG_TRIGLYCERIDES", "GLUCOSE"),
]


def load() -> pd.DataFrame:
    """Diabetes patients: 442 rows, ten baseline measurements, disease progression after a year."""
    features, progression = load_diabetes(return_X_y=True, scaled=False)
    table = pd.DataFrame(features, columns=NAMES)
    return table.assign(**{CONTRACT.target.name: progression})
