"""The ledger: every item is claimed once, and a claim stays open until it is done."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from iris_flower_prediction.batch import ledger
from iris_flower_prediction.errors import ProjectError


@pytest.fixture
def book(tmp_path):
    return ledger.Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", "source")


def test_a_claim_is_open_until_it_is_done(book):
    assert book.unfinished() is None
    book.claim("run-1", ["a", "b"])
    assert book.unfinished() == ("run-1", ["a", "b"], None)
    book.done("run-1")
    assert book.unfinished() is None
    assert book.items() == {"a", "b"}


def test_an_item_is_claimed_once_and_a_refused_claim_leaves_nothing(book):
    book.claim("run-1", ["b"])
    with pytest.raises(ProjectError, match="another incremental run"):
        book.claim("run-2", ["a", "b", "c"])
    assert book.items() == {"b"}


def test_sources_do_not_mix(book, tmp_path):
    other = ledger.Ledger(book.uri, "other")
    book.claim("run-1", ["a"])
    other.claim("run-2", ["a"])
    book.done("run-1")
    assert other.unfinished() == ("run-2", ["a"], None)


@pytest.mark.parametrize(
    "values",
    [
        (1, 5, 12),
        (1.5, 2.25, 10.0),
        ("a", "b", "c"),
        (date(2020, 9, 1), date(2020, 10, 1), date(2021, 1, 1)),
        (datetime(2020, 9, 1, 1), datetime(2020, 10, 1), datetime(2021, 1, 1, tzinfo=None)),
        (datetime(2020, 9, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)),
        (Decimal("9.5"), Decimal("10.25")),
    ],
)
def test_the_watermark_is_the_end_of_the_last_window(book, values):
    after = None
    assert book.watermark() is None
    for number, value in enumerate(values):
        begin, end = ledger.text(after, "C"), ledger.text(value, "C")
        book.claim(f"run-{number}", [begin], end)
        assert book.watermark() == value
        window = ledger.window("C", begin, end)
        assert (window.column, window.after, window.until) == ("C", after, value)
        after = book.watermark()


def test_windows_of_another_column_are_refused(book):
    book.require("C")
    old = ["int", 5]  # as an earlier version of this code kept it
    book.claim("run-0", ['["NoneType", null]'], json.dumps(old))
    book.require("D")
    book.claim("run-1", [ledger.text(5, "C")], ledger.text(9, "C"))
    book.require("C")
    with pytest.raises(ProjectError, match="was scored by the watermark C so far"):
        book.require("D")
