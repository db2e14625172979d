"""Failed tests of a real run as annotations: file, line, and texts that GitHub reads as text."""

import shutil

import pytest
from conftest import CHECKOUT, one_sentence

FAILING = """
import pytest


@pytest.fixture
def broken():
    raise OSError("no setup")


@pytest.mark.parametrize("word", ["a,b: 100%"])
def test_of_a_word(word):
    assert word == "first line\\r\\nsecond", "::error::one\\ntwo"


class TestClass:
    def test_in_it(self):
        int("nothing")


def test_after(broken):
    pass


def test_that_passes():
    pass
"""


@pytest.fixture
def annotate(project):
    """annotate(TEXT) runs that as tests/unit/test_x.py, and the program on its report."""
    shutil.copytree(CHECKOUT / "ci", project.folder / "ci")
    (project.folder / "tests/unit").mkdir(parents=True)

    def run(text: str) -> list[str]:
        (project.folder / "tests/unit/test_x.py").write_text(text, "utf-8")
        words = ("tests/unit", "--rootdir=.", "--junitxml=build/reports/tests.xml", "-q")
        (project.folder / "run.py").write_text(
            f"import pytest, sys\nsys.exit(pytest.main({[*words]}))\n", "utf-8"
        )
        assert project.run("run.py").returncode in (1, 2)
        (project.folder / "build/reports/coverage.xml").write_text("no report", "utf-8")
        done = project.run("ci/annotate.py", "build/reports")
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()

    return run


def test_each_failure_is_at_its_line(annotate):
    word, method, setup = annotate(FAILING)
    start = "::error file=tests/unit/test_x.py,line="
    title = "test_of_a_word[a%2Cb%3A 100%25]"
    assert word.startswith(f"{start}12,title={title}::AssertionError: ::error::one%0A")
    assert "100%25" in word.rpartition("::")[2]
    assert method.startswith(f"{start}17,title=test_in_it::ValueError: invalid literal")
    assert setup.startswith(f"{start}7,title=test_after::failed on setup")


def test_a_module_that_cannot_be_imported_is_one(annotate):
    [line] = annotate("import nowhere\n")
    assert line.startswith("::error file=tests/unit/test_x.py,line=1,title=tests.unit.test_x::")


def test_there_are_not_more_than_github_shows(annotate):
    assert len(annotate("".join(f"def test_{n}():\n    assert 0\n" for n in range(12)))) == 10


def test_no_report_is_one_sentence(project):
    shutil.copytree(CHECKOUT / "ci", project.folder / "ci")
    assert "no report" in one_sentence(project.run("ci/annotate.py", "build/reports"))
    (project.folder / "cut.xml").write_text("<testsuites>", "utf-8")
    assert "cannot be read" in one_sentence(project.run("ci/annotate.py", "."))
