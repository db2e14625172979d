"""Which answers are taken, which are refused, and what the user reads then."""

import json
import re

import post_gen_project
import pre_gen_project
import pytest
from conftest import CHOICES, HOSTILE, QUESTIONS, TEMPLATE, attempt, run

GOOD = {
    "project_name": "Iris",
    "project_slug": "iris",
    "description": "Predicts.",
    "author_name": "A team",
    "author_email": "team@example.com",
    **{key: answers[0] for key, answers in CHOICES.items()},
}
COOKIECUTTER = ("cookiecutter", str(TEMPLATE), "--default-config")


def problems(**answers):
    return list(pre_gen_project.problems(GOOD | answers))


def test_good_answers_have_no_problem():
    assert problems() == []


@pytest.mark.parametrize(
    ("slug", "reason"),
    [
        ("", "must start with a letter"),
        ("2-flowers", "must start with a letter"),
        ("-flowers", "must start with a letter"),
        ("Flowers", "lower-case"),
        ("two flowers", "lower-case"),
        ("flowers-", "single hyphens"),
        ("flowers--red", "single hyphens"),
        ("../flowers", "lower-case"),
        ("ação", "lower-case"),
        ("flowers\n", "lower-case"),
        ("class", "a Python keyword"),
        ("json", "a module of Python's standard library"),
        ("sklearn", "a library that the project depends on"),
        ("scikit-learn", "a library that the project depends on"),
        ("pyarrow", "a library that the project depends on"),
        ("tests", "the project itself"),
        ("aux", "a device name on Windows"),
        ("com1", "a device name on Windows"),
        ("f" * 41, "at most 40 characters"),
    ],
)
def test_slug_is_refused(slug, reason):
    found = problems(project_slug=slug)
    assert len(found) == 1
    assert reason in found[0]


@pytest.mark.parametrize("slug", ["flowers", "red-flowers", "red_flowers_2", "f" * 40])
def test_slug_is_taken(slug):
    assert problems(project_slug=slug) == []


@pytest.mark.parametrize(
    "email", ["", "team", "team@", "@example.com", "team@example", "a b@example.com", "a@b.c\n"]
)
def test_email_is_refused(email):
    assert problems(author_email=email) == [
        f"author_email {email!r} must be an e-mail address such as name@example.com."
    ]


@pytest.mark.parametrize("key", pre_gen_project.FREE_TEXT)
@pytest.mark.parametrize("text", ["", " \n", "bell\a", "nul\0", "escape\x1b[31m", "next\x85line"])
def test_text_is_refused(key, text):
    (problem,) = problems(**{key: text})
    assert problem.startswith(key)


@pytest.mark.parametrize("key", pre_gen_project.FREE_TEXT)
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_taken(key, text):
    assert problems(**{key: text}) == []


@pytest.mark.parametrize("key", CHOICES)
def test_unknown_choice_is_refused(key):
    (problem,) = problems(**{key: "3.10"})
    assert all(choice in problem for choice in CHOICES[key])


def test_all_problems_are_reported_at_once_and_nothing_is_left(refuse):
    output = refuse(project_slug="class", author_email="team", author_name=" ")
    for sentence in problems(project_slug="class", author_email="team", author_name=" "):
        assert sentence in output.splitlines()


@pytest.mark.parametrize("key", CHOICES)
def test_cookiecutter_refuses_an_unknown_choice(refuse, key):
    output = refuse(**{key: "something else"})
    assert f"something else provided for choice variable {key}, but the choices are" in output


def test_an_existing_project_survives_refused_answers(bake, tmp_path):
    project = bake().copy_to(tmp_path)
    before = dict(project.texts())
    done = attempt(
        *COOKIECUTTER, "--no-input", "--overwrite-if-exists", "author_email=team", cwd=tmp_path
    )
    assert done.returncode == 1
    assert dict(project.texts()) == before


def test_typed_answers_are_text_whatever_they_look_like(tmp_path):
    typed = ["Iris", "typed", "", HOSTILE["jinja"], 'A "team"', "team@example.com"]
    output = run(*COOKIECUTTER, cwd=tmp_path, input="\n".join(typed) + "\n" * len(QUESTIONS))
    assert "make run" in output
    assert HOSTILE["jinja"] in (tmp_path / "typed" / "README.md").read_text("utf-8")


def test_every_question_and_every_answer_is_explained():
    prompts = json.loads((TEMPLATE / "cookiecutter.json").read_text("utf-8"))["__prompts__"]
    assert list(prompts) == list(QUESTIONS)
    for key, answers in CHOICES.items():
        assert prompts[key].keys() == {"__prompt__", *answers}
    # The terminal would read words in brackets as colours and not show them.
    assert "[" not in "".join(map(str, prompts.values())).replace("{'", "")


def test_the_hooks_know_the_answers_that_are_offered():
    assert {key: list(answers) for key, answers in pre_gen_project.CHOICES.items()} == CHOICES
    for question, answers in [*post_gen_project.VARIANTS, *post_gen_project.ONLY]:
        assert set(answers) <= set(CHOICES[question])


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Previsão de Demanda", "previsao-de-demanda"),
        ("🌸", "my-model"),
        ("one word after another until it is too long", "one-word-after-another-until-it-is-too"),
    ],
)
def test_slug_is_derived(bake, name, slug):
    assert bake(project_name=name).path.name == slug


def test_package_is_named_after_the_slug(bake):
    project = bake(project_slug="red-flowers")
    assert "src/red_flowers/__init__.py" in project.files()


def test_the_oldest_cookiecutter_renders_the_same(bake, tmp_path):
    oldest = re.search(
        r'"cookiecutter>=([\d.]+)"', (TEMPLATE / "pyproject.toml").read_text("utf-8")
    )
    run(
        *("uvx", "--quiet", f"cookiecutter@{oldest[1]}.0", *COOKIECUTTER[1:], "--no-input"),
        cwd=tmp_path,
    )
    assert {
        path.relative_to(tmp_path).as_posix(): path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file()
    } == {f"{bake()}/{name}": (bake().path / name).read_bytes() for name in bake().files()}


def test_replayed_answers_are_checked_too(tmp_path):
    answers = {"cookiecutter": GOOD | {"python_version": "3.10", "__package_name": "iris"}}
    for name in ("project_name", "description", "author_name"):
        answers["cookiecutter"] |= {f"__{name}_line": "x", f"__{name}_toml": "x"}
    (tmp_path / "answers.json").write_text(json.dumps(answers), "utf-8")
    done = attempt(*COOKIECUTTER, "--replay-file", "answers.json", cwd=tmp_path)
    assert "python_version '3.10' must be one of 3.11, 3.12, 3.13." in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["answers.json"]
