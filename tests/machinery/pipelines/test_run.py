"""`run`: steps in order, tried again, stopped, recorded, resumed; each is a real process."""

import re
import shlex
import shutil
import signal
import time
from datetime import UTC, datetime, timedelta

import act_command
import psutil
import pytest
import sqlalchemy as sa
from conftest import PACKAGE, one_sentence, wait_for

from iris_flower_prediction.pipelines import records
from iris_flower_prediction.tables.databases import connect

EXTRA = {
    "cli.py": '\nCOMMANDS["act"] = ("act", "act")\n',
    "pipelines/run.py": "\nFIRST_WAIT = 0.1\n",
    "pipelines/processes.py": "\nGRACE = 1\n",
}
DEFINITION = """

def pipelines(config):
    steps = [Step(*each) for each in {steps!r}]
    return {{"trial": Pipeline("trial", "0 6 * * *", config.pipelines.timezone, tuple(steps))}}
"""
WHEN = ("--date", "2026-11-30T06:00")
RUN_ID = "trial-20261130T060000Z"


def define(project, *steps: tuple) -> None:
    """Give a project a pipeline `trial`, whose steps may use the command `act`.

    :param steps: name, the arguments of `act`, and more arguments of Step.
    """
    source = project.folder / "src" / PACKAGE
    file = source / "pipelines" / "definition.py"
    kept = file.with_suffix(".kept")
    if not kept.exists():
        shutil.copy(file, kept)
        shutil.copy(act_command.__file__, source / "act.py")
        for name, text in EXTRA.items():
            with (source / name).open("a", encoding="utf-8") as extended:
                extended.write(text)
    acts = [(name, ("act", name, *words), *more) for name, words, *more in steps]
    file.write_text(kept.read_text("utf-8") + DEFINITION.format(steps=acts), "utf-8")


def acts(project) -> list[str]:
    """The names of the steps that ran, in order."""
    file = project.folder / "acts"
    return file.read_text("utf-8").split() if file.exists() else []


def rows(url: str, run_id: str | None = RUN_ID) -> dict[str, tuple]:
    """Tries and exit code of each step in the record; all of one run, unless it is None."""
    with connect(url) as connection:
        found = connection.execute(sa.select(records.steps)).mappings().all()
    for row in found:
        assert (row["run_id"], row["pipeline"]) == (run_id or row["run_id"], "trial")
        began, ended = (
            each.replace(tzinfo=UTC) for each in (row["started_at"], row["finished_at"])
        )
        assert timedelta(0) <= ended - began and datetime.now(UTC) - ended < timedelta(minutes=5)
    return {row["step"]: (row["tries"], row["exit_code"]) for row in found}


def recorded(project, run_id: str | None = RUN_ID) -> dict[str, tuple]:
    return rows(f"sqlite:///{project.folder}/data/project.db", run_id)


def gone(pid: int) -> bool:
    """Whether a process has ended, also if nobody has asked for its exit code yet."""
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def child(project) -> int:
    return int((project.folder / "child").read_text("utf-8"))


def test_steps_run_in_order_with_the_interval_and_are_recorded(project):
    define(project, ("b", ("0",), ("a",)), ("a", ()))
    done = project.run("run", "trial", *WHEN)
    assert done.returncode == 0, done.stderr
    assert acts(project) == ["a", "b"]
    assert recorded(project) == {"a": (1, 0), "b": (1, 0)}
    first, *lines = done.stdout.splitlines()
    assert first == f"Run {RUN_ID}, from 2026-11-29 06:00:00+00:00 to 2026-11-30 06:00:00+00:00"
    assert [re.sub(r"\d+\.\d s$", "# s", line) for line in lines] == [
        "a: done in # s",
        "b: done in # s",
    ]


def test_a_step_is_tried_again_until_it_succeeds(project):
    define(project, ("a", ("1", "2", "0"), (), 2))
    assert project.run("run", "trial", *WHEN).returncode == 0
    assert acts(project) == ["a"] * 3
    assert recorded(project) == {"a": (3, 0)}


def test_an_interrupted_step_is_not_tried_again(project):
    define(project, ("a", ("130",), (), 5))
    done = project.run("run", "trial", *WHEN)
    assert (done.returncode, acts(project)) == (1, ["a"])
    assert "failed with exit code 130 after 1 try; resume with: " in done.stderr


def test_what_needs_a_failed_step_is_skipped_and_the_printed_command_resumes(project):
    steps = [("b", ("3", "3", "0"), ("a",), 1), ("a", ()), ("c", (), ("b",)), ("d", (), ("c",))]
    define(project, *steps, ("apart", (), ("a",)))
    done = project.run("run", "trial", "--date", "2026-11-30")
    assert done.returncode == 1
    assert acts(project) == ["a", "b", "b", "apart"]
    assert recorded(project) == {"a": (1, 0), "b": (2, 3), "apart": (1, 0)}
    assert "c: skipped, because it needs b\nd: skipped, because it needs c\n" in done.stdout
    command = f"python -m {PACKAGE} run trial --date 2026-11-30T23:59:59+00:00 --from b"
    what = "step b of pipeline trial failed with exit code 3 after 2 tries"
    assert done.stderr == f"{what}; resume with: {command}\n"
    again = project.run(*shlex.split(command)[3:])
    assert again.returncode == 0, again.stderr
    assert acts(project)[4:] == ["b", "apart", "c", "d"]
    expected = dict.fromkeys(("a", "b", "c", "d", "apart"), (1, 0))
    assert recorded(project) == expected


def test_the_printed_command_names_another_environment(project):
    define(project, ("a", ("1",), (), 0))
    done = project.run("run", "trial", *WHEN, ENVIRONMENT="prod")
    assert f"resume with: ENVIRONMENT=prod python -m {PACKAGE} run trial --date " in done.stderr
    assert rows(f"sqlite:///{project.folder}/data/prod/project.db") == {"a": (1, 1)}


def test_a_step_beyond_its_time_is_killed_with_what_it_started(project):
    define(project, ("a", ("--hang",), (), 0, 4), ("b", (), ("a",)))
    done = project.run("run", "trial", *WHEN)
    assert done.returncode == 1
    assert "step a of pipeline trial failed with a time-out of 4 s after 1 try; " in done.stderr
    assert wait_for(lambda: gone(child(project)))
    assert (acts(project), recorded(project)) == (["a"], {"a": (1, 124)})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_the_step_with_what_it_started(project, number):
    define(project, ("a", ("--hang",)), ("b", ()))
    process = project.start("run", "trial", *WHEN)
    wait_for((project.folder / "child").exists, process)
    step = psutil.Process(process.pid).children()[0].pid
    process.send_signal(number)
    time.sleep(0.7)
    process.send_signal(number)  # a second signal does not stop the clearing up
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "interrupted\n")
    assert gone(step) and wait_for(lambda: gone(child(project)))
    assert (acts(project), recorded(project)) == (["a"], {"a": (1, 130)})


def test_a_signal_while_a_step_starts_leaves_nothing_behind(project):
    define(project, ("a", ("--hang",)))
    early = "\n_popen = subprocess.Popen\n\n\ndef _early(*words, **options):\n"
    early += "    process = _popen(*words, **options)\n    os.kill(os.getpid(), signal.SIGTERM)\n"
    early += "    open('step', 'w').write(str(process.pid))\n    return process\n\n\n"
    file = project.folder / "src" / PACKAGE / "pipelines" / "processes.py"
    file.write_text(file.read_text("utf-8") + early + "subprocess.Popen = _early\n", "utf-8")
    done = project.run("run", "trial", *WHEN)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
    assert gone(int((project.folder / "step").read_text("utf-8")))


def test_two_runs_of_a_pipeline_do_not_overlap(project):
    define(project, ("a", ("--hang",)))
    process = project.start("run", "trial", *WHEN)
    wait_for((project.folder / "child").exists, process)
    second = one_sentence(project.run("run", "trial"))
    assert second == "error: pipeline trial is at work in another process."
    process.terminate()
    process.communicate(timeout=60)


def test_a_hangup_is_ignored_where_nohup_asked_for_it(project):
    define(project, ("a", ("--hang",)))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = project.start("run", "trial", *WHEN)
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_for((project.folder / "child").exists, process)
    process.send_signal(signal.SIGHUP)
    time.sleep(2)
    assert process.poll() is None
    process.terminate()
    assert process.wait(60) == 130


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["bogus"], "there is no pipeline 'bogus'; known are: prediction, metrics, retraining."),
        (["prediction", "--from", "bogus"], "there is no step 'bogus'; known are: score."),
        (["prediction", "--date", "yesterday"], "--date 'yesterday': give a date such as 2026"),
        (["prediction", "--date", ""], "--date '': give a date such as 2026"),
        (["prediction", "--date", "2999-01-01"], "--date 2999-01-01: give a time between 1970 and"),
        (["prediction", "--date", "9999-12-31"], "give a time between 1970 and now"),
        (["prediction", "--date", "0001-01-01T00:00+14:00"], "give a time between 1970 and now"),
    ],
)
def test_mistakes_are_one_sentence_and_start_nothing(call, project, words, problem):
    assert problem in one_sentence(call("run", *words))
    assert not (project.folder / "data" / "project.db").exists()


def test_a_wrong_placeholder_is_told_before_the_first_step(project):
    define(project, ("a", ()), ("b", ("{bogus}",), ("a",)))
    assert "step b: the placeholders are {run_id}" in one_sentence(project.run("run", "trial"))
    assert acts(project) == []


@pytest.mark.parametrize(
    ("zone", "hour"), [("UTC", "11T06"), ("Pacific/Auckland", "10T18"), ("America/Lima", "11T11")]
)
def test_a_date_means_the_last_run_of_that_day_in_the_pipeline_s_time_zone(project, zone, hour):
    define(project, ("a", ()))
    for when in ("2026-06-11", "2026-06-11T06:00", "2026-06-11T23:59:59.999999"):
        done = project.run("run", "trial", "--date", when, APP__PIPELINES__TIMEZONE=zone)
        assert done.stdout.startswith(f"Run trial-202606{hour}0000Z, from "), done


@pytest.mark.slow
def test_rows_of_steps_are_kept_in_postgresql(project, postgresql):
    define(project, ("a", ("1", "0"), (), 1), ("b", ("5", "0"), ("a",), 0))
    done = project.run("run", "trial", *WHEN, APP__DATABASE=postgresql)
    assert (done.returncode, rows(postgresql)) == (1, {"a": (2, 0), "b": (1, 5)})
    assert project.run("run", "trial", *WHEN, APP__DATABASE=postgresql).returncode == 0
    assert rows(postgresql) == {"a": (1, 0), "b": (1, 0)}


def test_a_repeated_prediction_of_an_interval_predicts_nothing_twice(copied):
    predictions = copied.folder / "data" / "predictions"
    for told in ("rows read", "was published already"):
        done = copied.run("run", "prediction", "--date", "2026-11-29", cwd="/")
        assert done.returncode == 0, done.stderr
        assert told in done.stdout
        runs = [path.name for path in predictions.glob("[!.]*") if path.is_dir()]
        assert runs == ["prediction-20261129T050000Z"]
