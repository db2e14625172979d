"""The spool: what was accepted is in it, whatever happens to the process or the disk."""

import os
import signal

import pytest

from iris_flower_prediction.api import spool
from iris_flower_prediction.api.spool import ACTIVE, REFUSED, Spool, sealed
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


def lines(folder):
    """The numbers of all sealed lines; every line must be whole."""
    found = b"".join(segment.read_bytes() for segment in sealed(folder)).splitlines(True)
    assert {len(each) for each in found} <= {100}
    return [int(each) for each in found]


def test_what_is_appended_is_sealed_in_order(folder):
    kept = Spool(folder, LIMIT)
    for number in range(5):
        assert kept.append(line(2 * number) + line(2 * number + 1), 2)
        if number % 2:
            kept.seal()
    assert len(sealed(folder)) == 2
    kept.close()
    assert lines(folder) == list(range(10))
    assert not list(folder.glob(f"*{ACTIVE}"))


def test_nothing_is_sealed_where_nothing_was_appended(folder):
    kept = Spool(folder, LIMIT)
    kept.seal()
    kept.close()
    assert sealed(folder) == []


def test_a_segment_is_sealed_when_it_is_full(folder):
    kept = Spool(folder, LIMIT)
    for number in range(2 * kept.segment_bytes // 100 + 2):
        assert kept.append(line(number), 1)
    assert len(sealed(folder)) == 2


def test_the_spool_is_bounded_over_all_workers(folder):
    first, second = Spool(folder, 1000), Spool(folder, 1000)
    assert [first.append(line(n), 1) for n in range(7)] == [True] * 7
    second.fill()
    assert [second.append(line(n), 1) for n in range(7, 12)] == [True] * 3 + [False] * 2
    assert first.fill() == second.fill() == 1000
    assert not first.append(line(12), 1)
    first.close()
    second.close()
    assert sorted(lines(folder)) == list(range(10))


def test_there_is_room_again_after_a_delivery_but_not_for_what_was_refused(folder):
    kept = Spool(folder, 1000)
    assert kept.append(line(0) * 10, 10)
    kept.seal()
    assert not kept.append(line(1), 1)
    sealed(folder)[0].rename(folder / REFUSED / "one.jsonl")
    kept.seal()
    assert not kept.append(line(1), 1)
    (folder / REFUSED / "one.jsonl").unlink()
    kept.seal()
    assert kept.append(line(1), 1)


def test_a_loss_is_logged_once_and_so_is_its_end(folder, caplog):
    kept = Spool(folder, 1000)
    kept.append(line(0) * 10, 10)
    kept.seal()
    for _ in range(5):
        assert not kept.append(line(1) * 3, 3)
    kept.seal()
    sealed(folder)[0].unlink()
    kept.seal()
    kept.seal()
    first, second = (record.getMessage() for record in caplog.records)
    assert "answered but not kept" in first
    assert "kept again; 15 were not" in second


def test_segments_stay_few_while_the_database_is_down(folder):
    kept = Spool(folder, LIMIT)
    for number in range(100):
        kept.append(line(number), 1)
        kept.seal()
    assert len(sealed(folder)) == spool.WAITING
    kept.close()
    assert lines(folder) == list(range(100))


def test_a_closed_spool_keeps_nothing(folder):
    kept = Spool(folder, LIMIT)
    kept.append(line(0), 1)
    kept.close()
    assert not kept.append(line(1), 1)
    kept.close()
    assert lines(folder) == [0]


DIE = """
for number in range(10):
    assert spool.append(str(number).encode().rjust(99, b"0") + b"\\n", 1)
    if number == 6:
        spool.seal()
os.kill(os.getpid(), 9)
"""


def test_what_a_killed_worker_has_left_is_sealed_but_not_that_of_the_living(folder, child):
    alive = Spool(folder, LIMIT)
    assert alive.append(line(99), 1)
    assert child(DIE, folder).returncode == -signal.SIGKILL
    assert len(list(folder.glob(f"*{ACTIVE}"))) == 2
    new = Spool(folder, LIMIT)
    assert lines(folder) == list(range(10))
    assert new.append(line(98), 1)
    alive.close()
    new.close()
    assert sorted(lines(folder)) == [*range(10), 98, 99]


def test_the_next_start_of_fewer_workers_seals_all_slots(folder, child):
    alive = Spool(folder, LIMIT)
    child(DIE, folder)
    alive.close()
    Spool(folder, LIMIT)
    assert lines(folder) == list(range(10))


FULL_DISK = """
import resource
def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
def line(number):
    return str(number).encode().rjust(99, b"0") + b"\\n"
limit(1050)
print([spool.append(line(2 * n) + line(2 * n + 1), 2) for n in range(8)])
limit(resource.RLIM_INFINITY)
print(spool.append(line(10), 1))
spool.close()
"""


def test_a_full_disk_damages_no_neighbour(folder, child):
    """The sixth write fits by half; the file ends where the fifth did, and goes on from there."""
    pytest.importorskip("resource")
    done = child(FULL_DISK, folder)
    assert done.stdout.splitlines() == [str([True] * 5 + [False] * 3), "True"], done.stderr
    assert lines(folder) == list(range(11))


def test_a_part_that_cannot_be_cut_off_damages_no_neighbour(folder, monkeypatch):
    kept = Spool(folder, LIMIT)
    assert kept.append(line(0), 1)
    write = os.write

    def refuse(*_):
        raise OSError("no")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda file, records: write(file, records[:50]))
        patch.setattr(os, "ftruncate", refuse)
        assert not kept.append(line(1), 1)
        assert not kept.append(line(2), 1)
    assert kept.append(line(3), 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda file, records: write(file, records[:50]))
        patch.setattr(os, "ftruncate", refuse)
        assert not kept.append(line(4), 1)
        kept.seal()
    assert kept.append(line(5), 1)
    kept.close()
    first, second = (segment.read_bytes() for segment in sealed(folder))
    assert first == line(0) + line(3) + line(4)[:50]
    assert second == line(5)


def test_a_segment_that_cannot_be_sealed_is_kept_and_told_once(folder, monkeypatch, caplog):
    kept = Spool(folder, LIMIT)

    def refuse(_):
        raise OSError("no")

    with monkeypatch.context() as patch:
        patch.setattr(spool, "_seal", refuse)
        for number in range(3):
            assert kept.append(line(number), 1)
            kept.seal()
    kept.append(line(3), 1)
    kept.seal()
    assert lines(folder) == [0, 1, 2, 3]
    assert len(caplog.records) == 1


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ProjectError, match="cannot be kept here"):
        Spool(tmp_path / "file" / "spool", LIMIT)


def test_others_cannot_read_what_is_kept(folder):
    Spool(folder, LIMIT).append(line(0), 1)
    (active,) = folder.glob(f"*{ACTIVE}")
    if os.name == "posix":
        assert active.stat().st_mode & 0o077 == 0
