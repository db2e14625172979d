"""What pandas gets of a table: as it stands, whichever rows are in the file."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.schema import Column
from iris_flower_prediction.tables import reader


@pytest.mark.parametrize("rows", ["007,1\n", "007,1\nA1,\n"])
def test_other_columns_of_a_csv_file_are_text_whatever_they_hold(tmp_path, rows):
    (tmp_path / "raw.csv").write_text(f"CODE,COUNT\n{rows}", "utf-8")
    frame = reader.read_frame(str(tmp_path / "raw.csv"), CONTRACT)
    assert frame.iloc[0].tolist() == ["007", "1"]


def test_a_whole_key_stays_exact_where_one_is_missing(tmp_path):
    keys = [2**53 + 1, None, 2**53 + 3]
    pq.write_table(pa.table({"K": keys, "N": [1, None, 3]}), tmp_path / "raw.parquet")
    contract = replace(CONTRACT, key=Column("K", "integer"))
    frame = reader.read_frame(str(tmp_path / "raw.parquet"), contract)
    assert frame["K"].tolist() == keys
    assert frame["N"].dtype == float
