"""`cron`: lines for a crontab, which touch nothing else there; one pipeline by a real cron."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from conftest import PACKAGE, SECONDS, one_sentence, wait_for
from filelock import FileLock
from test_run import acts, define, recorded

FOREIGN = b"# Mine: \xff\r\nMAILTO=me@example.com\n\n@daily  echo 'x \\% y'  \n"
# Behaves like Debian's, but keeps the crontab in a file.
PROGRAM = """#!/bin/sh
case $1 in
-l) [ -e '{file}' ] || {{ echo 'no crontab for tester' >&2; exit 1; }}; cat '{file}' ;;
-) cat > '{file}.new'
   if grep -q ' #' '{file}.new'; then
     printf '"-":3: bad day-of-week\\nerrors in crontab file, cannot install.\\n' >&2; exit 1
   fi
   mv '{file}.new' '{file}'; echo written >> '{file}.calls' ;;
esac
"""


@pytest.fixture
def crontab(tmp_path, monkeypatch) -> Path:
    """The file in which a program `crontab`, the only program on the PATH, keeps a crontab."""
    folder, file = tmp_path / "programs", tmp_path / "crontab"
    folder.mkdir()
    program = folder / "crontab"
    program.write_text(PROGRAM.format(file=file), "utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")
    monkeypatch.setenv("TZ", "UTC")
    return file


def block(project, environment: str = "nonprod") -> list[str]:
    place = f"pipelines of {project.folder}, environment {environment}"
    start = f"cd {project.folder} && ENVIRONMENT={environment} {sys.executable} -m {PACKAGE} run"
    lines = [
        f"{hour} {start} {name} >/dev/null"
        for hour, name in (
            ("0 5 * * *", "prediction"),
            ("0 6 * * *", "metrics"),
            ("0 7 * * *", "retraining"),
        )
    ]
    return [f"# Begin {place}", *lines, f"# End {place}"]


def text(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def test_the_lines_are_printed_and_nothing_is_changed(project, call, crontab):
    done = call("cron")
    assert (done.returncode, done.stdout) == (0, text(block(project)[1:-1]).decode())
    assert not crontab.exists()


def test_a_pipeline_without_a_schedule_has_no_line(call):
    empty = {"APP__PIPELINES__PREDICTION": " ", "APP__PIPELINES__RETRAINING": " "}
    done = call("cron", **empty)
    assert [line.split()[-2] for line in done.stdout.splitlines()] == ["metrics"]


def test_install_keeps_everything_else_and_twice_is_once(project, call, crontab):
    crontab.write_bytes(FOREIGN)
    for _ in range(2):
        done = call("cron", "--install")
        assert done.returncode == 0, done.stderr
        assert crontab.read_bytes() == FOREIGN + text(block(project))
    assert Path(f"{crontab}.calls").read_text("utf-8") == "written\n"
    with crontab.open("ab") as file:
        file.write(b"# After it\n")
    done = call("cron", "--install", APP__PIPELINES__METRICS="30 * * * *")
    changed = text(block(project)).replace(b"0 6 * * *", b"30 * * * *")
    assert crontab.read_bytes() == FOREIGN + changed + b"# After it\n"
    for _ in range(2):
        assert call("cron", "--uninstall").returncode == 0
        assert crontab.read_bytes() == FOREIGN + b"# After it\n"


def test_install_into_no_crontab_and_nothing_to_uninstall(project, call, crontab):
    assert call("cron", "--uninstall").returncode == 0
    assert not crontab.exists()
    assert call("cron", "--install").returncode == 0
    assert crontab.read_bytes() == text(block(project))


def test_without_any_schedule_install_removes_the_lines(project, call, crontab):
    assert call("cron", "--install").returncode == 0
    config = project.folder / "config" / "nonprod.toml"
    config.write_text(re.sub(r'"0 \d \* \* \*"', '""', config.read_text("utf-8")), "utf-8")
    assert "has 0 lines" in call("cron", "--install").stdout
    assert crontab.read_bytes() == b""


def test_environments_and_projects_do_not_touch_each_other(project, call, crontab, monkeypatch):
    other = project.copy_to(project.folder.with_name("project 2"))
    assert call("cron", "--install").returncode == 0
    assert call("cron", "--install", ENVIRONMENT="prod").returncode == 0
    with monkeypatch.context() as patch:
        patch.setattr(f"{PACKAGE}.settings.root", lambda: other.folder)
        patch.chdir(other.folder)
        assert call("cron", "--install").returncode == 0
    both = text(block(project)) + text(block(project, "prod"))
    rest = crontab.read_bytes().removeprefix(both)
    assert (rest.count(b"\n"), rest.count(b"cd '")) == (5, 3)
    assert call("cron", "--uninstall").returncode == 0
    assert crontab.read_bytes() == text(block(project, "prod")) + rest


@pytest.mark.parametrize("kept", [[0], [4], [4, 0], [0, 0, 4], [0, 1, 4, 0, 4]])
def test_markers_that_do_not_match_are_refused(project, call, crontab, kept):
    crontab.write_bytes(before := text([block(project)[number] for number in kept]))
    for words in ("--install", "--uninstall"):
        told = one_sentence(call("cron", words))
        assert f"pipelines of {project.folder}, environment nonprod do not begin and end" in told
        assert "`crontab -e`" in told
    assert crontab.read_bytes() == before


def test_what_the_program_refuses_is_one_sentence(call, crontab):
    crontab.write_bytes(FOREIGN)
    done = call("cron", "--install", APP__PIPELINES__METRICS="0 6 * * #x")
    assert "is no cron expression" in one_sentence(done)
    program = Path(os.environ["PATH"].partition(":")[0], "crontab")
    program.write_text(program.read_text("utf-8").replace("' #'", "begin -i"), "utf-8")
    told = one_sentence(call("cron", "--install"))
    assert told == (
        'error: `crontab -` failed: "-":3: bad day-of-week; errors in crontab file, cannot install.'
    )
    assert crontab.read_bytes() == FOREIGN


def test_without_the_program_a_sentence_says_what_to_install(call, crontab, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    for words in ("--install", "--uninstall"):
        assert "apt-get install cron" in one_sentence(call("cron", words))


@pytest.mark.parametrize(
    ("machine", "pipelines", "fits"),
    [
        ("UTC", "Europe/Madrid", False),
        ("Europe/Madrid", "UTC", False),
        ("Europe/London", "UTC", False),  # they differ only in summer
        ("Europe/Madrid", "Europe/Paris", True),
        ("UTC", "Africa/Abidjan", True),
    ],
)
def test_another_time_zone_than_the_machine_s_is_refused(
    call, crontab, monkeypatch, machine, pipelines, fits
):
    monkeypatch.setenv("TZ", machine)
    time.tzset()
    try:
        done = call("cron", "--install", APP__PIPELINES__TIMEZONE=pipelines)
    finally:
        monkeypatch.setenv("TZ", "UTC")
        time.tzset()
    assert crontab.exists() == fits
    if not fits:
        assert f"pipelines.timezone is {pipelines}, but cron uses" in one_sentence(done)


def test_paths_are_quoted_for_the_shell_and_for_cron(project, call, monkeypatch, tmp_path):
    """The command of a line does what it should in a shell, after cron has replaced ``\\%``."""
    folder = project.folder.rename(tmp_path / "it's $HOME; a `b`")
    python = tmp_path / "100% (new)" / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\necho "$ENVIRONMENT" "$PWD" "$@" >&2\n', "utf-8")
    python.chmod(0o755)
    monkeypatch.setattr(f"{PACKAGE}.settings.root", lambda: folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.executable", str(python))
    line = call("cron").stdout.splitlines()[0]
    fields = line.split(maxsplit=5)
    assert not re.search(r"(?<!\\)%", line)
    command = fields[5].replace("\\%", "%")
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd="/")
    assert done.stderr == f"nonprod {folder} -m {PACKAGE} run prediction\n"
    assert done.stdout == ""


def test_a_folder_that_a_crontab_cannot_name_is_refused(call, monkeypatch):
    monkeypatch.setattr("sys.executable", "/a\nb/python")
    assert "a crontab cannot name" in one_sentence(call("cron"))


def real(word: str, given: bytes = b"") -> bytes:
    return subprocess.run(["crontab", word], input=given, capture_output=True).stdout


@pytest.fixture
def cron_daemon():
    """A real cron: that of the machine, or one for this test; your crontab stays as it was."""
    if not shutil.which("crontab"):
        pytest.skip("no cron: apt-get install cron")
    # Tests of another checkout on this machine would use the same crontab.
    with FileLock(Path(tempfile.gettempdir(), "tests-of-cron.lock"), timeout=SECONDS):
        before, daemon = real("-l"), None
        if not any(process.name() in ("cron", "crond") for process in psutil.process_iter()):
            daemon = subprocess.Popen(["cron", "-f"])
        yield before
        if daemon:
            daemon.terminate()
            daemon.wait(10)
        real("-", before) if before else real("-r")


@pytest.mark.slow
def test_a_real_cron_runs_a_pipeline(project, cron_daemon):
    define(project, ("a", ()))
    definition = project.folder / "src" / PACKAGE / "pipelines" / "definition.py"
    every_minute = definition.read_text("utf-8").replace('"0 6 * * *"', '"* * * * *"')
    definition.write_text(every_minute, "utf-8")
    # What a virtual environment does for a user: cron has no PYTHONPATH.
    (project.folder / PACKAGE).symlink_to(project.folder / "src" / PACKAGE)
    done = project.run("cron", "--install")
    assert done.returncode == 0, done.stderr
    assert real("-l").startswith(cron_daemon)
    assert f" ENVIRONMENT=nonprod {shlex.quote(sys.executable)} -m " in real("-l").decode()
    lock = project.folder / "data" / "processed" / ".locks" / "pipeline-trial"
    wait_for(lambda: acts(project) and not lock.exists())
    assert recorded(project, None) == {"a": (1, 0)}
    assert project.run("cron", "--uninstall").returncode == 0
    assert real("-l") == cron_daemon
