"""Where the training table comes from, and what is done with raw data.

This is one of the three files to change for your own project. Both functions may stay as they are
where a table has the columns of ``contract.py`` already; more columns do no harm.
"""

import pandas as pd

from .contract import CONTRACT
from .tables.reader import read_frame


def load(uri: str) -> pd.DataFrame:
    """The training table: one row per example, with the target.

    :param uri: the setting ``training.table``, a file, a folder or a table of a database.
    """
    return read_frame(uri, CONTRACT)


def prepare(table: pd.DataFrame) -> pd.DataFrame:
    """Raw data as the contract's columns, row by row: in training, and where raw data is scored.

    Only in training the target is there.
    """
    return table
