"""This project's own contract: documented as it is, and kept by its training table."""

import numpy as np
from conftest import CHECKOUT

from {{ cookiecutter.__package_name }} import cli
from {{ cookiecutter.__package_name }}.contract import CONTRACT


def test_the_page_about_the_contract_is_up_to_date(folder, capsys):
    assert cli.main(["contract"]) == 0
    table = capsys.readouterr().out.strip()
    assert table.startswith("| column |")
    page = (CHECKOUT / "docs" / "contract.md").read_text("utf-8")
    up_to_date = table in page
    assert up_to_date, f"put this table into docs/contract.md:\n\n{table}"


def test_the_training_table_keeps_the_contract(examples, matrix):
    assert matrix.shape == (len(examples), len(CONTRACT.columns))
    assert matrix.dtype == np.float32
