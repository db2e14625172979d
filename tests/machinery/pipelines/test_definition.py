"""The pipelines as data: data intervals, also when clocks change, commands, and the order."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest

from iris_flower_prediction import settings
from iris_flower_prediction.errors import ProjectError
from iris_flower_prediction.pipelines.definition import Interval, Pipeline, Step, pipelines

MADRID = "Europe/Madrid"


def pipeline(schedule: str, timezone: str = "UTC", *steps: Step) -> Pipeline:
    return Pipeline("p", schedule, timezone, steps)


def interval(schedule: str, timezone: str, moment: str) -> list[str]:
    """Start and end of the interval at a time, in UTC."""
    at = datetime.fromisoformat(moment)
    found = pipeline(schedule, timezone).interval(at if at.tzinfo else at.replace(tzinfo=UTC))
    assert {str(found.start.tzinfo), str(found.end.tzinfo)} == {timezone}
    return [f"{each.astimezone(UTC):%m-%d %H:%M}" for each in (found.start, found.end)]


@pytest.mark.parametrize(
    ("schedule", "timezone", "moment", "expected"),
    [
        ("0 5 * * *", "UTC", "2026-11-30T05:00", ["11-29 05:00", "11-30 05:00"]),
        ("0 5 * * *", "UTC", "2026-11-30T05:00:00.5", ["11-29 05:00", "11-30 05:00"]),
        ("0 5 * * *", "UTC", "2026-11-30T04:59:59.9", ["11-28 05:00", "11-29 05:00"]),
        ("0 5 * * *", MADRID, "2026-11-30T04:00", ["11-29 04:00", "11-30 04:00"]),
        ("0 5 1 * *", "UTC", "2026-03-01T05:00", ["02-01 05:00", "03-01 05:00"]),
        ("0 5 31 * *", "UTC", "2026-04-30T12:00", ["01-31 05:00", "03-31 05:00"]),
        ("0 5 * * 1", "UTC", "2026-11-29T12:00", ["11-16 05:00", "11-23 05:00"]),
        ("*/15 * * * *", "UTC", "2026-11-30T05:07", ["11-30 04:45", "11-30 05:00"]),
        # Without a schedule: the day before, from midnight to midnight.
        ("", "UTC", "2026-11-30T05:00", ["11-29 00:00", "11-30 00:00"]),
        ("", MADRID, "2026-11-30T23:30", ["11-29 23:00", "11-30 23:00"]),
        # 2026-03-29: 02:00 becomes 03:00. A day has 23 hours, and 02:30 is at 03:00.
        ("0 5 * * *", MADRID, "2026-03-29T12:00", ["03-28 04:00", "03-29 03:00"]),
        ("30 2 * * *", MADRID, "2026-03-29T12:00", ["03-28 01:30", "03-29 01:00"]),
        ("30 2 * * *", MADRID, "2026-03-30T12:00", ["03-29 01:00", "03-30 00:30"]),
        # 2026-10-25: 03:00 becomes 02:00. A day has 25 hours, and 02:30 counts once.
        ("0 5 * * *", MADRID, "2026-10-25T12:00", ["10-24 03:00", "10-25 04:00"]),
        ("30 2 * * *", MADRID, "2026-10-25T00:30", ["10-24 00:30", "10-25 00:30"]),
        ("30 2 * * *", MADRID, "2026-10-25T01:10", ["10-24 00:30", "10-25 00:30"]),
        ("*/30 * * * *", MADRID, "2026-10-25T01:10", ["10-25 00:30", "10-25 01:00"]),
    ],
)
def test_an_interval_ends_at_the_last_scheduled_time(schedule, timezone, moment, expected):
    assert interval(schedule, timezone, moment) == expected


@pytest.mark.parametrize("schedule", ["0 5 * * *", "30 2 * * *", "15 */2 * * *", "*/20 * * * *"])
@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25", "2026-12-31"])
def test_intervals_follow_each_other_without_a_gap(schedule, day):
    chosen, begin = pipeline(schedule, MADRID), datetime.fromisoformat(f"{day}T00:00+00:00")
    found = [chosen.interval(begin + timedelta(minutes=at)) for at in range(-1500, 1500, 10)]
    for one, other in pairwise(found):
        assert other in (one, Interval("p", one.end, other.end))
        # Compared in UTC: times of one time zone ignore their offsets.
        assert one.start.astimezone(UTC) < one.end.astimezone(UTC) <= other.end.astimezone(UTC)


def test_a_run_id_is_that_of_the_interval_s_end_in_utc():
    end = datetime(2026, 11, 30, 6, tzinfo=ZoneInfo(MADRID))
    assert Interval("prediction", end, end).run_id == "prediction-20261130T050000Z"


def test_placeholders_of_a_command_become_values_in_the_pipeline_s_time_zone():
    zone = ZoneInfo(MADRID)
    run = Interval("p", *(datetime(2026, 10, day, 5, tzinfo=zone) for day in (24, 25)))
    words = (
        "{run_id}",
        "{start}..{end}",
        "s3://b/{end:%Y-%m-%d}.parquet",
        "{{x}}",
        "100 %",
        "{now}",
    )
    assert list(run.fill(Step("s", words)).command) == [
        "p-20261025T040000Z",
        "2026-10-24T05:00:00+02:00..2026-10-25T05:00:00+01:00",
        "s3://b/2026-10-25.parquet",
        "{x}",
        "100 %",
        "2026-10-25T05:00:00+01:00",
    ]


@pytest.mark.parametrize("word", ["{ends}", "{}", "{end", "{end.nothing}", "{end[0]}", "{end!x}"])
def test_a_wrong_placeholder_is_one_sentence(word):
    now = datetime.now(UTC)
    with pytest.raises(ProjectError, match=r"step s: the placeholders are \{run_id\}, \{start\}"):
        Interval("p", now, now).fill(Step("s", (word,)))


def test_steps_are_in_the_order_of_their_needs():
    steps = (Step("c", (), ("b", "a")), Step("b", (), ("a",)), Step("a", ()))
    assert [step.name for step in pipeline("", "UTC", *steps).order()] == ["a", "b", "c"]


@pytest.mark.parametrize("needs", [("nothing",), ("a",), ("b",)])
def test_needs_that_cannot_be_met_are_one_sentence(needs):
    steps = (Step("a", (), needs), Step("b", (), ("a",)))
    with pytest.raises(ProjectError, match="pipeline p: a step needs one that does not exist, or"):
        pipeline("", "UTC", *steps).order()


def graph(config) -> dict[str, list[tuple[str, tuple[str, ...]]]]:
    return {
        name: [(step.name, step.needs) for step in each.order()]
        for name, each in pipelines(config).items()
    }


def test_the_pipelines_of_each_flavor(config):
    chosen = {"pipelines": config.pipelines, "monitoring": config.monitoring}
    retraining = [("retrain", ())]
    batch = graph(SimpleNamespace(**chosen, batch=config.batch))
    score, monitor = [("score", ())], [("monitor", ())]
    assert batch == {"prediction": score, "metrics": monitor, "retraining": retraining}
    chosen["monitoring"] = SimpleNamespace(labels="data/labels.csv")
    steps = [("deliver", ()), ("labels", ("deliver",)), ("monitor", ("deliver",))]
    api = graph(SimpleNamespace(**chosen, api=config.api))
    assert api == {"metrics": steps, "retraining": retraining}
    assert list(pipelines(config)) == ["prediction", "metrics", "retraining"]
    assert graph(config)["metrics"] == [("deliver", ()), ("monitor", ("deliver",))]


def test_schedules_and_time_zone_are_settings(folder, monkeypatch):
    monkeypatch.setenv("APP__PIPELINES__METRICS", " 5  4 * *  MON ")
    monkeypatch.setenv("APP__PIPELINES__TIMEZONE", MADRID)
    found = pipelines(settings.load())["metrics"]
    assert (found.schedule, found.timezone) == ("5 4 * * MON", MADRID)


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("METRICS", "0 25 * * *", "'0 25 * * *' is no cron expression such as 0 5 * * 1-5"),
        ("METRICS", "0 0 30 2 *", "is no cron expression"),
        ("METRICS", "daily", "is no cron expression"),
        ("METRICS", "0 0 5 * * *", "is no cron expression"),
        ("TIMEZONE", "Madrid", "'Madrid' is no time zone such as UTC or Europe/Madrid"),
        ("TIMEZONE", "Europe", "is no time zone"),
        ("TIMEZONE", "../etc/passwd", "is no time zone"),
    ],
)
def test_a_wrong_schedule_or_time_zone_is_one_sentence(folder, monkeypatch, key, value, problem):
    monkeypatch.setenv(f"APP__PIPELINES__{key}", value)
    with pytest.raises(ProjectError) as caught:
        settings.load()
    assert f"settings: pipelines.{key.lower()} (environment): " in str(caught.value)
    assert problem in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
