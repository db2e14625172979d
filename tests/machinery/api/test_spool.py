"""The spool: what was accepted is in it, whatever happens to the process or the disk."""

import os
import shutil
import signal

import pytest

from iris_flower_prediction.api import spool
from iris_flower_prediction.api.spool import REFUSED, Spool, held, segments
from iris_flower_prediction.errors import ProjectError

LIMIT = 1_000_000
CHILD = """
import os, sys
from pathlib import Path
from iris_flower_prediction.api.spool import Spool
spool = Spool(Path(sys.argv[1]), 1_000_000)
"""


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "spool"


@pytest.fixture
def child(project):
    """child(code, *words): run code after a child process has made ``spool`` in ``words[0]``."""

    def run(code, *words):
        script = project.folder / "child.py"
        script.write_text(CHILD + code)
        return project.run(script, *words)

    return run


def line(number, size=100):
    return str(number).encode().rjust(size - 1, b"0") + b"\n"


def free(folder):
    """The segments that nobody holds."""
    found = []
    for segment in segments(folder):
        with held(segment) as mine:
            found += [segment] * mine
    return found


def lines(folder):
    """The numbers of all lines that may be delivered; every line must be whole."""
    found = b"".join(segment.read_bytes() for segment in free(folder)).splitlines(True)
    assert {len(each) for each in found} <= {100}
    return [int(each) for each in found]


def test_what_is_appended_is_handed_over_in_order(folder):
    kept = Spool(folder, LIMIT)
    for number in range(6):
        assert kept.append(line(number))
        if number % 2:
            kept.tick()
    assert lines(folder) == list(range(6))
    assert len(free(folder)) == 3


def test_what_is_being_written_is_nobody_elses(folder):
    kept = Spool(folder, LIMIT)
    kept.append(line(0))
    assert len(segments(folder)) == 1 and free(folder) == []
    kept.close()
    assert lines(folder) == [0]
    assert kept.append(line(1))
    assert lines(folder) == [0]


def test_a_segment_is_delivered_by_one(folder):
    kept = Spool(folder, LIMIT)
    kept.append(line(0))
    kept.close()
    (segment,) = segments(folder)
    with held(segment) as mine, held(segment) as theirs:
        assert mine and not theirs
    with held(segment) as mine:
        assert mine
        segment.unlink()
    with held(segment) as mine:
        assert not mine


def test_nothing_is_handed_over_where_nothing_was_appended(folder):
    kept = Spool(folder, LIMIT)
    kept.tick()
    assert len(segments(folder)) == 1 and free(folder) == []


def test_the_spool_is_bounded_over_all_workers(folder):
    first, second = Spool(folder, 1000), Spool(folder, 1000)
    assert [first.append(line(n)) for n in range(7)] == [True] * 7
    second.tick()
    assert [second.append(line(n)) for n in range(7, 12)] == [True] * 3 + [False] * 2
    first.tick()
    assert first.filled == 1000 and not first.append(line(12))
    second.close()
    assert sorted(lines(folder)) == list(range(10))


def test_there_is_room_again_after_a_delivery_but_not_for_what_was_refused(folder):
    kept = Spool(folder, 1000)
    assert kept.append(line(0) * 10)
    kept.tick()
    assert not kept.append(line(1))
    free(folder)[0].rename(folder / REFUSED / "one.jsonl")
    kept.tick()
    assert not kept.append(line(1))
    (folder / REFUSED / "one.jsonl").unlink()
    kept.tick()
    assert kept.append(line(1))


def test_a_loss_is_logged_once_and_so_is_its_end(folder, caplog):
    kept = Spool(folder, 1000)
    kept.append(line(0) * 10)
    kept.tick()
    for _ in range(5):
        assert not kept.append(line(1))
    kept.tick()
    free(folder)[0].unlink()
    kept.tick()
    kept.tick()  # nobody asked
    assert kept.append(line(2))
    kept.tick()
    first, second = (record.getMessage() for record in caplog.records)
    assert "answered but not kept" in first
    assert "kept again; 5 were not" in second


def test_segments_stay_few_while_the_database_is_down(folder, monkeypatch):
    kept = Spool(folder, LIMIT)
    for number in range(100):
        kept.append(line(number))
        kept.tick()
    assert len(segments(folder)) == spool.WAITING
    monkeypatch.setattr(spool, "LARGEST_SEGMENT", 5000)
    kept.tick()
    assert lines(folder) == list(range(100))


DIE = """
for number in range(10):
    assert spool.append(str(number).encode().rjust(99, b"0") + b"\\n")
    if number == 6:
        spool.tick()
os.kill(os.getpid(), 9)
"""


def test_what_a_killed_worker_has_left_is_free_but_not_that_of_the_living(folder, child):
    alive = Spool(folder, LIMIT)
    assert alive.append(line(99))
    assert child(DIE, folder).returncode == -signal.SIGKILL
    assert lines(folder) == list(range(10))
    alive.close()
    assert sorted(lines(folder)) == [*range(10), 99]


FULL_DISK = """
import resource
def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
def line(number):
    return str(number).encode().rjust(99, b"0") + b"\\n"
limit(1050)
print([spool.append(line(2 * n) + line(2 * n + 1)) for n in range(8)])
limit(resource.RLIM_INFINITY)
print(spool.append(line(10)))
spool.close()
"""


def test_a_full_disk_damages_no_neighbour(folder, child):
    """Half of the sixth write fits; the file is cut after the fifth, and later writes follow it."""
    done = child(FULL_DISK, folder)
    assert done.stdout.splitlines() == [str([True] * 5 + [False] * 3), "True"], done.stderr
    assert lines(folder) == list(range(11))


def test_a_file_that_cannot_be_named_costs_the_record_and_leaves_nothing(folder, monkeypatch):
    kept = Spool(folder, LIMIT)
    kept.append(line(0))
    kept.close()

    def refuse(*_):
        raise OSError("no")

    with monkeypatch.context() as patch:
        patch.setattr(spool.Path, "rename", refuse)
        assert not kept.append(line(1))
    assert kept.append(line(2))
    kept.close()
    assert lines(folder) == [0, 2]
    assert list(folder.glob("*.new")) == []


def test_a_folder_that_was_removed_comes_back(folder):
    kept = Spool(folder, LIMIT)
    assert kept.append(line(0))
    kept.tick()
    shutil.rmtree(folder)
    assert kept.append(line(1))
    kept.close()
    assert lines(folder) == [1]


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ProjectError, match="cannot be kept here"):
        Spool(tmp_path / "file" / "spool", LIMIT)


def test_others_cannot_read_what_is_kept(folder):
    before = os.umask(0o022)
    try:
        Spool(folder, LIMIT).append(line(0))
    finally:
        os.umask(before)
    (segment,) = segments(folder)
    assert segment.stat().st_mode & 0o077 == 0
