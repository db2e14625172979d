"""Whole tables by URI, whatever form they come in."""

import gzip
import sqlite3
import sys
import uuid
from datetime import date, datetime, timedelta, timezone

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import numbered

from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.errors import ProjectError
from iris_flower_prediction.schema import Column, Contract, arrow
from iris_flower_prediction.tables import databases, files, reader


@pytest.mark.parametrize("name", ["parquet", "csv", "file", "folder", "table", "query"])
def test_read_gives_the_whole_table(sources, name):
    table = reader.read(sources[name], CONTRACT).sort_by("A")
    assert table.select(["A", "B", "C"]).to_pydict() == numbered(1000).to_pydict()


def test_read_of_a_table_without_rows_has_its_columns(sources):
    none = sources["table"].replace("#numbers", "#SELECT * FROM numbers WHERE A < 0")
    empty = reader.read(none, CONTRACT)
    assert (empty.num_rows, empty.column_names) == (0, ["A", "B", "C"])


def test_read_of_a_table_whose_first_values_are_missing(tmp_path):
    count = reader.SQL_FETCH_ROWS + 1
    with sqlite3.connect(tmp_path / "one.db") as database:
        database.execute("CREATE TABLE late (A INTEGER, B REAL)")
        values = [(n, None if n < count - 1 else 0.5) for n in range(count)]
        database.executemany("INSERT INTO late VALUES (?, ?)", values)
    table = reader.read(f"sqlite:///{tmp_path / 'one.db'}#late", CONTRACT)
    assert table["A"].to_pylist() == list(range(count))
    assert table["B"].null_count == count - 1


def test_a_vanished_input_is_named_and_nothing_is_made_in_its_place(tmp_path):
    gone = tmp_path / "gone"
    with pytest.raises(ProjectError, match="gone does not exist"):
        files.files(str(gone))
    with pytest.raises(ProjectError, match="gone"):
        reader.sql_columns(f"sqlite:///{gone / 'x.db'}#numbers")
    assert not gone.exists()


def test_codes_of_a_csv_file_keep_their_zeros(tmp_path):
    columns = (Column("CODE", "category", allowed=("01", "02")), Column("A", "integer"))
    contract = Contract("1.0.0", columns, Column("Y", "float"), Column("ID", "text"))
    (tmp_path / "x.csv").write_text("ID,CODE,A,Y,MORE\n0017,01,5,1.5,7\n0018,02,,NaN,\n", "utf-8")
    found = reader.read(str(tmp_path / "x.csv"), contract).to_pylist()
    assert found[0] == {"ID": "0017", "CODE": "01", "A": 5, "Y": 1.5, "MORE": 7}
    assert found[1]["A"] is None


def test_a_folder_of_datasets_is_read_like_one_of_files(tmp_path):
    (tmp_path / "day.parquet").mkdir()
    pq.write_table(pa.table({"A": [1]}), tmp_path / "day.parquet" / "part-0.parquet")
    assert reader.read(str(tmp_path), CONTRACT).num_rows == 1


def test_a_date_of_a_csv_file_is_the_one_that_is_written(tmp_path):
    contract = Contract("1.0.0", (Column("DAY", "date"),), Column("Y", "float"))
    text = "2024-01-01T23:30:00-05:00"
    (tmp_path / "x.csv").write_text(f"DAY,Y\n{text},1\n", "utf-8")
    assert reader.read(str(tmp_path / "x.csv"), contract)["DAY"].to_pylist() == [text]


def test_a_folder_without_tables_is_named(tmp_path):
    with pytest.raises(ProjectError, match="holds no file"):
        files.files(str(tmp_path))


def test_the_end_of_a_name_may_be_in_capitals_and_csv_be_compressed(tmp_path):
    (tmp_path / "a.CSV").write_text("A\n1\n", "utf-8")
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"A\n2\n", mtime=0))
    pq.write_table(pa.table({"A": [3]}), tmp_path / "c.Parquet")
    assert sorted(reader.read(str(tmp_path), CONTRACT)["A"].to_pylist()) == [1, 2, 3]
    assert reader.read(str(tmp_path / "b.csv.gz"), CONTRACT)["A"].to_pylist() == [2]


@pytest.mark.parametrize("name", ["notes.txt", "b.xlsx", "c.csv.zip", "csv", "sub/d.json"])
def test_a_file_that_would_be_left_out_is_named(tmp_path, name):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.csv").write_text("A\n1\n", "utf-8")
    (tmp_path / name).write_text("?", "utf-8")
    with pytest.raises(ProjectError, match=f"{name} cannot be read: give a file that ends in"):
        files.files(str(tmp_path))
    with pytest.raises(ProjectError, match=f"{name} cannot be read"):
        files.files(str(tmp_path / name))
    (tmp_path / name).rename(tmp_path / "_left_out")
    assert files.files(str(tmp_path)) == [tmp_path / "a.csv"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_in_a_folder_are_followed_or_named(tmp_path):
    inbox, elsewhere = tmp_path / "inbox", tmp_path / "elsewhere"
    for folder, value in ((inbox, 1), (elsewhere, 2)):
        folder.mkdir()
        (folder / "a.csv").write_text(f"A\n{value}\n", "utf-8")
    (inbox / "more").symlink_to(elsewhere)
    assert reader.read(str(inbox), CONTRACT)["A"].to_pylist() == [1, 2]
    (inbox / "gone.csv").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ProjectError, match=r"gone\.csv cannot be read"):
        files.files(str(inbox))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.parquet", b"no parquet"),
        ("a.csv", b"A\n1,2\n"),
        ("a.csv.gz", gzip.compress(b"A", mtime=0)[:9]),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ProjectError, match=f"{name} cannot be read as"):
        reader.read(str(tmp_path), CONTRACT)


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("sqlite:///{folder}/one.db", "behind a #"),
        ("sqlite:///{folder}/one.db#nowhere", "no such table: nowhere"),
        ("sqlite:///{folder}/one.db#SELECT nowhere FROM numbers", "no such column: nowhere"),
        ("oracel://host/db#numbers", "oracel"),
        ("://#numbers", "SQLAlchemy URL"),
    ],
)
def test_a_bad_database_url_is_an_error_in_one_sentence(sources, tmp_path, uri, sentence):
    with pytest.raises(ProjectError, match=sentence) as caught:
        reader.sql_columns(uri.replace("{folder}", str(tmp_path)))
    assert len(str(caught.value).splitlines()) == 1


def test_passwords_are_never_shown():
    uri = "postgresql+psycopg://reader:se%23cret@localhost:1/db#numbers"
    assert "cret" not in databases.redacted(uri)
    with pytest.raises(ProjectError) as caught:
        reader.sql_columns(uri)
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql+pg8000://reader:pa@cret@localhost/db#numbers",
        "postgresql+pg8000://reader@localhost/db?password=cret#numbers",
        "mssql+pyodbc:///?odbc_connect=UID%3Dreader%3BPWD%3Dcret#numbers",
        "postgresql+pg8000://reader:pa#cret@localhost/db",
    ],
)
def test_no_way_to_give_a_password_shows_it(uri):
    for show in (databases.redacted, databases.identity):
        try:
            assert "cret" not in show(uri)
        except ProjectError as error:
            assert str(error) == "postgresql+pg8000://… is not a SQLAlchemy URL."
    assert databases.has_password(uri) or "pa#" in uri


@pytest.mark.parametrize(
    ("uri", "same"),
    [
        ("postgresql+pg8000://one:a@host:5432/shop#t", "postgresql://two@host:5432/shop#t"),
        ("postgresql://host/shop?user=one&password=a&x=1#t", "postgresql://host/shop?x=1#t"),
        (
            "mssql+pyodbc:///?odbc_connect=SERVER%3Dh%3BUID%3Done%3BPWD%3Da#t",
            "mssql+pyodbc:///?odbc_connect=SERVER%3Dh%3BUID%3Dtwo%3BPWD%3Db#t",
        ),
        ("sqlite:////data/shop.db#t", "sqlite:////data/shop.db#t"),
    ],
)
def test_a_database_is_the_same_whoever_asks_it(uri, same):
    assert databases.identity(uri) == databases.identity(same)


@pytest.mark.parametrize("other", ["//other/shop#t", "//host/shop#u", "//host/shop2#t"])
def test_another_table_is_another(other):
    known = databases.identity("postgresql://host/shop#t")
    assert databases.identity(f"postgresql:{other}") != known


CONTRACTED = Contract(
    "1.0.0",
    (
        Column("PLAN", "category", allowed=("basic", "family")),
        Column("SINCE", "date"),
        Column("AGE", "float", nullable=True),
        Column("LEVEL", "category", allowed=(0, 1, 2)),
    ),
    Column("CANCELLED", "boolean"),
    Column("ID", "text"),
)
ROW = {"ID": "01", "PLAN": "basic", "SINCE": "2024-01-31", "AGE": "1.5", "LEVEL": "1"}
ROW["CANCELLED"] = "True"


def write(file, *rows):
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    file.write_text("".join(f"{line}\n" for line in lines), "utf-8")


def test_columns_of_the_contract_have_its_types(tmp_path):
    write(tmp_path / "x.csv", ROW | {"MORE": "7"})
    (row,) = reader.read(str(tmp_path), CONTRACTED).to_pylist()
    typed = {"AGE": 1.5, "LEVEL": 1, "CANCELLED": True, "MORE": 7}
    assert row == ROW | typed


def test_one_value_that_cannot_be_read_is_kept_for_validation(tmp_path):
    write(tmp_path / "x.csv", ROW, ROW | {"AGE": "old", "LEVEL": "1.5"})
    table = reader.read(str(tmp_path), CONTRACTED)
    assert table["AGE"].to_pylist() == ["1.5", "old"]
    with pytest.raises(
        ProjectError, match=r"row 1, column AGE: old is not .*; row 1, column LEVEL: 1\.5"
    ):
        CONTRACTED.checked(table)


@pytest.mark.parametrize(
    ("column", "first", "second"),
    [
        ("MORE", "7", "seven"),
        ("SINCE", "2024-01-31", "2024-01-31 10:00:00"),
        ("CANCELLED", "True", "1"),
        ("AGE", "", "3"),
        ("LEVEL", "1", "2"),
    ],
)
def test_files_of_a_folder_need_not_agree_on_types(tmp_path, column, first, second):
    for name, value in (("a", first), ("b", second)):
        write(tmp_path / f"{name}.csv", ROW | {column: value})
    table = reader.read(str(tmp_path), CONTRACTED)
    assert table.num_rows == 2
    assert CONTRACTED.checked(table).valid.all()


def test_parquet_files_of_a_folder_need_not_agree_on_types(tmp_path):
    row = ROW | {"AGE": 1.5, "LEVEL": 1, "CANCELLED": True}
    texts = {"AGE": "2", "LEVEL": "2", "CANCELLED": "false"}
    for number, each in enumerate((row, row | texts, row | {"LEVEL": 2.0, "AGE": 3})):
        pq.write_table(pa.Table.from_pylist([each]), tmp_path / f"{number}.parquet")
    table = reader.read(str(tmp_path), CONTRACTED)
    assert CONTRACTED.checked(table).matrix[:, 2:].tolist() == [[1.5, 1], [2, 2], [3, 2]]


def test_columns_without_a_name_of_their_own_do_no_harm(tmp_path):
    header, line = ",".join(ROW), ",".join(ROW.values())
    (tmp_path / "x.csv").write_text(f"{header},,,NOTE,NOTE\n{line},,,a,b\n", "utf-8")
    assert reader.read(str(tmp_path), CONTRACTED).column_names == list(ROW)
    (tmp_path / "x.csv").write_text(f"{header},AGE\n{line},1\n", "utf-8")
    with pytest.raises(ProjectError, match=r"x\.csv: column AGE is there twice"):
        reader.read(str(tmp_path), CONTRACTED)


def test_a_file_that_lacks_a_column_of_another_is_named(tmp_path):
    write(tmp_path / "a.csv", ROW)
    write(tmp_path / "b.csv", {name: text for name, text in ROW.items() if name != "AGE"})
    with pytest.raises(ProjectError, match=r"b\.csv: column AGE is missing"):
        reader.read(str(tmp_path), CONTRACTED)


@pytest.mark.parametrize(
    ("cell", "read"), [("1.0", 1), ("+1", 1), ("01", 1), ("0x1", None), ("+-1", None), ("-0", 0)]
)
def test_whole_numbers_are_read_as_validation_reads_them(tmp_path, cell, read):
    write(tmp_path / "x.csv", ROW | {"LEVEL": cell})
    table = reader.read(str(tmp_path), CONTRACTED)
    assert table["LEVEL"].to_pylist() == [cell if read is None else read]
    assert CONTRACTED.check(arrow.as_batch(table)).valid.all() == (read is not None)
    [batch] = reader.csv_batches(tmp_path / "x.csv", CONTRACTED.needed)  # as it is scored
    assert CONTRACTED.check(batch).valid.all() == (read is not None)


def test_numbers_are_no_dates(tmp_path):
    row = ROW | {"SINCE": 45322.0, "AGE": 1.5, "LEVEL": 1, "CANCELLED": True}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "x.parquet")
    with pytest.raises(ProjectError, match="column SINCE: 45322"):
        CONTRACTED.checked(reader.read(str(tmp_path), CONTRACTED))


def test_nested_columns_that_differ_are_left_out(tmp_path):
    row = ROW | {"AGE": 1.5, "LEVEL": 1, "CANCELLED": True}
    for number, more in enumerate(([1], "text")):
        pq.write_table(pa.Table.from_pylist([row | {"MORE": more}]), tmp_path / f"{number}.parquet")
    assert reader.read(str(tmp_path), CONTRACTED).column_names == list(ROW)


def test_a_quoted_cell_may_hold_lines(tmp_path):
    file = tmp_path / "x.csv"
    write(file, ROW | {"ID": '"a,b,c,d,e\n""b"", c"'})
    assert reader.read(str(tmp_path), CONTRACTED)["ID"].to_pylist() == ['a,b,c,d,e\n"b", c']
    [batch] = reader.csv_batches(file, ["ID"])
    assert batch["ID"].to_pylist() == ['a,b,c,d,e\n"b", c']


@pytest.mark.parametrize(
    "content",
    [
        'ID,PLAN\n1,"x\n2,x\n3,"x\n4,x\n',
        'ID,PLAN\n1,"x\n2,x\n',
        'ID,NOTE,PLAN\n1,"5 inch,x\n2,y,x\n3,"3 inch,x\n4,y,x\n',
        'ID,PLAN,NOTE\n1,x,\n2,x,"ok\n' + "3,x,ok\n" * 10_000,
    ],
    ids=["twice", "once", "in a column of others", "to the end"],
)
def test_a_lone_quotation_mark_takes_no_rows_away(tmp_path, content):
    file = tmp_path / "x.csv"
    file.write_text(content, "utf-8")
    with pytest.raises(ProjectError, match=r"x\.csv cannot .* a quotation mark stands alone"):
        reader.read(str(file), CONTRACTED)
    with pytest.raises(ProjectError, match="stands alone"), files.readable(file):
        [*reader.csv_batches(file, ["ID", "PLAN"])]


def test_a_quotation_mark_within_a_cell_is_a_character(tmp_path):
    (tmp_path / "x.csv").write_text('ID,NOTE\n1,5"\n2,a 3" b\n', "utf-8")
    assert reader.read(str(tmp_path), CONTRACTED)["NOTE"].to_pylist() == ['5"', 'a 3" b']


def test_nan_is_no_text(tmp_path):
    for name, values in {"a": [1.0, float("nan")], "b": ["x", "y"]}.items():
        pq.write_table(pa.table({"ID": values, "MORE": values}), tmp_path / f"{name}.parquet")
    table = reader.read(str(tmp_path), CONTRACTED)
    assert table["ID"].to_pylist() == table["MORE"].to_pylist() == ["1", None, "x", "y"]


def test_a_column_whose_types_do_not_mix_is_named(tmp_path):
    for name, values in {"a": [1.0], "b": [{"x": 1}]}.items():
        pq.write_table(pa.table({"AGE": values}), tmp_path / f"{name}.parquet")
    with pytest.raises(ProjectError, match="column AGE is of types that do not mix"):
        reader.read(str(tmp_path), CONTRACTED)


def test_each_time_of_a_database_has_its_own_day():
    zones = [timezone(timedelta(hours=hours)) for hours in (1, 2, -8)]
    given = [None, *(datetime(1991, 7, 7, tzinfo=zone) for zone in zones)]
    days = arrow.array(given).cast(pa.date32()).to_pylist()
    assert days == [None, *[date(1991, 7, 7)] * 3]


def test_uuids_are_text():
    given = [uuid.UUID(int=1), None]
    assert arrow.array(given).to_pylist() == [str(given[0]), None]


def test_an_index_of_pandas_is_a_column_like_the_others(tmp_path):
    pd.DataFrame([ROW]).set_index("ID").to_parquet(tmp_path / "x.parquet")
    assert reader.read(str(tmp_path), CONTRACTED).to_pandas()["ID"].tolist() == ["01"]


def test_texts_as_polars_writes_them_are_texts(tmp_path):
    table = pa.Table.from_pylist([ROW])
    views = [(name, pa.string_view()) for name in table.column_names]
    pq.write_table(table.cast(pa.schema(views)), tmp_path / "x.parquet")
    table = reader.read(str(tmp_path), CONTRACTED)
    assert table["ID"].to_pylist() == ["01"]
    assert CONTRACTED.checked(table).valid.all()


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("ID,PLAN\n1,café\n".encode("latin-1"), "it is no UTF-8, perhaps Latin-1"),
        ("ID,PLAN\n1,x\n".encode("utf-16"), "it is UTF-16: save it as UTF-8"),
        ("ID,PLÁN\n1,x\n".encode("latin-1"), "it is no UTF-8"),
        (b"ID;AGE\n1;2,5\n", "separated by ';'"),
        (b"PK\x03\x04\x14", "it is a spreadsheet's or an archive"),
        (gzip.compress(b"ID,PLAN\n1,x\n", mtime=0), r"let its name end in \.csv\.gz"),
        (b"PAR1\x15\x04", "it is parquet"),
    ],
)
def test_what_a_csv_file_is_instead_is_named(tmp_path, content, cause):
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(ProjectError, match=cause):
        reader.read(str(tmp_path), CONTRACTED)


def test_another_separator_is_named():
    with pytest.raises(ProjectError, match="are its cells separated by ';'"):
        CONTRACTED.require([";".join(ROW)], "x.csv")
