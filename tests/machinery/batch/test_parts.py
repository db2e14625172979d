"""Inputs in parts: every row exactly once, and the same parts at every call."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import numbered

from iris_flower_prediction import settings
from iris_flower_prediction.batch import parts
from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.errors import ProjectError
from iris_flower_prediction.tables import files, reader

COLUMNS = ["A", "B"]


def cut(uri, rows):
    """(source, start, rows as text) of every part."""
    found, names = [], []
    for part in parts.cut(uri, files.files(uri), COLUMNS, rows):
        batches = list(part.batches())
        assert all(batch.schema.names == COLUMNS for batch in batches)
        values = [tuple(map(str, row.values())) for batch in batches for row in batch.to_pylist()]
        found.append((part.source, part.start, values))
        names.append(part.name)
    assert names == sorted(set(names))
    return found


@pytest.mark.parametrize("rows", [1, 100, 333, 5000])
@pytest.mark.parametrize("name", ["parquet", "csv", "file", "folder", "table", "query"])
def test_parts_hold_every_row_once_and_are_the_same_at_every_call(sources, name, rows):
    found = cut(sources[name], rows)
    values = [row for _, _, each in found for row in each]
    assert values == [(str(n), f"row {n}") for n in range(1000)]
    position = {}
    for source, start, each in found:
        assert start == position.get(source, 0)
        position[source] = start + len(each)
    if rows == 100:
        assert len(found) > 5
        assert cut(sources[name], rows) == found


def test_a_window_holds_the_rows_after_one_value_up_to_another(sources):
    def count(after, until):
        window = parts.Window("A", after, until)
        found = parts.cut(sources["table"], [], COLUMNS, 100, window)
        return sum(batch.num_rows for part in found for batch in part.batches())

    assert count(None, 9) == 10
    assert count(9, 19) == 10
    assert count(19, 19) == 0
    assert parts.sql_maximum(sources["table"], "A") == 999


def test_a_row_group_is_not_held_as_a_whole(tmp_path):
    file = tmp_path / "x.parquet"
    group = np.random.default_rng(0).random(4_000_000)
    pq.write_table(pa.table({"A": group}), file, row_group_size=len(group), use_dictionary=False)
    [part] = parts.cut(str(file), [file], ["A"], len(group))
    before = pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() - before for _ in part.batches()]
    assert max(held) < group.nbytes / 4


def test_a_bad_csv_cell_stays_text(tmp_path):
    file = tmp_path / "x.csv"
    file.write_text('A,B\n1,"a\nb"\noops,\n', "utf-8")
    [(_, _, values)] = cut(str(file), 10)
    assert values == [("1", "a\nb"), ("oops", "None")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.csv", b""),
        ("ragged.csv", b"A,B\n1,2\n3\n"),
        ("latin.csv", b"A,B\n1,\xff\n"),
        ("not.parquet", b"PAR1 no PAR1"),
        ("zero.parquet", b""),
    ],
)
def test_an_unreadable_file_is_named_in_one_sentence(tmp_path, name, content):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(ProjectError, match=name) as caught:
        reader.column_names(str(file), [file])
        cut(str(file), 10)
    assert len(str(caught.value).splitlines()) == 1


def test_digest_depends_on_content_and_order_only(tmp_path):
    one, two, same = tmp_path / "1", tmp_path / "2", tmp_path / "3"
    one.write_text("a")
    two.write_text("b")
    same.write_text("a")
    assert parts.digest([one, two]) == parts.digest([same, two])
    assert parts.digest([one, two]) != parts.digest([two, one])


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_merge_makes_one_file_of_many(tmp_path, suffix):
    schema, paths = numbered(1).schema, []
    for first in (0, 10, 20):
        paths.append(tmp_path / f"{first}{suffix}")
        with parts.writer(paths[-1], schema) as out:
            out.write_table(numbered(10, first))
    target = tmp_path / f"merged{suffix}"
    parts.merge(paths, target, schema)
    assert reader.read(str(target), CONTRACT).to_pydict() == numbered(30).to_pydict()


def test_the_example_input_keeps_the_contract():
    uri = settings.load().batch.input
    names = reader.column_names(uri, files.files(uri))
    for where, found in names.items():
        CONTRACT.require(found, where)
    found = parts.cut(uri, files.files(uri), CONTRACT.needed, 1000)
    checked = [CONTRACT.check(batch) for part in found for batch in part.batches()]
    assert sum(len(each.valid) for each in checked) > 0
    assert [each.violations.to_pylist() for each in checked if not each.valid.all()] == []


def test_the_first_rows_of_a_csv_file_are_shown_as_they_stand_there(tmp_path):
    (tmp_path / "a.csv").write_text("ID,A\n007,1\n008,2\n", "utf-8")
    assert parts.head(tmp_path, 1) == [{"ID": "007", "A": "1"}]
