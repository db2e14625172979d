"""Do a rendered project's own tests pass, also with other data and another model?"""

import json
import re
import shutil
from itertools import pairwise

import pytest
from conftest import FENCES, HOSTILE, TEMPLATE, Project, free_port, in_shell, label
from test_documentation import shows

BOTH = {"problem_type": "classification", "deployment_flavor": "both"}
API_OF_NUMBERS = {"problem_type": "regression", "deployment_flavor": "api"}
BATCH_OF_NUMBERS = {"problem_type": "regression", "deployment_flavor": "batch"}
SWAPS = sorted(path.name for path in (TEMPLATE / "tests/swaps").iterdir())
YOURS = ("contract.py", "data.py", "model.py")
EXAMPLE = r"SEPAL|PETAL|SPECIES|(?i:setosa|virginica)|\bBMI\b|GLUCOSE|PROGRESSION"


def in_group(answers, *marks):
    """Answers whose environment one worker makes."""
    return pytest.param(answers, marks=[pytest.mark.xdist_group(label(answers)), *marks])


def assert_all_passed(output):
    closings = re.findall(r"(?m)^=* ?(\d+ passed.*?) in [\d.]+s", output)
    assert closings, output
    for closing in closings:
        assert not re.search("failed|skipped|error|xfailed|warning", closing), output


@pytest.mark.parametrize(
    "answers", [in_group(BOTH), in_group(API_OF_NUMBERS, pytest.mark.slow)], ids=label
)
def test_they_pass(install, answers):
    assert_all_passed(install(**answers).run("make", "test"))


@pytest.mark.slow
@pytest.mark.xdist_group("hostile")
def test_they_pass_with_hostile_answers(install):
    everything = " ".join(HOSTILE.values())
    texts = dict.fromkeys(("project_name", "description", "author_name"), everything)
    project = install(**BATCH_OF_NUMBERS, **texts, project_slug="f" * 40)
    assert_all_passed(project.run("make", "test"))


@pytest.fixture
def swapped(request, install, tmp_path):
    """A copy of a project to which a user adds other data and another model."""
    project = install(**request.param)
    ignored = shutil.ignore_patterns(".git", ".venv*", "mlflow.db", "mlartifacts")
    copy = shutil.copytree(project.path, tmp_path / project.path.name, ignore=ignored)
    (copy / ".venv").symlink_to(project.path / ".venv", target_is_directory=True)
    swapped = Swapped(Project(copy), project.path / ".venv" / "bin")
    swapped.bash("touch .venv/.ready-$(pwd | cksum | cut -d ' ' -f 1)")
    return swapped


class Swapped:
    def __init__(self, project, programs):
        self.project, self.programs = project, programs
        self.source = project.path / "src" / project.package

    def bash(self, script):
        """The output of a script in the activated environment; it imports this copy's code."""
        variables = {"PYTHONPATH": str(self.source.parent)}
        return in_shell(self.programs, script, self.project.path, seconds=900, **variables)

    def replace(self, name, pattern, text):
        """Replace the only match of a pattern in a file by a text."""
        file = self.project.path / name
        changed, count = re.subn(pattern, lambda _: text, file.read_text("utf-8"), flags=re.S)
        assert count == 1, f"{name}: {pattern}"
        file.write_text(changed, "utf-8")

    def set_section(self, section, settings):
        """Replace the settings with the same names, in both environments."""
        names = "|".join(re.findall(r"(?m)^(\w+) =", settings))
        for environment in ("nonprod", "prod"):
            file = self.project.path / "config" / f"{environment}.toml"
            before, mark, rest = file.read_text("utf-8").partition(f"{section}\n")
            own, end, rest = rest.partition("\n\n")
            own = re.sub(rf"(?m)^({names}|minimum|maximum) = .*\n?", "", own)
            file.write_text(before + mark + settings + own + end + rest, "utf-8")

    def served(self, code):
        """The script, and a running API if the script uses one."""
        if ":8000" not in code:
            return code
        port = free_port()
        ready = f"curl --silent --fail http://127.0.0.1:{port}/ping"
        return f"""
            python -m {self.project.package} serve --port {port} &>serve.log & trap "kill $!" EXIT
            for second in $(seq 60); do {ready} >/dev/null && break; sleep 1; done
        """ + code.replace(":8000", f":{port}")

    def put(self, name, code):
        """Write a file that the page shows; of model.py, the page shows only the additions."""
        if name.endswith("model.py"):
            add_candidate(self, name, code)
        else:
            (self.project.path / name).write_text(code, "utf-8")

    def walk(self, blocks):
        """Run the blocks of a page, which must print what it shows; returns the last output."""
        for (language, code), (following, shown) in pairwise([*blocks, ("", "")]):
            if language == "python":
                self.put(*re.match(r"# (\S+)\n(.*)", code, re.S).groups())
            elif language == "toml":
                self.set_section(*re.match(r"(\[\w+\])\n(.*)", code, re.S).groups())
            elif language == "bash":
                found = self.bash(self.served(code))
                assert following != "text" or shows("text", shown, found), f"{code}\n{found}"
        return found

    def assert_nothing_of_the_example_is_left(self):
        for name in self.project.files():
            if re.fullmatch(r"README\.md|(docs|src|config|tests)/.*\.(md|json|py|toml|csv)", name):
                assert not re.search(EXAMPLE, self.project.text(name)), name


@pytest.mark.slow
@pytest.mark.parametrize("name", SWAPS)
@pytest.mark.parametrize("swapped", [in_group(BOTH)], ids=label, indirect=True)
def test_they_follow_the_three_files(swapped, name):
    folder = TEMPLATE / "tests" / "swaps" / name
    for file in YOURS:
        shutil.copy(folder / file, swapped.source)
    shutil.copy(folder / "known_answers.csv", swapped.project.path / "tests")
    swapped.set_section("[training]", (folder / "settings.toml").read_text("utf-8"))
    load = f"from {swapped.project.package}.data import load"
    swapped.bash(
        f"python -c '{load}; load(None).head(9).to_csv(\"data/raw/example.csv\", index=False)'"
    )
    swapped.bash("make docs")
    assert_all_passed(swapped.bash("make test"))
    swapped.assert_nothing_of_the_example_is_left()


@pytest.mark.slow
@pytest.mark.parametrize(
    "swapped", [in_group(BOTH), in_group(API_OF_NUMBERS)], ids=label, indirect=True
)
def test_they_pass_at_the_end_of_the_page_about_data_of_your_own(swapped):
    """All blocks run in order, and each prints what the page shows."""
    found = swapped.walk(FENCES.findall(swapped.project.text("docs/bring-your-own-data.md")))
    assert_all_passed(found)
    swapped.assert_nothing_of_the_example_is_left()


@pytest.mark.slow
@pytest.mark.parametrize(
    "swapped", [in_group(BOTH), in_group(BATCH_OF_NUMBERS)], ids=label, indirect=True
)
def test_the_readme_leads_to_predictions_of_your_own(swapped):
    """With the table of docs/bring-your-own-data.md, and with model.py unchanged."""
    page = FENCES.findall(swapped.project.text("docs/bring-your-own-data.md"))
    section = swapped.project.text("README.md").partition("## Your own data")[2]
    predictions = swapped.project.path / "data" / "predictions"
    shutil.rmtree(predictions)  # of other tests of the shared project
    swapped.walk([page[0], *FENCES.findall(section.partition("\n## ")[0])])
    answers = [block for block in page if "tests/known_answers.csv" in block[1]]
    assert_all_passed(swapped.walk(answers))
    manifests = predictions.glob("*/_manifest.json")
    rows = [json.loads(each.read_text("utf-8"))["rows"] for each in manifests]
    assert [each["predicted"] for each in rows] == [2000]


def add_candidate(swapped, name, code):
    """As the page says: add the imports, and one entry to the dictionary that build() returns."""
    imports, entry = code.split("\n\n", 1)
    swapped.replace(name, r"(?<=import numpy as np\n)", imports + "\n")
    swapped.replace(name, r"(?=    }\n\n\ndef _features)", entry)
