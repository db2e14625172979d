"""Inputs as users have them: what ``score`` reads, keeps, and refuses with a sentence."""

import csv
import gzip
import sqlite3

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import one_sentence
from mirror_project import ZERO, mirror_in, write_csv

HEADER = ["ID", *ZERO]


def line(key: str, **cells: str) -> list[str]:
    return [key, *(ZERO | cells).values()]


def text(*lines: list[str]) -> bytes:
    """A csv file; no cell in it needs quotes."""
    return "".join(",".join(each) + "\n" for each in (HEADER, *lines)).encode()


def test_every_file_of_a_folder_is_read_or_named(mirror):
    folder = mirror.folder / "folder"
    (folder / "deep.parquet").mkdir(parents=True)
    (folder / "a.csv").write_bytes(text(line("a", PRICE="1")))
    (folder / "B.CSV").write_bytes(text(line("b", PRICE="2")))
    (folder / "c.csv.gz").write_bytes(gzip.compress(text(line("c", PRICE="3"))))
    values = {name: [each] for name, each in zip(HEADER, line("d", PRICE="4"), strict=True)}
    pq.write_table(pa.table(values), folder / "deep.parquet" / "D.Parquet")
    (folder / "_notes.txt").write_text("not data")
    (folder / "notes.txt").write_text("not data")
    assert "notes.txt cannot be read" in one_sentence(mirror.run_score(folder))
    (folder / "notes.txt").unlink()
    found = mirror.score(folder).predictions
    assert found == pytest.approx({"a": 1, "b": 2, "c": 3, "d": 4}, rel=1e-5)
    assert mirror.score(folder / "B.CSV").predictions.keys() == {"b"}


REFUSED = {
    "gone.csv": (None, "gone.csv does not exist"),
    "empty.csv": (b"", "empty.csv cannot be read as csv"),
    "text.parquet": (b"no parquet", "text.parquet cannot be read as parquet"),
    "cut.csv.gz": (gzip.compress(text())[:20], "cut.csv.gz cannot be read as csv"),
    "ragged.csv": (text(line("a"), ["b", "1"]), "ragged.csv cannot be read as csv"),
    "lacking.csv": (b"ID,PRICE\na,1\n", "lacking.csv: column AMOUNT, AGE"),
    "misspelt.csv": (
        text().replace(b"PRICE", b"Prcie"),
        "column PRICE is missing (there is Prcie)",
    ),
    "twice.csv": (text().replace(b"\n", b",PRICE\n"), "column PRICE is there twice"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_input_that_cannot_be_scored_is_one_sentence(mirror, name):
    content, sentence = REFUSED[name]
    if content is not None:
        (mirror.folder / name).write_bytes(content)
    output = mirror.folder / "refused.csv"
    assert sentence in one_sentence(mirror.run_score(name, "--output", output))
    assert not output.exists()


def test_a_file_of_a_spreadsheet_is_read(mirror):
    """With a byte order mark, Windows line ends, quoted cells, and empty columns at the end."""
    content = text(
        line("007"), line("ação 1"), line('"a ""b"",\r\nc"'), line("007", PRICE="1"), line("")
    )
    content = content.replace(b",1970-01-01\n", b",1970-01-01,,\r\n").replace(b"UNTIL", b"UNTIL,,")
    (mirror.folder / "sheet.csv").write_bytes(b"\xef\xbb\xbf" + content)
    found = mirror.score("sheet.csv")
    # Keys are kept as they are, also one that is there twice.
    keys = [row["ID"] for row in found.rows]
    assert [key.replace("\r\n", "\n") for key in keys] == ["007", "ação 1", 'a "b",\nc', "007"]
    assert [float(row["prediction"]) for row in found.rows] == pytest.approx([0, 0, 0, 1], abs=1e-5)
    ((refused,),) = found.refused.values()
    assert (refused["row"], refused["column"]) == ("4", "ID")


def test_every_violation_of_a_row_is_named(mirror):
    lines = [line("good"), line("bad", PRICE="x", AGE="300"), line("worse", SINCE="soon")]
    found = mirror.score(write_csv(mirror.folder / "bad.csv", HEADER, lines))
    assert found.predictions.keys() == {"good"}
    shown = {
        key: [(row["row"], row["column"], row["value"]) for row in rows]
        for key, rows in found.refused.items()
    }
    assert shown == {
        "bad": [("1", "AGE", "300"), ("1", "PRICE", "x")],
        "worse": [("2", "SINCE", "soon")],
    }
    assert found.refused["bad"][0]["reason"] == "is above the maximum 120"
    assert all(row["source"].endswith("bad.csv") for rows in found.refused.values() for row in rows)


def test_a_table_without_rows_gives_predictions_without_rows(mirror):
    (mirror.folder / "none.csv").write_bytes(text())
    found = mirror.score("none.csv")
    assert "0 rows read" in found.done.stdout
    assert found.rows == []


def test_a_table_of_a_database_means_the_same_as_a_file(mirror):
    path = mirror.folder / "shop.db"
    rows = [
        ("1", 1, 0, 0, 0, 0, 0, "Malmö", 20, "1970-01-01", "1970-01-01"),
        ("2", 0, None, 0, None, 1, None, "01", None, "1970-01-03", None),
        ("3", "x", 0, 0.5, 0, 2, 0, "Malmö", 20, "1970-01-01 00:00:00", "1970-01-01"),
    ]
    columns, marks = ", ".join(HEADER), ", ".join("?" * len(HEADER))
    with sqlite3.connect(path) as database:
        database.execute(f"CREATE TABLE orders ({columns})")
        database.executemany(f"INSERT INTO orders VALUES ({marks})", rows)
    url = f"sqlite:///{path}"
    done = mirror.run_score(f"{url}#orders", "--output", f"{url}#predictions", "--run-id", "db")
    assert done.returncode == 0, done.stderr
    with sqlite3.connect(path) as database:
        found = dict(database.execute("SELECT ID, prediction FROM predictions").fetchall())
    missing = -7 * (2 + 4 + 6 + 8 + 10)
    assert found == pytest.approx({"1": 1, "2": missing + 5 + 7 * 2 + 9 * 2}, rel=1e-5)
    with mirror.rejected("db").open(encoding="utf-8") as file:
        refused = [(row["ID"], row["column"]) for row in csv.DictReader(file)]
    assert refused == [("3", "AGE"), ("3", "MEMBER"), ("3", "PRICE")]


@pytest.fixture
def renamed(tmp_path):
    """renamed(key): an untrained mirror with this Column(…) as its key."""
    project = mirror_in(tmp_path / "project")
    contract = next(project.folder.glob("src/*/contract.py"))
    before = contract.read_text("utf-8")

    def rename(key: str):
        contract.write_text(before.replace('Column("ID", "text")', key), "utf-8")
        return project

    yield rename
    project.stop()


def test_an_integer_key_is_kept_to_the_last_digit(mirror, renamed):
    project = renamed('Column("ID", "integer")')
    folder = project.folder / "in"
    folder.mkdir()
    keys = ["9007199254740993", "9223372036854775807", "-1", "007", "1.5", "x", ""]
    write_csv(folder / "a.csv", HEADER, [line(key) for key in keys])
    values = {name: [each] * 2 for name, each in ZERO.items()}
    table = pa.table({"ID": pa.array([2**53 + 1, None])} | values)
    pq.write_table(table, folder / "b.parquet")
    words = ["score", "--model", mirror.model, "--input", folder, "--run-id", "one"]
    done = project.run(*words, "--output", "out.parquet", APP__BATCH__MAX_REJECTED_SHARE=1)
    assert done.returncode == 0, done.stderr
    found = pq.read_table(project.folder / "out.parquet")
    assert found["ID"].to_pylist() == [2**53 + 1, 2**63 - 1, -1, 7, 2**53 + 1]
    [rejected] = (project.folder / "data/rejected").glob("one_*.csv")
    with rejected.open(encoding="utf-8") as file:
        refused = [(row["ID"], row["column"]) for row in csv.DictReader(file)]
    assert refused == [("1.5", "ID"), ("x", "ID"), ("", "ID"), ("", "ID")]


def test_a_key_that_would_replace_a_column_of_the_output_is_refused(renamed):
    for name in ("prediction", "Run_ID", "value"):
        said = one_sentence(renamed(f'Column("{name}", "text")').run("contract"))
        assert f"{name}: predictions have a column of this name" in said
