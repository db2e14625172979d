"""``contract draft``: what a table suggests, what it is unsure of, and what it refuses."""

import csv
import re
import sqlite3
import subprocess
import sys
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from conftest import PACKAGE, QUICK, one_sentence

from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.errors import ProjectError
from iris_flower_prediction.schema import Column
from iris_flower_prediction.tables import reader
from iris_flower_prediction.training import draft

ROWS = 400


def passengers() -> pd.DataFrame:
    """Invented, and as untidy as such tables are."""
    random = np.random.default_rng(0)
    some, numbers = random.random(ROWS), np.arange(ROWS)
    return pd.DataFrame(
        {
            "ID": [f"{number:04d}" for number in numbers],
            "SURVIVED": np.where(some < 0.6, 0, 1),
            "PCLASS": random.integers(1, 4, ROWS),
            "NAME": [f'Braund, "Mr." No. {number}' for number in numbers],
            "SEX": np.where(random.random(ROWS) < 0.5, "male", " female"),
            "AGE": [None if some[n] < 0.2 else round(0.42 + 0.19 * n, 2) for n in numbers],
            "CABINS": [None if some[n] < 0.2 else float(n % 30) for n in numbers],
            "FARE": random.integers(7, 512, ROWS) + 0.25,
            "EMBARKED": [None if n == 5 else "SCQ"[n % 3] for n in numbers],
            "BOARDED": [date(2021, 1, 31) + timedelta(int(n % 300)) for n in numbers],
            "BOOKED": [f"{1 + n % 12:02d}/{1 + n % 11:02d}/2020" for n in numbers],
            "ADULT": np.where(random.random(ROWS) < 0.5, "True", "false"),
            "WEIGHT": [f"{50 + n / 10:.1f} kg" for n in numbers],
            "ZIP": [f"{n % 90:05d}" for n in numbers],
            "NUMBER": numbers + 7,
            "CURRENCY": "EUR",
            "EMPTY": None,
        }
    )


@pytest.fixture
def messy(tmp_path) -> str:
    passengers().to_csv(tmp_path / "messy.csv", index=False)
    return str(tmp_path / "messy.csv")


def of_cells(folder, *cells: str) -> Column | None:
    """The column that is drafted for these cells of a csv file."""
    with (folder / "cells.csv").open("w", encoding="utf-8", newline="") as file:
        lines = [(cell, f"{row}.5", 1 + row % 9) for row, cell in enumerate(cells)]
        csv.writer(file).writerows([("X", "Y", "Z"), *lines])
    contract, *_ = draft.draft(str(folder / "cells.csv"), "Y", None)
    return next((column for column in contract.columns if column.name == "X"), None)


def test_an_untidy_table_becomes_the_columns_that_training_reads(messy):
    contract, unsure, left_out = draft.draft(messy, "SURVIVED", "ID")
    assert contract.key == Column("ID", "text")
    assert contract.target == Column("SURVIVED", "boolean")
    days = passengers()["BOARDED"]
    assert [*contract.columns] == [
        Column("PCLASS", "integer", minimum=1, maximum=3),
        Column("SEX", "category", allowed=("female", "male")),
        Column("AGE", "float", minimum=0.42, maximum=77, nullable=True),
        Column("CABINS", "integer", minimum=0, maximum=29, nullable=True),
        Column("FARE", "float", minimum=7.2, maximum=520),
        Column("EMBARKED", "category", allowed=("C", "Q", "S"), nullable=True),
        Column("BOARDED", "date", minimum=days.min()),
        Column("ADULT", "boolean"),
        Column("NUMBER", "integer", minimum=7, maximum=410),
        Column("CURRENCY", "category", allowed=("EUR",)),
    ]
    contract.checked(reader.read(messy, contract))
    assert left_out.keys() == {"NAME", "BOOKED", "WEIGHT", "ZIP", "EMPTY"}
    assert "for you to say which is the day" in left_out["BOOKED"]
    assert "texts such as '50.0 kg', " in left_out["WEIGHT"]
    told = {name: notes[0] for name, notes in unsure.items() if notes}
    assert told.pop("SURVIVED").startswith("0 and 1 are taken for")
    assert told == {
        "PCLASS": "few values: a category? Then allowed=(1, 2, 3)",
        "NUMBER": "all values differ: does it identify a row? Then --key NUMBER",
        "BOARDED": 'does it say when a row came up? Then time="BOARDED" holds out the newest rows',
        "CURRENCY": "one value only",
    }


@pytest.mark.parametrize(
    ("cells", "column"),
    [
        ("0 1 0 1 1", Column("X", "boolean")),
        ("0.0 1.0 1.0 0.0 ~", Column("X", "boolean", nullable=True)),
        ("3 4 +5 6 7", Column("X", "integer", minimum=3, maximum=7)),
        ("3.0 4.0 5.0 ~", Column("X", "integer", minimum=3, maximum=5, nullable=True)),
        ("3.0 4.0 5.0", Column("X", "float", minimum=3, maximum=5)),
        ("-1.234 5 6 7 0", Column("X", "float", minimum=-1.3, maximum=7)),
        ("1e3 1.5e300 2 3 4", None),
        ("16777217 1 2 3 4", Column("X", "float", minimum=1, maximum=17_000_000)),
        ("inf 1 2 3 4", None),
        ("01 02 01 02", Column("X", "category", allowed=("01", "02"))),
        ("20:15 08:15 09:30", None),
    ],
)
def test_a_column_is_what_the_contract_reads(tmp_path, cells, column):
    assert of_cells(tmp_path, *cells.replace("~", " ").split(" ")) == column


@pytest.mark.parametrize(
    ("keys", "kind"), [("7 8 -9", "integer"), ("007 008", "text"), ("1.0 2.0", "text")]
)
def test_a_key_is_an_integer_only_if_that_loses_nothing(tmp_path, keys, kind):
    rows = [f"{key},{n},{n}.5\n" for n, key in enumerate([*keys.split(), keys.split()[0]])]
    (tmp_path / "k.csv").write_text("K,X,Y\n" + "".join(rows), "utf-8")
    contract, unsure, _ = draft.draft(str(tmp_path / "k.csv"), "Y", "K")
    assert contract.key == Column("K", kind)
    assert unsure["K"] == ["1 rows repeat a value: does it identify a row?"]


@pytest.mark.parametrize(
    ("values", "column"),
    [
        ("1 2 3", Column("Y", "category", allowed=(1, 2, 3))),
        ("0 1", Column("Y", "boolean")),
        ("b a", Column("Y", "category", allowed=("a", "b"))),
        ("1.5 2.5", Column("Y", "float", example=2.5)),
        ("1.5 2.5 ~", Column("Y", "float", example=2.5)),
    ],
)
def test_a_target_has_no_limits_and_is_classes_where_it_has_few_values(tmp_path, values, column):
    answers = (values.replace("~", "").split(" ") * 30)[:60]
    pd.DataFrame({"X": np.arange(60) / 7, "Y": answers}).to_csv(tmp_path / "t.csv", index=False)
    contract, unsure, _ = draft.draft(str(tmp_path / "t.csv"), "Y", None)
    assert contract.target == column
    told = " ".join(unsure["Y"])
    assert ("some rows have none" in told) == ("~" in values)
    assert ("model.py predicts" in told) == (bool(column.classes) != bool(CONTRACT.target.classes))


def test_a_table_is_drafted_alike_in_every_form(tmp_path):
    table = passengers()[["ID", "SURVIVED", "AGE", "FARE", "EMBARKED", "BOARDED"]]
    table.to_parquet(tmp_path / "one.parquet")
    (tmp_path / "many").mkdir()
    table[:150].to_csv(tmp_path / "many" / "a.csv", index=False)
    table[150:].to_parquet(tmp_path / "many" / "b.parquet")
    with sqlite3.connect(tmp_path / "one.db") as database:
        table.astype({"BOARDED": str}).to_sql("trips", database, index=False)
    uris = [tmp_path / "one.parquet", tmp_path / "many", f"sqlite:///{tmp_path}/one.db#trips"]
    found = [draft.draft(str(uri), "SURVIVED", "ID")[0] for uri in uris]
    assert found[0] == found[1] == found[2]
    assert found[0].names == ["AGE", "FARE", "EMBARKED", "BOARDED"]


def test_a_large_table_is_sampled_evenly_and_within_bounds(tmp_path, monkeypatch):
    numbers = np.arange(200_000)
    pd.DataFrame({"X": numbers, "Y": 0.5}).to_csv(tmp_path / "x.csv", index=False)
    monkeypatch.setattr(draft, "MOST_ROWS", 1_000)
    found = draft.sample(str(tmp_path / "x.csv"), "x.csv")["X"].cast("int64").to_numpy()
    assert 500 <= len(found) <= 1_000
    assert found[0] < 1_000 and found[-1] > 199_000 and np.diff(found).max() < 2_000
    monkeypatch.setattr(draft, "MOST_READ", 1)
    assert len(draft.sample(str(tmp_path / "x.csv"), "x.csv")["X"]) <= 1_000


def test_large_codes_are_told_to_the_last_digit():
    column, codes = Column("X", "integer"), np.array([2024001.0, 2024002.0] * 2)
    (told,) = draft.doubts(column, codes, codes)
    assert told.endswith("allowed=(2024001, 2024002)")


def test_many_small_files_end(tmp_path, monkeypatch):
    for number in range(40):
        (tmp_path / f"{number}.csv").write_text(f"X,Y\n{number},1\n", "utf-8")
    monkeypatch.setattr(draft, "MOST_ROWS", 10)
    assert len(draft.sample(str(tmp_path), "here")["X"]) == 10


def test_what_pandas_writes_is_drafted_and_what_nothing_can_be_made_of_is_left_out(tmp_path):
    table = pd.DataFrame(
        {
            "COLOUR": pd.Categorical(["u", "v"] * 20),
            "LARGE": [16_500_000 + number for number in range(40)],
            "LIST": [[1]] * 40,
            "Y": np.arange(40) / 7,
        }
    )
    table.to_parquet(tmp_path / "p.parquet")
    contract, _, left_out = draft.draft(str(tmp_path / "p.parquet"), "Y", None)
    assert contract.columns[0] == Column("COLOUR", "category", allowed=("u", "v"))
    assert contract.columns[1].maximum == 2**24
    assert left_out.keys() == {"LIST"}
    with pytest.raises(ProjectError, match="LIST cannot be used: its list"):
        draft.draft(str(tmp_path / "p.parquet"), "Y", "LIST")


def test_a_column_that_a_file_lacks_is_named(tmp_path):
    (tmp_path / "a.csv").write_text("X,Y,Z\n1,1.5,2\n", "utf-8")
    (tmp_path / "b.csv").write_text("X,Y\n1,1.5\n", "utf-8")
    with pytest.raises(ProjectError, match="column Z is not in every file"):
        draft.draft(str(tmp_path), "Y", None)


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        (lambda n: "n/a" if n % 9 == 0 else n % 30, r"numbers, but for 'n/a': make these missing"),
        (lambda n: "n/a" if n % 9 == 0 else n / 7, r"numbers, but for 'n/a': make these missing"),
        (lambda n: f"{n % 5},5", r"^$"),
        (lambda n: f"{n},5", r"texts such as '0,5', .* have no numeric form"),
        (lambda n: f"no. {n}", r"if they identify a row: --key A\)"),
        (lambda n: date(2024, 1, 1) + timedelta(n), r'Then time="A" holds out the newest rows'),
    ],
)
def test_what_a_column_may_mean_is_told(tmp_path, cell, told):
    table = pd.DataFrame({"A": map(cell, range(90)), "X": np.arange(90) / 7, "Y": [1.5, 2] * 45})
    table.to_csv(tmp_path / "t.csv", index=False)
    _, unsure, left_out = draft.draft(str(tmp_path / "t.csv"), "Y", None)
    assert re.search(told, " ".join([*unsure.get("A", []), left_out.get("A", "")]))


REFUSED = {
    "no rows": ("A,Y\n", [], "no rows"),
    "no such target": ("A,Target\n1,2\n", ["--target", "tarket"], "there is Target"),
    "no such key": ("A,Y,Kunde\n1,2,3\n", ["--key", "kunde"], "there is Kunde"),
    "an empty target": ("A,Y\n1,\n2,\n", [], "column Y cannot be used: it holds no value"),
    "a target in words": ("A,Y\n1,many words\n2,some\n", [], "Y cannot be used: 2 texts"),
    "a key with gaps": ("A,K,Y\n1,a,1\n2,,2\n", ["--key", "K"], "K cannot be used: it is missing"),
    "an empty key": ("A,K,Y\n1,,1\n2,,2\n", ["--key", "K"], "K cannot be used: it is missing in 2"),
    "a reserved key": ("A,row,Y\n1,2,3\n", ["--key", "row"], "row: predictions have a column"),
    "a name twice": ("A,A,Y\n1,2,3\n", [], "column A is there twice"),
    "only the target": ("Y,\n1,2\n", [], "no column to predict from"),
    "no column left": ("N,Y\na b,2\nc d,3\n", [], "no column to predict from; N: 2 texts"),
    "semicolons": ("A;Y\n1;2\n", [], "separated by ';'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_drafted_is_one_sentence_and_changes_nothing(call, project, case):
    text, words, sentence = REFUSED[case]
    (project.folder / "x.csv").write_text(text, "utf-8")
    folder = project.folder / "src" / PACKAGE
    before = {path.name: path.read_bytes() for path in folder.glob("*contract.py*")}
    done = call("contract", "draft", "x.csv", "--target", "Y", *words)
    assert sentence in one_sentence(done)
    assert {path.name: path.read_bytes() for path in folder.glob("*contract.py*")} == before


def test_what_was_drafted_is_formatted_keeps_the_one_before_and_trains(project):
    table = passengers().assign(
        PLACE=[f"an answer that is long, number {n % 12}" for n in range(ROWS)],
        AMOUNT=np.random.default_rng(1).normal(50, 9, ROWS).round(2),
    )
    target = "SURVIVED" if CONTRACT.target.classes else "AMOUNT"
    complete = table.drop(columns="CURRENCY").dropna(axis="columns", how="any")
    complete.to_csv(project.folder / "data/raw/mine.csv", index=False)
    file = project.folder / "src" / PACKAGE / "contract.py"
    before = file.read_text("utf-8")
    done = project.run("contract", "draft", "data/raw/mine.csv", "--target", target, "--key", "ID")
    assert done.returncode == 0, done.stderr
    assert "Left out: NAME: 400 texts such as" in done.stdout
    assert file.with_name("contract.py.bak").read_text("utf-8") == before
    assert re.search(r"# Unsure: (few values|0 and 1)", file.read_text("utf-8"))
    ruff = [sys.executable, "-m", "ruff"]
    for words in (["format", "--diff"], ["check"]):
        checked = subprocess.run(
            [*ruff, *words, "--line-length", "100", str(file)], capture_output=True, text=True
        )
        assert checked.returncode == 0, checked.stdout
    quick = QUICK | {"APP__TRAINING__TABLE": "data/raw/mine.csv"}
    trained = project.run("train", **quick)
    assert "Version 1" in trained.stdout, trained.stderr
