"""The page of `monitor`: what it says, in which order, and that it is safe, small and complete."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.models.reference import Bins, Reference
from iris_flower_prediction.monitoring import monitor, records
from iris_flower_prediction.monitoring.drift import Drift
from iris_flower_prediction.monitoring.look import Looked, OfVersion
from iris_flower_prediction.monitoring.records import Metric, Period, Verdict
from iris_flower_prediction.monitoring.report import charts
from iris_flower_prediction.monitoring.report import page as report
from iris_flower_prediction.schema import Column
from iris_flower_prediction.tables.monitored import open_alerts

END = datetime(2026, 11, 30, 6, tzinfo=UTC)
WEEK = timedelta(days=7)
NAME = CONTRACT.names[0]


class Page(HTMLParser):
    """The text of a page, its tags, and the addresses that it would load or link to."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.markup, self.tags, self.addresses, self.texts = markup, [], [], []
        self.feed(markup)
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]

    def handle_data(self, text):
        if self.tags[-1:] != ["style"]:
            self.texts.append(text)


def counted(*metrics: Metric, rows=1000, source="batch", end=END, versions=None, **of) -> Looked:
    """A window of one version, or of the given ones."""
    version = OfVersion("1", rows, [*metrics], **of)
    volume = Metric("quality", "predictions", "", rows, rows)
    return Looked(source, Period(end - WEEK, end), versions or [version], [volume])


def nothing(source="batch", end=END) -> Looked:
    empty = Metric("quality", "predictions", "", 0, 0)
    return Looked(source, Period(end - WEEK, end), [], [empty])


def f1(value: float, half=0.02, rows=500) -> Metric:
    return Metric("performance", "f1_macro", "", value, rows, value - half, value + half)


def drifting(psi: float, subject=NAME, p=0.0) -> list[Metric]:
    return [
        Metric("drift", "psi", subject, psi, 1000),
        Metric("drift", "p_value", subject, p, 1000),
    ]


def share(name: str, value: float, subject="") -> Metric:
    return Metric("quality", name, subject, value, 1000)


def with_drift(column: Column, bins: Bins, counts: list[int], psi=0.5) -> dict:
    """What a version has about the drift of a column and of the predictions."""
    predictions = Bins(edges=None, counts=[5] * CONTRACT.target.classes + [0])
    return {
        "reference": Reference(columns={column.name: bins}, prediction=predictions),
        "counts": {"columns": {column.name: counts}, "prediction": predictions.counts},
        "drifts": [Drift(column.name, psi, 0.0, 1000), Drift("prediction", 0.01, 0.9, 1000)],
    }


@pytest.fixture
def render(config):
    def run(*looked: Looked, alerts=()) -> Page:
        for each in looked:
            monitor.judge(each, config)
        return Page(
            Path(report.write([*looked], [*alerts], config.monitoring.report, config)).read_text(
                "utf-8"
            )
        )

    return run


@pytest.fixture
def save(config):
    """Save the metrics of a window, as `monitor` does."""

    def run(looked: Looked) -> None:
        newest = looked.versions[-1] if looked.versions else OfVersion("", 0)
        found = [(newest.version, each) for each in newest.metrics]
        found += [("", each) for each in looked.metrics]
        with records.database(config.database) as connection:
            records.save_metrics(connection, looked.source, looked.period, found)

    return run


@pytest.fixture
def alerted(config):
    """alerted(verdicts): the open alerts of the batch job, as `monitor` reads them."""

    def run(*verdicts: Verdict, source="batch") -> list:
        with records.database(config.database) as connection:
            records.save_alerts(connection, source, {"1": [*verdicts]}, ())
            return open_alerts(connection)

    return run


def test_nothing_is_wrong(render):
    column = CONTRACT.columns[0]
    drift = with_drift(column, Bins(edges=[5.1, 5.8], counts=[50, 50, 50, 0]), [5, 5, 5, 0], 0.01)
    page = render(counted(f1(0.95), **drift))
    assert "Nothing is wrong." in page.text
    assert "Batch job 1,000 predictions of version 1 2026-11-23 06:00 to 2026-11-30" in page.text
    assert "f1_macro 500 labels 0.950 0.930 to 0.970 minimum 0.85 no earlier value" in page.text
    assert "There is no earlier window of the same length that does not overlap." in page.text
    assert "Open alerts" not in page.text and "Critical" not in page.text
    assert page.markup.lstrip().startswith("<!doctype html>")


def test_the_worst_comes_first(render, alerted):
    warning = Verdict("quality", "age_hours", "", 60, 48, "warning", "The newest is old.")
    critical = Verdict("drift", "psi", NAME, 0.5, 0.25, "critical", f"{NAME} has moved.")
    alerted(warning, source="api")
    alerts = alerted(critical)
    page = render(nothing("api"), counted(f1(0.95)), alerts=alerts)
    assert f"2 alerts are open: {NAME} (drift), age_hours (quality)." in page.text
    order = [f"■ Critical {NAME} has moved.", "▲ Warning The newest is old.", "What changed", "API"]
    assert sorted(order, key=page.text.rindex) == order
    assert "What to do: docs/runbook.md#drift" in page.text
    assert f"since {datetime.now(UTC):%Y-%m-%d}" in page.text


def test_what_passes_its_limit_is_marked(render):
    rejected = share("rejected_share", 0.25)
    metrics = f1(0.7), rejected, share("missing_share", 0.1, NAME)
    page = render(counted(*metrics, rejections={(NAME, "is above the maximum 15"): 333}))
    assert "Rejected rows ▲ Warning 25.0 % at most 2.5 %" in page.text
    assert f"Rejected: {NAME} is above the maximum 15 333" in page.text
    assert f"Missing: {NAME} 10.0 %" in page.text
    assert "f1_macro ■ Critical" in page.text


def test_without_predictions(render):
    page = render(nothing("batch"), nothing("api"))
    assert "No alert is open. There are no predictions in this window." in page.text
    assert page.text.count("There are no predictions in this window.") == 3
    assert "svg" not in page.tags


@pytest.mark.parametrize(
    ("metrics", "sentence"),
    [
        ([], "The quality of the model is not known: no prediction has a label."),
        ([f1(0.9, rows=3)], "The quality of the model is not known: only 3 predictions have"),
    ],
)
def test_what_is_not_known_is_said(render, metrics, sentence):
    page = render(counted(*metrics, notes=["There is no training reference of version 1."]))
    assert f"No alert is open. {sentence}" in page.text
    assert "Drift is not known; the notes say why." in page.text
    assert "Notes Version 1: There is no training reference of version 1." in page.text


def test_two_versions_in_one_window(render):
    old = OfVersion("1", 40, [f1(0.8)], [Drift(NAME, 0.2, 0.03, 40)])
    page = render(counted(versions=[old, OfVersion("2", 1000, [f1(0.9)])]))
    assert "1,040 predictions of version 1 and 2" in page.text
    assert "Version 1, earlier in this window 40 predictions. f1_macro 0.800 (0.7" in page.text
    assert f"The largest drift is that of {NAME}: PSI 0.20, p = 0.030." in page.text


CHANGES = [
    (f1(0.94), f1(0.88), "f1_macro fell from 0.940 to 0.880: the 95 % intervals do not overlap."),
    (f1(0.88), f1(0.94), "f1_macro rose from 0.880 to 0.940: the 95 % intervals do not overlap."),
    (f1(0.94), f1(0.93), None),
    (
        share("rejected_share", 0.01),
        share("rejected_share", 0.04),
        "The share of rejected rows rose from 1.0 % to 4.0 %.",
    ),
    (share("rejected_share", 0.01), share("rejected_share", 0.015), None),
    (
        drifting(0.02),
        drifting(0.3),
        f"1 column drifted more: {NAME} (PSI 0.02, now 0.30).",
    ),
    (drifting(0.3), drifting(0.11), f"1 column drifted less: {NAME} (PSI 0.30, now 0.11)."),
    (drifting(0.02), drifting(0.3, p=0.5), None),
    (
        drifting(0.02),
        [*drifting(0.02), share("missing_share", 0.1, NAME)],
        f"1 column with more missing values: {NAME} (0.0 %, now 10.0 %).",
    ),
    (
        [],
        Metric("quality", "new_categories", NAME, 12, 1000),
        f"1 column with new categories: {NAME} (12 values).",
    ),
]


@pytest.mark.parametrize(("before", "now", "sentence"), CHANGES)
def test_what_changed(render, save, before, now, sentence):
    metrics = [each if isinstance(each, list) else [each] for each in (before, now)]
    save(counted(*metrics[0], end=END - WEEK))
    looked = counted(*metrics[1])
    save(looked)
    said = render(looked).text.partition("What changed ")[2].partition(" Compared with the ")
    assert said[0] == (sentence or "Nothing that matters.")
    assert said[2].startswith("window to 2026-11-23 06:00 UTC.")


def test_many_changes_are_told_together(render, save):
    names = ["A", "B", "C", "D", "E"]
    save(counted(*(each for name in names for each in drifting(0.01, name)), end=END - WEEK))
    page = render(counted(*(each for name in names for each in drifting(0.3, name)), rows=100))
    assert "The number of predictions fell from 1,000 to 100." in page.text
    assert "5 columns drifted more: A (PSI 0.01, now 0.30), B (" in page.text
    assert "C (PSI 0.01, now 0.30) and 2 more." in page.text


def test_a_new_version_is_told(render, save):
    save(counted(share("labelled_share", 0), end=END - WEEK))
    page = render(counted(versions=[OfVersion("2", 1000)]))
    assert "Version 2 predicts now; before, it was 1." in page.text


def test_windows_of_the_same_length_are_compared(render, save):
    save(counted(f1(0.94), end=END - WEEK))
    day = counted(f1(0.5), end=END - timedelta(days=1))
    save(replace(day, period=Period(END - timedelta(days=2), END - timedelta(days=1))))
    save(counted(f1(0.3), end=END - WEEK, source="api"))
    page = render(counted(f1(0.88)))
    assert "f1_macro fell from 0.940 to 0.880" in page.text
    assert "Last 2 windows" in page.text and "0.940 on 23 Nov 0.880" in page.text


def test_a_window_that_does_not_overlap_is_compared(render, save):
    for days, value in {8: 0.99, 7: 0.94, 6: 0.87, 1: 0.87}.items():
        save(counted(f1(value), end=END - timedelta(days=days)))
    page = render(counted(f1(0.88)))
    assert "f1_macro fell from 0.940 to 0.880" in page.text
    assert "Compared with the window to 2026-11-23 06:00 UTC." in page.text


def test_the_course_has_at_most_twenty_windows(render, save):
    for weeks in range(30, 0, -1):
        save(counted(f1(0.9 + weeks / 1000), end=END - weeks * WEEK))
    page = render(counted(f1(0.9)))
    assert "Last 20 windows" in page.text
    line = page.markup.partition('<polyline points="')[2].partition('"')[0]
    assert len(line.split()) == 20


def test_names_from_data_are_escaped(render, monkeypatch, alerted):
    evil = "<script>alert(1)</script>"
    column = Column(evil, "category", allowed=(evil, 'a"onload="b'))
    monkeypatch.setattr(report, "CONTRACT", replace(CONTRACT, columns=(column,)))
    drift = with_drift(column, Bins(edges=None, counts=[1, 2, 0]), [7, 1, 3])
    alerts = alerted(Verdict("drift", "psi", evil, 1, 0.25, "critical", f"{evil} has moved."))
    missing = share("missing_share", 0.1, evil)
    rejections = {(evil, f"is not one of {evil}"): 3}
    page = render(counted(missing, rejections=rejections, notes=[evil], **drift), alerts=alerts)
    assert "script" not in page.tags and page.text.count(evil) > 5
    assert not any("onload" in tag for tag in page.tags)


def test_three_hundred_columns_are_less_than_two_megabytes(render, monkeypatch):
    columns = tuple(Column(f"COLUMN_WITH_A_LONG_NAME_{i}", "float", unit="cm") for i in range(300))
    monkeypatch.setattr(report, "CONTRACT", replace(CONTRACT, columns=columns))
    bins = Bins(edges=[*np.arange(1.0, 10)], counts=[10] * 11, sample=[0.1] * 500)
    predictions = Bins(edges=None, counts=[5] * 4)
    drifts = [Drift(each.name, 3 - i / 100, 0.0, 1000) for i, each in enumerate(columns)]
    drifts.append(Drift("prediction", 0.0, 0.9, 1000))
    version = OfVersion(
        *("1", 1000, [share("missing_share", 0.1, each.name) for each in columns], drifts),
        Reference(columns={each.name: bins for each in columns}, prediction=predictions),
        {"columns": {each.name: [9] * 11 for each in columns}, "prediction": [5] * 4},
        {(each.name, "is missing"): 5 for each in columns},
    )
    page = render(counted(versions=[version]))
    assert len(page.markup.encode()) < 500_000
    assert page.text.count("PSI ") == 301 and "280 columns with less drift" in page.text
    assert page.tags.count("h4") == 21  # of the predictions, too


def test_nothing_comes_from_elsewhere(render):
    page = render(counted(f1(0.9)))
    assert page.addresses == []
    assert "://" not in page.markup and "url(" not in page.markup and "@import" not in page.markup
    assert not {"script", "link", "img", "iframe"} & set(page.tags)


def test_a_failure_leaves_the_last_page(render, config, monkeypatch):
    render(counted(f1(0.9)))
    written = Path(config.monitoring.report)
    before = written.read_text("utf-8")
    monkeypatch.setattr(Path, "write_text", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        render(nothing())
    assert written.read_text("utf-8") == before
    assert [each.name for each in written.parent.iterdir()] == ["monitoring.html"]


@pytest.mark.parametrize(
    ("column", "edges", "names"),
    [
        (
            Column("A", "float"),
            [5.1, 5.8, 6.4],
            ["up to 5.1", "5.1 to 5.8", "5.8 to 6.4", "over 6.4"],
        ),
        (Column("A", "float"), [0.25, 1234.5], ["up to 0.25", "0.25 to 1,234", "over 1,234"]),
        (Column("A", "float"), [7.0], ["up to 7", "over 7"]),
        (Column("A", "float"), [], ["all"]),
        (Column("A", "float"), [1e-9, 2e-9], ["up to 1e-09", "1e-09 to 2e-09", "over 2e-09"]),
        (Column("A", "integer"), [30, 31, 38.5], ["up to 30", "31", "32 to 38", "over 38"]),
        (
            Column("A", "date"),
            [20_000.0, 20_030.0],
            ["up to 2024-10-04", "to 2024-11-03", "over 2024-11-03"],
        ),
    ],
)
def test_ranges_are_written_as_people_write_them(column, edges, names):
    assert charts.ranges(column, edges) == names


def test_bars_of_classes():
    column = Column("A", "category", allowed=tuple(f"class {i}" for i in range(15)), nullable=True)
    bins = Bins(edges=None, counts=[*range(15), 5])
    found = charts.bars(column, bins, [100, *[0] * 15])
    assert [each.label for each in found[:2]] == ["class 0", "class 14"]
    assert [each.label for each in found[-2:]] == ["5 others", "missing"]
    assert sum(each.before for each in found) == pytest.approx(1)
    assert sum(each.now for each in found) == pytest.approx(1)
    assert charts.bars(Column("B", "boolean"), Bins(edges=None, counts=[3, 1, 0]), [0, 0, 0]) == [
        ("false", 0.75, 0),
        ("true", 0.25, 0),
    ]
