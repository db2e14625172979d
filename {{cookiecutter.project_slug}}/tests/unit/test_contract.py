"""This project's own contract: documented as it is, and kept by its example data."""

import numpy as np
from conftest import CHECKOUT

from {{ cookiecutter.__package_name }} import cli, settings, tables
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


def test_the_example_input_keeps_the_contract():
    uri = settings.load().batch.input
    names = tables.column_names(uri, tables.files(uri))
    for where, found in names.items():
        CONTRACT.require(found, where)
    parts = tables.parts(uri, tables.files(uri), CONTRACT.needed, 1000)
    checked = [CONTRACT.check(batch) for part in parts for batch in part.batches()]
    assert sum(len(each.valid) for each in checked) > 0
    assert [each.violations.to_pylist() for each in checked if not each.valid.all()] == []
