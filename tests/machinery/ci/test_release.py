"""What names a release, and what stands beside it."""

import json
import shutil
import subprocess
from datetime import UTC, datetime

import origin
import pytest
import release
import released
from release import Release

from iris_flower_prediction.errors import ProjectError

ONE = Release("ghcr.io/acme/iris", f"sha256:{'a' * 64}", "b" * 40, "c" * 64, "1.0.0")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository of git with two commits; git(...) gives what git says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "config"))
    (tmp_path / "config").write_text("[user]\nname = A team\nemail = team@example.com\n")

    def git(*words: str) -> str:
        command = [shutil.which("git"), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    git("init", "--quiet", "--initial-branch=main")
    for message in ("First", "Second"):
        git("commit", "--quiet", "--allow-empty", "--message", message)
    return git


def test_a_release_is_read_as_it_was_written(tmp_path):
    release.write(tmp_path, ONE)
    assert release.read(tmp_path) == ONE
    assert ONE.image == f"ghcr.io/acme/iris@sha256:{'a' * 64}"


@pytest.mark.parametrize(
    "content", ["", "{}", "[1]", '{"repository": 1}', json.dumps({"digest": "sha256:1"})]
)
def test_a_damaged_release_is_told_in_a_sentence(tmp_path, content):
    (tmp_path / "release.json").write_text(content, "utf-8")
    with pytest.raises(ProjectError, match="is missing or damaged"):
        release.read(tmp_path)


def test_a_release_without_a_whole_digest_is_refused(tmp_path):
    release.write(tmp_path, Release("ghcr.io/acme/iris", "sha256:1", "b" * 40, "c" * 64, "1.0.0"))
    with pytest.raises(ProjectError, match="'sha256:1' is no digest of an image"):
        release.read(tmp_path)


def test_repositories_are_in_lower_case():
    assert release.named("ghcr.io/Acme/Iris") == "ghcr.io/acme/iris"


@pytest.mark.parametrize("text", ["", "iris", "-x/iris", "ghcr.io/acme/iris --tag", "a/b@sha256:1"])
def test_what_names_no_repository_is_refused(text):
    with pytest.raises(ProjectError, match="name a repository of images, registry first"):
        release.named(text)


def test_a_commit_descends_from_those_before_it(repository):
    first, second = (repository("rev-parse", name).strip() for name in ("HEAD~1", "HEAD"))
    assert release.descends(second, first)
    assert release.descends(second, second)
    assert not release.descends(first, second)
    # Of a history that this checkout does not have nothing is known.
    assert release.descends(second, "f" * 40)


def test_the_tag_of_a_release_is_its_day_and_number(repository):
    today = f"v{datetime.now(UTC):%Y.%m.%d}"
    revision = repository("rev-parse", "HEAD").strip()
    assert released.tag_of(revision) == (today, False)
    repository("tag", today, "HEAD~1")
    assert released.tag_of(revision) == (f"{today}.1", False)
    repository("tag", f"{today}.1", "HEAD")
    assert released.tag_of(revision) == (f"{today}.1", True)


def test_the_origin_shows_no_password():
    assert origin.without_password("https://me:secret@example.com/a") == "https://example.com/a"
    assert origin.without_password("git@example.com:a/b.git") == "git@example.com:a/b.git"
