"""Do a rendered project's own tests pass, also with other data and another model?"""

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
    """A copy of a project in which a user puts data and a model of his own."""
    project = install(**request.param)
    ignored = shutil.ignore_patterns(".git", ".venv*", "mlflow.db", "mlartifacts")
    copy = shutil.copytree(project.path, tmp_path / project.path.name, ignore=ignored)
    return Swapped(Project(copy), project.path / ".venv" / "bin")


class Swapped:
    def __init__(self, project, programs):
        self.project, self.programs = project, programs
        self.source = project.path / "src" / project.package

    def bash(self, script):
        """What a script prints in the activated environment; this copy's code comes first."""
        variables = {"PYTHONPATH": str(self.source.parent)}
        return in_shell(self.programs, script, self.project.path, seconds=900, **variables)

    def replace(self, name, pattern, text):
        """Put a text in the place of what a pattern matches once in a file."""
        file = self.project.path / name
        changed, count = re.subn(pattern, lambda _: text, file.read_text("utf-8"), flags=re.S)
        assert count == 1, f"{name}: {pattern}"
        file.write_text(changed, "utf-8")

    def set_section(self, section, settings):
        """Put settings in the place of those of their names, in both environments."""
        names = "|".join(re.findall(r"(?m)^(\w+) =", settings))
        for environment in ("nonprod", "prod"):
            file = self.project.path / "config" / f"{environment}.toml"
            before, mark, rest = file.read_text("utf-8").partition(f"{section}\n")
            own, end, rest = rest.partition("\n\n")
            own = re.sub(rf"(?m)^({names}|minimum|maximum) = .*\n?", "", own)
            file.write_text(before + mark + settings + own + end + rest, "utf-8")

    def served(self, code):
        """A script that asks the API, while there is one."""
        if ":8000" not in code:
            return code
        port = free_port()
        ready = f"curl --silent --fail http://127.0.0.1:{port}/ping"
        return f"""
            python -m {self.project.package} serve --port {port} &>serve.log & trap "kill $!" EXIT
            for second in $(seq 60); do {ready} >/dev/null && break; sleep 1; done
        """ + code.replace(":8000", f":{port}")

    def put(self, name, code):
        """A file of the page, or, of model.py, what is new in it."""
        if name.endswith("model.py"):
            merge(self, name, code)
        else:
            (self.project.path / name).write_text(code, "utf-8")

    def follow(self):
        """The two documents that the contract decides."""
        table = self.bash(f"python -m {self.project.package} contract")
        self.replace("docs/contract.md", r"\| column \|.*?(?=\n\n)", table.strip())
        if (self.project.path / "docs/openapi.json").exists():
            self.bash(f"rm docs/openapi.json; python -m {self.project.package} openapi")


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
    swapped.follow()
    assert_all_passed(swapped.bash("python -m pytest"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "swapped", [in_group(BOTH), in_group(API_OF_NUMBERS)], ids=label, indirect=True
)
def test_they_pass_at_the_end_of_the_page_about_data_of_your_own(swapped):
    """From the first block to the last, each answered as the page shows."""
    blocks = FENCES.findall(swapped.project.text("docs/bring-your-own-data.md"))
    for (language, code), (following, shown) in pairwise([*blocks, ("", "")]):
        if language == "python":
            swapped.put(*re.match(r"# (\S+)\n(.*)", code, re.S).groups())
        elif language == "toml":
            swapped.set_section(*re.match(r"(\[\w+\])\n(.*)", code, re.S).groups())
        elif language == "bash":
            found = swapped.bash(swapped.served(code.replace("make test", "python -m pytest")))
            assert following != "text" or shows("text", shown, found), f"{code}\n{found}"
            if code.endswith(" contract\n"):
                swapped.replace("docs/contract.md", r"\| column \|.*?(?=\n\n)", found.strip())
    assert_all_passed(found)


def merge(swapped, name, code):
    """As the page says: the imports are added, and the functions replace those of their name."""
    imports, build, *features = re.split(r"\n\n\n(?=def )", code.strip())
    own = "" if "from .contract import" in swapped.project.text(name) else imports
    rest = "\n".join(line for line in imports.splitlines() if line.startswith("from sklearn"))
    swapped.replace(name, r"(?<=import numpy as np\n)", (own or rest) + "\n")
    for function in (build, *features):
        start = re.match(r"def \w+\(", function)[0]
        if start in swapped.project.text(name):
            swapped.replace(name, rf"(?<=\n){re.escape(start)}.*?(?=\n\n\n|\n$)", function)
        else:
            swapped.replace(name, r"(?=\n\n\ndef evaluate)", f"\n\n\n{function}")
