"""This project's contract: docs and training table agree with it, and bad values are refused."""

import subprocess
import sys
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from conftest import BAD, CHECKOUT

from {{ cookiecutter.__package_name }}.contract import CONTRACT
from {{ cookiecutter.__package_name }}.errors import ProjectError

COLUMNS = pytest.mark.parametrize("column", CONTRACT.columns, ids=CONTRACT.names)


def test_the_pages_show_this_contract():
    words = [sys.executable, CHECKOUT / "docs" / "pages.py", "--check"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert CONTRACT.markdown() in (CHECKOUT / "docs" / "contract.md").read_text("utf-8")


def test_the_training_table_keeps_the_contract(rows):
    matrix = CONTRACT.encode(rows)
    assert matrix.shape == (len(rows), len(CONTRACT.columns))
    assert matrix.dtype == np.float32


@COLUMNS
def test_an_example_keeps_the_contract(rows, column):
    if column.example is not None:
        CONTRACT.encode(with_value(rows, column, column.example))


@COLUMNS
def test_a_value_of_another_type_is_refused_with_its_column(rows, column):
    refuse(rows, column, BAD)


@COLUMNS
def test_values_outside_the_range_are_refused(rows, column):
    far = 1 if column.type in ("float", "integer") else timedelta(days=1)
    if column.minimum is not None:
        refuse(rows, column, column.minimum - far)
    if column.maximum is not None:
        refuse(rows, column, column.maximum + far)


@COLUMNS
def test_a_value_may_be_missing_where_the_contract_says_so(rows, column):
    if column.nullable:
        position = CONTRACT.names.index(column.name)
        assert np.isnan(CONTRACT.encode(with_value(rows, column, None))[0, position])
    else:
        refuse(rows, column, None)


def with_value(rows: pd.DataFrame, column, value) -> dict:
    """The first row, with another value in one column."""
    return rows.head(1).to_dict("list") | {column.name: [value]}


def refuse(rows: pd.DataFrame, column, value) -> None:
    with pytest.raises(ProjectError, match=rf"row 0, column {column.name}: "):
        CONTRACT.encode(with_value(rows, column, value))
