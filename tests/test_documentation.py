"""Does a rendered project answer requests as the README and docs/api.md show?"""

import json
import math
import re
import shutil

import pytest
from conftest import EACH, FENCES, FLAVORS, in_shell, label, serving

PAGES = ("README.md", "docs/api.md")
ADDRESS = "http://127.0.0.1:8000"
# Code that users run while the API runs; not the commands that start it or its image.
TYPED = re.compile(r"curl |cat |printf |\(|import |KEY=|python -m \w+ api-key ")
# Different for every request.
VOLATILE = {"request_id"}
# Of these a page shows only the form, because the model decides: how far apart they may be.
MODELS_OWN = {"probabilities": 1.0, "class_probabilities": 1.0}
BATCH, API, BOTH = (
    [each for each in FLAVORS if each["deployment_flavor"] == flavor]
    for flavor in ("batch", "api", "both")
)
EVERY_API = pytest.mark.parametrize("answers", API + BOTH, ids=label)


def examples(page):
    """(language, code, kind of the answer, the answer) of all code that users run, in order.

    Several blocks may share one answer, below them in the same section; "" if there is none.
    """
    for section in re.split(r"(?m)^##+ ", page):
        blocks = FENCES.findall(section)
        for index, (language, code) in enumerate(blocks):
            if language in ("bash", "python") and TYPED.match(code):
                others = (block for block in blocks[index:] if block[0] in ("json", "text"))
                yield language, code, *next(others, ("", ""))


def typed(project, port, language, code):
    """What the code prints in an activated environment, sent to the API on this port."""
    program = ("bash", "-euc") if language == "bash" else ("python", "-c")
    programs, code = project.path / ".venv" / "bin", code.replace(":8000", f":{port}")
    return in_shell(programs, code, project.path, program, no_proxy="127.0.0.1")


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


def holds(found, documented, apart=0.0):
    if isinstance(documented, dict):
        return all(
            name in VOLATILE
            or (name in found and holds(found[name], value, MODELS_OWN.get(name, apart)))
            for name, value in documented.items()
        )
    if isinstance(documented, list):
        alike = len(found) == len(documented)
        return alike and all(holds(*pair, apart) for pair in zip(found, documented, strict=True))
    return equal(found, documented, apart)


def equal(one, other, apart=0.0):
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-4, abs_tol=apart)
    return one == other


@pytest.mark.slow
@pytest.mark.parametrize(
    "answers",
    [pytest.param(each, marks=pytest.mark.xdist_group(label(each))) for each in EACH[1:]],
    ids=label,
)
def test_what_a_reader_types_is_answered_as_documented(install, answers, tmp_path):
    project = install(**answers)
    if not (project.path / "mlflow.db").exists():
        project.run("make", "train")
    # Versions that other tests trained later are no better, so version 1 is still the champion.
    with serving(project, "serve", tmp_path / "log") as port:
        for name in PAGES:
            for language, code, kind, documented in examples(project.text(name)):
                found = typed(project, port, language, code)
                assert not kind or shows(kind, documented, found), f"{name}\n{code}\n{found}"
    assert project.run("git", "status", "--porcelain") == ""


def commands(page):
    """The project's own commands in a page, without those for clouds, Docker or other data."""
    for language, code in FENCES.findall(page):
        for line in code.replace("\\\n", " ").splitlines():
            ours = re.match(r"(ENVIRONMENT=\w+ )?python -m ", line)
            if language == "bash" and ours and not re.search(r"s3://|shop\.db", line):
                yield line.partition("  #")[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "answers",
    [pytest.param(each, marks=pytest.mark.xdist_group(label(each))) for each in BOTH[:1]],
    ids=label,
)
def test_the_commands_of_the_pages_work(install, answers):
    project = install(**answers)
    for name in ("model", "store"):
        shutil.rmtree(project.path / "data" / name, ignore_errors=True)
    # A champion and a challenger of NONPROD, and a champion of PROD.
    for environment in ("nonprod", "nonprod", "prod"):
        project.run("make", "train", f"ENVIRONMENT={environment}")
    found = 0
    for name in ("models", "databases", "environments", "batch"):
        if name == "environments":
            shutil.rmtree(project.path / "data" / "model", ignore_errors=True)
        for command in commands(project.text(f"docs/{name}.md")):
            # `settings check` refuses a laptop as production, and `migrate --check` a database
            # that has not been used and so has no tables.
            may_fail = "true" if re.search(r"settings check|migrate --check", command) else "false"
            typed(project, 0, "bash", f"{command} || {may_fail}")
            found += 1
    assert found >= 12


@EVERY_API
def test_the_examples_are_found(bake, answers):
    """Each that a reader may type."""
    project = bake(**answers)
    texts = {name: project.text(name) for name in PAGES}
    found = {name: list(examples(text)) for name, text in texts.items()}
    languages = {name: [language for language, *_ in page] for name, page in found.items()}
    assert languages["README.md"] == ["bash"]
    for name, page in found.items():
        assert texts[name].count("curl ") == sum(code.count("curl ") for _, code, *_ in page)
        # Programs and tensors print what the text says.
        silent = [code for _, code, kind, _ in page if not kind]
        assert all(re.search("import |/infer", code) for code in silent)


@pytest.mark.parametrize("answers", BATCH, ids=label)
def test_a_batch_project_tells_of_no_api(bake, answers):
    for name, text in bake(**answers).texts():
        if name.endswith(".md"):
            # With curl an alert asks the provider, too.
            known = text.replace("curl --fail", "") if name == "docs/governance.md" else text
            assert not re.search(r"\bAPIs?\b|\bcurl\b|\b8000\b|`serve`", known), name


@pytest.mark.parametrize("answers", API, ids=label)
def test_an_api_project_tells_of_no_batch_job(bake, answers):
    for name, text in bake(**answers).texts():
        if name.endswith(".md"):
            assert not re.search(r"batch job|\bbatch\.|`score`|make score|set aside", text), name
