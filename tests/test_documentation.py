"""Is what the README and docs/api.md show of the API what a rendered project really answers?"""

import json
import math
import os
import re
import shutil
import signal
import subprocess
from contextlib import contextmanager

import pytest
from conftest import FLAVORS, clean_environment, free_port, is_ready, label, wait_for

PAGES = ("README.md", "docs/api.md")
ADDRESS = "http://127.0.0.1:8000"
FENCES = re.compile(r"(?m)^```(\w+)\n((?:.*\n)*?)```$")
# What is typed into another terminal while the API runs; to start it, or an image, is not.
TYPED = re.compile(rf"(?m)^(?!mkdir|docker|make).*({ADDRESS}[/ ]| api-key )|^import ")
# Another one for every request.
VOLATILE = {"request_id"}
APIS = [each for each in FLAVORS if each["deployment_flavor"] != "batch"]
EVERY_API = pytest.mark.parametrize(
    "answers",
    [pytest.param(each, marks=pytest.mark.xdist_group(label(each))) for each in APIS],
    ids=label,
)


def examples(page):
    """(language, code, kind of the answer, the answer) of all that a reader may type in order.

    Several blocks may share one answer, which stands below them in the same section; "" is none.
    """
    for section in re.split(r"(?m)^##+ ", page):
        blocks = FENCES.findall(section)
        for index, (language, code) in enumerate(blocks):
            if language in ("bash", "python") and TYPED.search(code):
                others = (block for block in blocks[index:] if block[0] in ("json", "text"))
                yield language, code, *next(others, ("", ""))


def typed(project, port, language, code):
    """What the code prints in an activated environment, sent to the API on this port."""
    program = ("bash", "-euc") if language == "bash" else ("python", "-c")
    path = os.pathsep.join([str(project.path / ".venv" / "bin"), os.environ["PATH"]])
    environment = clean_environment() | {"PATH": path, "no_proxy": "127.0.0.1"}
    done = subprocess.run(
        [shutil.which(program[0], path=path), program[1], code.replace(":8000", f":{port}")],
        cwd=project.path,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    assert done.returncode == 0, f"{code}\n{done.stdout}{done.stderr}"
    return done.stdout


def shows(kind, documented, found):
    """Whether an answer holds what the document shows of it."""
    if kind == "json":
        return holds(json.loads(found), json.loads(documented))
    # A last digit may differ from processor to processor.
    words, others = (re.findall(r"[^\s\[\]]+", text) for text in (found, documented))
    return len(words) == len(others) and all(map(equal, map(number, words), map(number, others)))


def number(word):
    try:
        return float(word)
    except ValueError:
        return word


def holds(found, documented):
    if isinstance(documented, dict):
        return all(
            name in VOLATILE or (name in found and holds(found[name], value))
            for name, value in documented.items()
        )
    if isinstance(documented, list):
        return len(found) == len(documented) and all(map(holds, found, documented))
    return equal(found, documented)


def equal(one, other):
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-4)
    return one == other


@contextmanager
def serving(project, log):
    """The port of the API of a project's champion."""
    port = free_port()
    with log.open("w") as out:
        process = subprocess.Popen(
            ["make", "serve"],
            cwd=project.path,
            env=clean_environment() | {"PORT": str(port)},
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        wait_for(lambda: is_ready(port), 120, log.read_text)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(60)


@pytest.mark.slow
@EVERY_API
def test_what_a_reader_types_is_answered_as_documented(install, answers, tmp_path):
    project = install(**answers)
    if not (project.path / "mlflow.db").exists():
        project.run("make", "train")
    # What was trained again since is no better, and so the first version is still the champion.
    with serving(project, tmp_path / "log") as port:
        for name in PAGES:
            for language, code, kind, documented in examples(project.text(name)):
                found = typed(project, port, language, code)
                assert not kind or shows(kind, documented, found), f"{name}\n{code}\n{found}"
    assert project.run("git", "status", "--porcelain") == ""


@EVERY_API
def test_the_examples_are_found(bake, answers):
    """The pages show them as the test above looks for them."""
    project = bake(**answers)
    found = {name: list(examples(project.text(name))) for name in PAGES}
    assert [language for language, *_ in found["README.md"]] == ["bash", "python", "bash"]
    commands = "".join(code for _, code, *_ in found["docs/api.md"])
    for path in ("/predict", "/invocations", "/infer", "/health/ready", "/model"):
        assert path in commands
    # Only the table of predictions of `predict` is shown nowhere.
    assert [code for page in found.values() for _, code, kind, _ in page if not kind] == [
        f"python -m {project.package} predict --url {ADDRESS} data/raw/example.csv\n"
    ]
    whole = "".join(project.text(name) for name in PAGES)
    assert whole.count(f"curl {ADDRESS}/") + whole.count(f'curl "{ADDRESS}/') == len(
        re.findall(r"\bcurl\b", commands + found["README.md"][0][1])
    )


@pytest.mark.parametrize(
    "answers", [each for each in FLAVORS if each["deployment_flavor"] == "batch"], ids=label
)
def test_a_batch_project_tells_of_no_api(bake, answers):
    project = bake(**answers)
    for name, text in project.texts():
        if name.endswith(".md"):
            assert not re.search(r"\b(API|serve|curl|8000)\b", text), name
