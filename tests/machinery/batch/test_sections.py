"""Inputs in sections: every row exactly once, and the same sections at every call."""

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from conftest import numbered

from iris_flower_prediction import settings
from iris_flower_prediction.batch import formats, sections
from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.errors import ProjectError
from iris_flower_prediction.tables import files, reader
from iris_flower_prediction.tables.storage import LocalFolder

COLUMNS = ["A", "B"]


def cut(uri, rows, most=1000):
    """(source, start, rows as text) of every section."""
    found, names = [], []
    for section in sections.sections(uri, files.files(uri), rows):
        batches = list(section.batches(COLUMNS, most))
        assert all(batch.schema.names == COLUMNS for batch in batches)
        assert all(0 < batch.num_rows <= most for batch in batches)
        values = texts(batches)
        assert section.rows in (None, len(values))
        found.append((section.source, section.start, values))
        names.append(section.name)
    assert names == sorted(set(names))
    return found


def texts(batches):
    return [tuple(map(str, row.values())) for batch in batches for row in batch.to_pylist()]


@pytest.mark.parametrize("rows", [1, 100, 333, 5000])
@pytest.mark.parametrize("name", ["parquet", "csv", "file", "folder", "table", "query"])
def test_sections_hold_every_row_once_and_are_the_same_at_every_call(sources, name, rows):
    found = cut(sources[name], rows, 90)
    values = [row for _, _, each in found for row in each]
    assert values == [(str(n), f"row {n}") for n in range(1000)]
    position = {}
    for source, start, each in found:
        assert start == position.get(source, 0)
        position[source] = start + len(each)
    assert cut(sources[name], rows, 90) == found


def test_parquet_is_cut_by_row_groups_and_a_csv_file_is_whole(sources):
    assert len(cut(sources["parquet"], 100)) == 11
    assert len(cut(sources["csv"], 100)) == 1
    assert len(cut(sources["folder"], 300)) == 3


@pytest.mark.parametrize("sizes", [[0], [1], [100], [100, 100, 50]])
def test_a_query_is_kept_in_sections_that_hold_the_same(tmp_path, monkeypatch, sources, sizes):
    monkeypatch.setattr(sections, "STORED_ROWS", 100)
    uri = f"{sources['table'].partition('#')[0]}#SELECT * FROM numbers WHERE A < {sum(sizes)}"
    [whole] = sections.sections(uri, [], 1000)
    stored = list(sections.store(whole, COLUMNS, LocalFolder(tmp_path / "kept")))
    assert [each.rows for each in stored] == sizes
    kept = [row for each in stored for row in texts(each.batches(COLUMNS, 30))]
    assert kept == texts(whole.batches(COLUMNS, 1000))
    assert [each.name for each in stored] == sorted({each.name for each in stored})


def test_a_window_holds_the_rows_after_one_value_up_to_another(sources):
    def count(after, until):
        window = sections.Window("A", after, until)
        [found] = sections.sections(sources["table"], [], 100, window)
        return sum(batch.num_rows for batch in found.batches(COLUMNS, 100))

    assert count(None, 9) == 10
    assert count(9, 19) == 10
    assert count(19, 19) == 0
    assert sections.sql_maximum(sources["table"], "A") == 999


def test_a_row_group_is_not_held_as_a_whole(tmp_path):
    file = tmp_path / "x.parquet"
    group = np.random.default_rng(0).random(4_000_000)
    pq.write_table(pa.table({"A": group}), file, row_group_size=len(group), use_dictionary=False)
    [section] = sections.sections(str(file), [file], len(group))
    before = pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() - before for _ in section.batches(["A"], 65_536)]
    assert max(held) < group.nbytes / 4


def test_a_csv_file_is_not_held_as_a_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "BLOCKS", pyarrow.csv.ReadOptions(block_size=1 << 18))
    file = tmp_path / "x.csv"
    table = pa.table({"A": np.random.default_rng(0).random(2_000_000)})
    pyarrow.csv.write_csv(table, file)
    [section] = sections.sections(str(file), [file], 1000)
    before = pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() - before for _ in section.batches(["A"], 65_536)]
    assert max(held) < file.stat().st_size / 2


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
    assert sections.digest([one, two]) == sections.digest([same, two])
    assert sections.digest([one, two]) != sections.digest([two, one])


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_merge_makes_one_file_of_many(tmp_path, suffix):
    schema, paths = numbered(1).schema, []
    for first in (0, 10, 20):
        paths.append(tmp_path / f"{first}{suffix}")
        with formats.writer(paths[-1], schema) as out:
            out.write_table(numbered(10, first))
    target = tmp_path / f"merged{suffix}"
    if suffix == ".csv":
        formats.merge_csv((path.open("rb") for path in paths), target)
    else:
        formats.merge_parquet(paths, target, schema)
    assert reader.read(str(target), CONTRACT).to_pydict() == numbered(30).to_pydict()


def test_the_example_input_keeps_the_contract():
    uri = settings.load().batch.input
    names = reader.column_names(uri, files.files(uri))
    for where, found in names.items():
        CONTRACT.require(found, where)
    found = sections.sections(uri, files.files(uri), 1000)
    batches = [batch for each in found for batch in each.batches(CONTRACT.needed, 1000)]
    checked = [CONTRACT.check(batch) for batch in batches]
    assert sum(len(each.valid) for each in checked) > 0
    assert [each.violations.to_pylist() for each in checked if not each.valid.all()] == []


def test_the_first_rows_of_a_csv_file_are_shown_as_they_stand_there(tmp_path):
    (tmp_path / "a.csv").write_text("ID,A\n007,1\n008,2\n", "utf-8")
    assert formats.head(tmp_path / "a.csv", 1) == [{"ID": "007", "A": "1"}]
