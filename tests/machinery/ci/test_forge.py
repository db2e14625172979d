"""What ci/ asks of the provider: changes, releases, protection; a server here answers."""

import pytest
from conftest import one_sentence
from loopback import TOKEN, Refusal, forge_server, git

from iris_flower_prediction.errors import ProjectError

SERVER = forge_server()
HOSTILE = "`id` $(id) \"two\" 'one' \\ <b>\n/merge\n@all"


@pytest.fixture
def module(pushed, hub, monkeypatch):
    """module(name) of ci/, as a runner of the provider has it."""
    for name, value in (hub.variables() | {"NO_PROXY": "127.0.0.1"}).items():
        monkeypatch.setenv(name, value)
    import origin

    monkeypatch.setattr(origin, "PROJECT", pushed.folder)
    return __import__


def protect(pushed, hub, *words, **variables):
    variables = hub.variables() | {"NO_PROXY": "127.0.0.1"} | variables
    return pushed.run(pushed.folder / "ci/protect.py", *words, **variables)


def test_a_change_is_opened_and_then_renewed(module, hub):
    for branch in ("renew/one", "renew/two"):
        module("change").push("HEAD", branch)
    forge = module("forge")
    first = forge.open_change("renew/one", "One", HOSTILE)
    other = forge.open_change("renew/two", "Two", "")
    again = forge.open_change("renew/one", f"Newer {HOSTILE}", "Body")
    assert first == again != other
    assert hub.changes() == [
        {"branch": "renew/one", "title": f"Newer {HOSTILE}", "body": "Body"},
        {"branch": "renew/two", "title": "Two", "body": ""},
    ]


def test_a_change_holds_what_was_named_and_touches_nothing_else(module, pushed, hub):
    folder = pushed.folder
    (folder / "config/new.toml").write_text("new = 1\n", "utf-8")
    (folder / "config/prod.toml").unlink()
    (folder / "src/other.py").write_text("", "utf-8")
    git(folder, "add", "src/other.py")
    change = module("change")
    assert change.propose("renew/x", "New", "Body", "config").startswith("http")
    told = git(hub.bare, "diff", "--name-status", "main", "renew/x")
    assert told.split() == ["A", "config/new.toml", "D", "config/prod.toml"]
    assert git(folder, "branch", "--show-current") == "main"
    assert git(folder, "diff", "--cached", "--name-only") == "src/other.py"
    # The token is in no file.
    assert TOKEN not in (folder / ".git/config").read_text("utf-8")
    git(folder, "checkout", "--quiet", "--", "config/prod.toml")
    (folder / "config/new.toml").unlink()
    assert change.propose("renew/y", "Nothing", "", "config") is None
    assert hub.branch("renew/y") is None


def test_a_release_is_made_once(module, pushed, hub):
    forge, revision = module("forge"), git(pushed.folder, "rev-parse", "HEAD")
    first = forge.release("v1.0", revision, HOSTILE)
    assert hub.named("refs/tags/v1.0") == revision
    assert forge.release("v1.0", revision, "again") == first
    git(pushed.folder, "commit", "--quiet", "--allow-empty", "--message", "Second")
    second = git(pushed.folder, "rev-parse", "HEAD")
    with pytest.raises(ProjectError, match=r"the tag v1\.0 is there for"):
        forge.release("v1.0", second, "")
    assert hub.named("refs/tags/v1.0") == revision


def test_everything_is_protected_and_again_changes_nothing(pushed, hub):
    wanted = {
        "branch": True,
        "nobody pushes": True,
        "no force": True,
        "linear": True,
        "green": True,
        "reviewed": True,
        "owners": True,
        "stale": True,
        "not by oneself": True,
        "reviewers": sorted(SERVER.REVIEWERS),
        "environments": ["nonprod", "prod"],
    }
    counts = []
    for _ in range(2):
        done = protect(pushed, hub, *SERVER.REVIEWERS)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.endswith("All of it is in force.\n")
        assert hub.facts() == wanted
        counts.append(hub.objects())
    assert counts[0] == counts[1]
    third = protect(pushed, hub, SERVER.REVIEWERS[0])
    assert third.returncode == 0
    assert hub.facts()["reviewers"] == [SERVER.REVIEWERS[0]]


def test_a_dry_run_says_what_it_would_do(pushed, hub):
    done = protect(pushed, hub, "--dry-run", "anna")
    assert (done.returncode, done.stderr) == (0, "")
    assert {line.partition(":")[0] for line in done.stdout.splitlines()} >= {"main", "prod"}
    assert hub.asked == []


def test_without_a_token_it_says_what_is_missing(pushed, hub):
    done = protect(pushed, hub, "anna", **{hub.VARIABLE: ""})
    assert f"the variable {hub.VARIABLE} is missing." in one_sentence(done)
    assert "prod:" in done.stdout
    assert hub.asked == []


def test_a_wrong_token_is_one_sentence(pushed, hub):
    done = protect(pushed, hub, "anna", **{hub.VARIABLE: "another"})
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "the token is not valid" in line


def test_what_a_plan_lacks_does_not_keep_the_rest_away(pushed, hub):
    def refuse(method, path):
        if hub.PROD in path:
            raise Refusal(403, "Upgrade")

    hub.trouble = refuse
    done = protect(pushed, hub, *SERVER.REVIEWERS)
    assert done.returncode == 1
    assert "error: prod: " in done.stderr
    assert "Upgrade" in done.stderr
    assert "Traceback" not in done.stderr
    assert "error: main" not in done.stderr


def test_nobody_of_that_name_is_one_sentence(pushed, hub):
    done = protect(pushed, hub, "nobody-here")
    assert done.returncode == 1
    assert "error: prod: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_busy_server_is_asked_again(module, hub, monkeypatch):
    http_json, waited = module("http_json"), []
    monkeypatch.setattr(http_json, "sleep", waited.append)
    left = [429, 503]

    def busy(method, path):
        if left:
            raise Refusal(left.pop(), "later", Retry_After="7")

    hub.trouble = busy
    module("change").push("HEAD", "renew/one")
    assert module("forge").open_change("renew/one", "One", "")
    assert waited == [7, 7]
    left.extend([500] * 9)
    with pytest.raises(http_json.RefusedError, match="HTTP 500"):
        module("forge").open_change("renew/one", "One", "")
    assert len(waited) == 2 + http_json.TRIES - 1


def test_the_token_goes_to_no_other_address(module, hub, tmp_path):
    other = SERVER.Forge(tmp_path / "other")

    def elsewhere(method, path):
        raise Refusal(307, "moved", Location=other.url + path)

    hub.trouble = elsewhere
    with pytest.raises(ProjectError, match="is redirected to"):
        module("forge").release("v1", "0" * 40, "")
    assert other.asked == []
    other.stop()


@pytest.mark.parametrize("url", SERVER.ORIGINS)
def test_a_laptop_takes_the_address_of_its_origin(module, hub, pushed, monkeypatch, url):
    for name in hub.variables():
        monkeypatch.delenv(name)
    git(pushed.folder, "remote", "set-url", "origin", url)
    assert SERVER.where(module("forge")) == SERVER.ORIGINS[url]
    assert "password" not in module("origin").url()


def test_newer_requirements_are_a_change(pushed, hub):
    (pushed.folder / "Makefile").write_text("lock:\n\techo 'a==2' >requirements.txt\n", "utf-8")
    (pushed.folder / "requirements.txt").write_text("a==1\n", "utf-8")
    git(pushed.folder, "add", "--all")
    git(pushed.folder, "commit", "--quiet", "--message", "Locks")
    variables = hub.variables() | {"NO_PROXY": "127.0.0.1"}
    words = (pushed.folder / "ci/renew.py", "requirements")
    done = pushed.run(*words, **variables)
    assert (done.returncode, done.stderr) == (0, "")
    assert git(hub.bare, "show", "renew/requirements:requirements.txt") == "a==2"
    [change] = hub.changes()
    assert (change["branch"], change["title"]) == ("renew/requirements", "Newer requirements")
    git(pushed.folder, "commit", "--quiet", "--all", "--message", "Merged")
    assert pushed.run(*words, **variables).stdout.endswith("Nothing is newer.\n")
    (pushed.folder / "Makefile").write_text("lock:\n\tfalse\n", "utf-8")
    done = pushed.run(*words, **variables)
    assert done.returncode == 1
    assert done.stderr.startswith("error: `make lock …` exited 2:")


def test_a_project_without_cruft_says_so(pushed, hub):
    done = pushed.run(pushed.folder / "ci/renew.py", "template", **hub.variables())
    assert done.returncode == 0
    assert "there is no .cruft.json" in done.stdout
    assert hub.asked == []
