"""The only definition of the pipelines: their steps, schedules and data intervals."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from graphlib import CycleError, TopologicalSorter
from zoneinfo import ZoneInfo

from cronsim import CronSim

from ..errors import ProjectError
from ..settings import Settings

HOUR = 3600
# A pipeline that has no schedule has intervals of a day.
DAILY = "0 0 * * *"


@dataclass(frozen=True)
class Step:
    """Arguments of ``python -m <package>``; ``needs`` are steps, ``timeout`` is in seconds."""

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    retries: int = 2
    timeout: int = HOUR


@dataclass(frozen=True)
class Pipeline:
    """Steps with a cron expression, which is empty if nothing starts them by itself."""

    name: str
    schedule: str
    timezone: str
    steps: tuple[Step, ...]

    def order(self) -> list[Step]:
        """The steps, each after those that it needs."""
        named = {step.name: step for step in self.steps}
        graph = TopologicalSorter({step.name: step.needs for step in self.steps})
        try:
            return [named[name] for name in graph.static_order()]
        except (CycleError, KeyError) as error:
            problem = "a step needs one that does not exist, or needs itself in a circle"
            raise ProjectError(f"pipeline {self.name}: {problem}: {error.args[-1]}.") from None

    def interval(self, moment: datetime) -> "Interval":
        """Between the last two scheduled times that are not after a time, as in Airflow."""
        # The search begins hours later: clocks that go back show the same times twice.
        late = (moment + timedelta(hours=3)).astimezone(ZoneInfo(self.timezone))
        times = CronSim(self.schedule or DAILY, late, reverse=True)
        # Compared in UTC, because Python ignores the offsets of times in the same time zone.
        end = next(time for time in times if time.astimezone(UTC) <= moment.astimezone(UTC))
        return Interval(self.name, next(times), end, moment)

    def next(self, moment: datetime) -> datetime | None:
        """The first scheduled time after a time; None without a schedule."""
        zone = ZoneInfo(self.timezone)
        return next(CronSim(self.schedule, moment.astimezone(zone))) if self.schedule else None


class Moment(datetime):
    """A time whose default format is ISO 8601."""

    def __format__(self, form: str) -> str:
        return super().__format__(form) if form else self.isoformat()


@dataclass(frozen=True)
class Interval:
    """The data interval of a run, in the time zone of its pipeline."""

    pipeline: str
    start: datetime
    end: datetime
    # The time for which the run was asked; the end of the interval if it is None.
    now: datetime | None = field(default=None, compare=False)

    @property
    def run_id(self) -> str:
        """The same id for each run of this interval."""
        return f"{self.pipeline}-{self.end.astimezone(UTC):%Y%m%dT%H%M%SZ}"

    def fill(self, step: Step) -> Step:
        """The step with values in its command, in place of its placeholders."""
        times = {"start": self.start, "end": self.end, "now": self.now or self.end}
        values = {name: Moment.combine(at.date(), at.timetz()) for name, at in times.items()}
        try:
            words = [word.format(run_id=self.run_id, **values) for word in step.command]
        except (AttributeError, LookupError, TypeError, ValueError):
            known = "{run_id}, {start}, {end} and {now}, as in {end:%Y-%m-%d}; {{ is a brace"
            raise ProjectError(f"step {step.name}: the placeholders are {known}.") from None
        return replace(step, command=tuple(words))


def pipelines(config: Settings) -> dict[str, Pipeline]:
    """The pipelines by name; the section ``[pipelines]`` has a schedule for each."""
    found, times = {}, config.pipelines

    def add(name: str, *steps: Step) -> None:
        found[name] = Pipeline(name, getattr(times, name), times.timezone, steps)

    if hasattr(config, "batch"):
        # The run id is that of the interval, so that a repeated run predicts nothing twice.
        add("prediction", Step("score", ("score", "--run-id", "{run_id}")))
    collect = [Step("deliver", ("deliver",))] if hasattr(config, "api") else []
    needs = names(collect)
    if config.monitoring.labels:
        # No step needs it: drift can be measured where labels are late.
        collect.append(Step("labels", ("labels", "import"), needs))
    add("metrics", *collect, Step("monitor", ("monitor", "--until", "{now}"), needs))
    add("retraining", Step("retrain", ("retrain", "--if-alert"), retries=0, timeout=6 * HOUR))
    return found


def names(steps: Iterable[Step]) -> tuple[str, ...]:
    return tuple(step.name for step in steps)
