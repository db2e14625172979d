"""A JSON file is the old one or the new one."""

import pytest

from iris_flower_prediction.tables import json_files


def test_json_is_written_whole_or_not_at_all(tmp_path):
    file = tmp_path / "x.json"
    json_files.write_json(file, {"a": 1})
    with pytest.raises(TypeError):
        json_files.write_json(file, {"a": object()})
    assert json_files.read_json(file) == {"a": 1}
    assert json_files.read_json(tmp_path / "none.json") is None
