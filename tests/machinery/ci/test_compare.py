"""How many predictions a new version of the batch job gives otherwise."""

import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from compare import DIFFER


def written(folder, rows: list, predictions: list):
    """A run's output as the job publishes it, in two parts."""
    folder.mkdir()
    for number, part in enumerate((slice(0, 1), slice(1, None))):
        known = {"row": rows[part], "prediction": predictions[part]}
        known |= {"run_id": [folder.name] * len(rows[part])}
        pq.write_table(pa.table(known), folder / f"part-{number}.parquet")
    return folder


def differ(old, new, tolerance: float = 0.0, before: str = "") -> dict:
    command = [sys.executable, "-c", before + DIFFER, str(old), str(new), str(tolerance)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("predictions", [[0, 1, 2], [0.5, 1.5, 2.5], ["a", "b", "c"]])
def test_the_same_predictions_in_any_order_are_no_change(tmp_path, predictions):
    old = written(tmp_path / "old", [0, 1, 2], predictions)
    new = written(tmp_path / "new", [2, 1, 0], predictions[::-1])
    assert differ(old, new) == {"rows": 3, "changed": 0}


def test_other_predictions_are_counted(tmp_path):
    old = written(tmp_path / "old", [0, 1, 2], [0, 1, 2])
    assert differ(old, written(tmp_path / "new", [0, 1, 2], [0, 2, 1])) == {"rows": 3, "changed": 2}


def test_numbers_may_differ_by_the_tolerance(tmp_path):
    old = written(tmp_path / "old", [0, 1], [10.0, 20.0])
    new = written(tmp_path / "new", [0, 1], [10.5, 20.75])
    assert differ(old, new, 0.5) == {"rows": 2, "changed": 1}


def test_a_row_that_only_one_of_them_predicts_is_a_change(tmp_path):
    old = written(tmp_path / "old", [0, 1], [1, 1])
    assert differ(old, written(tmp_path / "new", [1, 2], [1, 1])) == {"rows": 3, "changed": 2}


@pytest.mark.slow
def test_memory_is_that_of_a_few_batches(tmp_path):
    keys = [f"{number:060}" for number in range(1_000_000)]
    old, new = (written(tmp_path / name, keys, [0] * len(keys)) for name in ("old", "new"))
    limit = "import resource; resource.setrlimit(resource.RLIMIT_DATA, (2**29, 2**29))"
    assert differ(old, new, before=limit) == {"rows": len(keys), "changed": 0}
