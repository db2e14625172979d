"""The training table that data.py loads."""

from {{ cookiecutter.__package_name }}.contract import CONTRACT


def test_it_has_every_column_of_the_contract_and_the_target(table):
    assert {*CONTRACT.needed, CONTRACT.target.name} <= {*table.columns}
    assert len(table) > 0


def test_a_key_names_one_row(table):
    if CONTRACT.key:
        assert table[CONTRACT.key.name].is_unique


def test_no_feature_is_the_target_itself(split):
    """It would leak what is to be predicted."""
    for name, values in zip(CONTRACT.names, split.training.T, strict=True):
        assert (values != split.target).any(), name
