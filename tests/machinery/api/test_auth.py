"""API keys: who is let in, who is not, and what the command and the file keep to themselves."""

import asyncio
import json
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from iris_flower_prediction import cli, settings
from iris_flower_prediction.api import app, auth, keys
from iris_flower_prediction.api.problems import Problem
from iris_flower_prediction.errors import ProjectError
from iris_flower_prediction.tables import json_files


@pytest.fixture
def file(tmp_path):
    return tmp_path / "secrets" / "keys.json"


@pytest.fixture
def key(file):
    return keys.create(file, "shop")


def authenticator(file, required=True) -> auth.Authenticator:
    return auth.Authenticator(settings.Authentication(required=required, keys=str(file)))


def identify(asked: auth.Authenticator, *headers: tuple[str, str | bytes]) -> str:
    """As asked by a request with a few more headers, as clients send them."""
    others = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    raw = [(n.encode(), v if isinstance(v, bytes) else v.encode()) for n, v in headers]
    return asyncio.run(asked.identify(others + raw))


def refusal(asked: auth.Authenticator, *headers: tuple[str, str | bytes]) -> Problem:
    with pytest.raises(Problem) as caught:
        identify(asked, *headers)
    problem = caught.value
    assert (problem.status, problem.code) == (401, "authentication")
    assert problem.headers["WWW-Authenticate"].startswith("Bearer")
    assert not any(len(value) > 8 and str(value) in problem.detail for _, value in headers)
    return problem


def expire(file, name: str) -> None:
    entries = keys.read(file)
    past = datetime.now(UTC) - timedelta(seconds=1)
    keys.write(file, {**entries, name: entries[name].model_copy(update={"expires": past})})


def test_a_key_names_its_client_in_either_header(file, key):
    other = keys.create(file, "office-2")
    asked = authenticator(file)
    assert identify(asked, ("x-api-key", key)) == "shop"
    assert identify(asked, ("authorization", f"Bearer {key}")) == "shop"
    assert identify(asked, ("authorization", f"bearer {key}")) == "shop"
    assert identify(asked, ("x-api-key", other)) == "office-2"


def test_a_key_is_revoked_whatever_happens_to_the_rest_of_the_housekeeping(monkeypatch):
    def fail():
        raise ValueError

    refreshed = []
    monkeypatch.setattr(app, "TICK_SECONDS", 0)
    monkeypatch.setattr(app, "end_with_parents", lambda: None)
    service = SimpleNamespace(
        authenticator=SimpleNamespace(refresh=lambda: refreshed.append(1)),
        spool=SimpleNamespace(tick=fail),
        metrics=SimpleNamespace(tick=fail),
    )
    with pytest.raises(ValueError):
        asyncio.run(app.Service._tick(service))
    assert refreshed


def test_nobody_is_let_in_without_a_credential(file, key):
    problem = refusal(authenticator(file))
    assert problem.headers["WWW-Authenticate"] == "Bearer"
    assert "X-API-Key" in problem.detail


def test_where_none_is_required_a_wrong_one_is_refused_all_the_same(file, key):
    asked = authenticator(file, required=False)
    assert identify(asked) == ""
    assert identify(asked, ("x-api-key", key)) == "shop"
    refusal(asked, ("x-api-key", "shop.wrong"))
    refusal(asked, ("authorization", "Basic dXNlcjpwYXNz"))
    refusal(authenticator(file.with_name("none.json"), required=False), ("x-api-key", key))


@pytest.mark.parametrize("header", ["x-api-key", "authorization"])
@pytest.mark.parametrize(
    "change",
    [
        lambda key: "",
        lambda key: "shop",
        lambda key: f"shop.{key}",
        lambda key: key[:-1],
        lambda key: f"{key}A",
        lambda key: f"{key}.{key}",
        lambda key: key.swapcase(),
        lambda key: f"{key}\0",
        lambda key: f"{key}é",
        lambda key: b"\xff\xfe" + key.encode(),
        lambda key: "x" * 100_000,
        lambda key: "a.b.c",
    ],
)
def test_what_is_not_a_key_is_refused(file, key, header, change):
    wrong = change(key)
    if header == "authorization":
        wrong = b"Bearer " + (wrong if isinstance(wrong, bytes) else wrong.encode())
    problem = refusal(authenticator(file), (header, wrong))
    assert "invalid_token" in problem.headers["WWW-Authenticate"]


@pytest.mark.parametrize("scheme", ["", "Bearer", "Basic ", "Token ", "Bearer\t", "X Bearer "])
def test_another_scheme_is_refused(file, key, scheme):
    refusal(authenticator(file), ("authorization", f"{scheme}{key}"))


def test_what_is_too_long_or_not_ascii_is_not_even_looked_up(file, key):
    asked = authenticator(file)
    for odd in (f"{key}é", key.ljust(auth.LONGEST_CREDENTIAL + 1, "x")):
        assert "too long, or not plain ASCII" in refusal(asked, ("x-api-key", odd)).detail
    assert "unknown" in refusal(asked, ("x-api-key", key.ljust(8192, "x"))).detail


def test_two_credentials_are_refused_even_if_both_are_right(file, key):
    asked = authenticator(file)
    bearer = ("authorization", f"Bearer {key}")
    refusal(asked, ("x-api-key", key), ("x-api-key", key))
    refusal(asked, bearer, bearer)
    assert "one credential" in refusal(asked, ("x-api-key", key), bearer).detail
    refusal(asked, ("x-api-key", key), ("x-api-key", "shop.wrong"))
    refusal(asked, ("x-api-key", "shop.wrong"), bearer)


def test_keys_are_rotated_and_revoked_without_a_restart(file, key):
    asked = authenticator(file)
    new = keys.create(file, "shop-2")
    refusal(asked, ("x-api-key", new))
    asked.refresh()
    assert identify(asked, ("x-api-key", new)) == "shop-2"
    assert identify(asked, ("x-api-key", key)) == "shop"
    keys.revoke(file, "shop")
    asked.refresh()
    assert "revoked" in refusal(asked, ("x-api-key", key)).detail
    assert identify(asked, ("x-api-key", new)) == "shop-2"


def test_a_name_that_is_used_again_gets_another_key(file, key):
    keys.revoke(file, "shop")
    assert keys.create(file, "shop") != key
    refusal(authenticator(file), ("x-api-key", key))


def test_an_expired_key_is_refused_and_only_its_holder_is_told_so(file, key):
    asked = authenticator(file)
    other = keys.create(file, "other", days=1)
    expire(file, "shop")
    asked.refresh()
    assert "expired" in refusal(asked, ("x-api-key", key)).detail
    assert "expired" not in refusal(asked, ("x-api-key", "shop.wrong")).detail
    assert identify(asked, ("x-api-key", other)) == "other"


def test_a_key_expires_while_the_api_runs(file, key, monkeypatch):
    other = keys.create(file, "other", days=2)
    asked, now = authenticator(file), time.time()
    monkeypatch.setattr(auth.time, "time", lambda: now + 2 * 86_400 - 60)
    assert identify(asked, ("x-api-key", other)) == "other"
    monkeypatch.setattr(auth.time, "time", lambda: now + 2 * 86_400 + 60)
    refusal(asked, ("x-api-key", other))
    assert identify(asked, ("x-api-key", key)) == "shop"


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"shop": {}}', '{"a b": null}'])
def test_a_damaged_file_keeps_the_valid_keys_and_is_told_once(file, key, damage, caplog):
    asked, whole = authenticator(file), file.read_text("utf-8")
    file.write_text(damage, "utf-8")
    for _ in range(3):
        asked.refresh()
    assert identify(asked, ("x-api-key", key)) == "shop"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "damaged" in caplog.text
    file.write_text(whole, "utf-8")
    keys.revoke(file, "shop")
    asked.refresh()
    refusal(asked, ("x-api-key", key))
    caplog.clear()
    file.write_text(damage, "utf-8")
    asked.refresh()
    assert "damaged" in caplog.text, "told again when it happens again"


def test_a_damaged_file_does_not_start_and_its_content_is_not_told(file, key):
    text = file.read_text("utf-8")
    entry = json.loads(text)["shop"]
    file.write_text(text.replace(entry["created"], "soon"), "utf-8")
    for required in (True, False):
        with pytest.raises(ProjectError, match="damaged") as caught:
            authenticator(file, required)
        assert entry["sha256"] not in str(caught.value)


def test_a_reading_error_that_passes_does_not_hide_a_revocation(file, key, monkeypatch, caplog):
    asked = authenticator(file)
    keys.revoke(file, "shop")

    def fail(_):
        raise ProjectError("too many open files.")

    with monkeypatch.context() as patch:
        patch.setattr(keys, "read", fail)
        asked.refresh()
    assert identify(asked, ("x-api-key", key)) == "shop"
    asked.refresh()
    refusal(asked, ("x-api-key", key))


def test_a_file_that_is_gone_holds_no_key(file, key, caplog):
    asked = authenticator(file)
    file.unlink()
    asked.refresh()
    refusal(asked, ("x-api-key", key))
    assert "no API key any more" in caplog.text


def test_an_unchanged_file_is_not_read_again(file, key, monkeypatch):
    asked = authenticator(file)
    monkeypatch.setattr(keys, "read", lambda _: pytest.fail("read again"))
    asked.refresh()


def test_no_start_without_credentials_where_they_are_required(file):
    authenticator(file, required=False)
    with pytest.raises(ProjectError, match="api-key create NAME") as caught:
        authenticator(file)
    assert len(str(caught.value).splitlines()) == 1
    keys.create(file, "shop")
    authenticator(file)
    expire(file, "shop")
    with pytest.raises(ProjectError, match="no valid API key"):
        authenticator(file)


def test_the_file_holds_no_secret(file, key):
    again = keys.create(file, "shop-2")
    assert len(key) == len(again) == 43
    text = file.read_text("utf-8")
    assert key not in text and again not in text
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir() if path.is_file()] == [file.name]


def test_keys_made_at_the_same_time_are_all_kept(file, monkeypatch):
    monkeypatch.setattr(keys, "LOCK_SECONDS", 60)  # it is not about a slow disk
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: keys.create(file, f"client-{n}"), range(24)))
    asked = authenticator(file)
    assert {identify(asked, ("x-api-key", key)) for key in made} == {
        f"client-{n}" for n in range(24)
    }


def test_what_cannot_be_written_leaves_the_old_file(file, key, monkeypatch):
    before = file.read_bytes()

    def fail(_):
        raise OSError("disk full")

    monkeypatch.setattr(json_files.os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        keys.create(file, "shop-2")
    assert file.read_bytes() == before


@pytest.mark.parametrize("name", ["", "a b", "a.b", "a/b", "ä", "a\n", "a" * 41, "../x"])
def test_names_hold_letters_digits_hyphens_and_underscores(file, name):
    with pytest.raises(ProjectError, match="letters"):
        keys.create(file, name)
    assert not file.exists()


@pytest.fixture
def command(folder, file, capsys, monkeypatch):
    """command(*words) -> exit code, stdout, stderr of `api-key` about ``file``."""
    monkeypatch.setenv("APP__AUTHENTICATION__KEYS", str(file))

    def run(*words):
        code = cli.main(["api-key", *words])
        return code, *capsys.readouterr()

    return run


def test_create_prints_the_key_and_nothing_else(command, file, caplog):
    caplog.set_level("DEBUG")
    code, out, err = command("create", "shop", "--days", "30")
    key = out.removesuffix("\n")
    assert code == 0
    assert identify(authenticator(file), ("x-api-key", key)) == "shop"
    assert "only now" in err
    assert str(file) in err
    assert key not in err and key not in caplog.text


def test_create_list_revoke(command, file):
    assert "no API key yet" in command("list")[1]
    command("create", "shop-2")
    command("create", "shop-1", "--days", "1")
    code, out, _ = command("list")
    tomorrow = keys.read(file)["shop-1"].expires
    assert abs(tomorrow - datetime.now(UTC) - timedelta(days=1)) < timedelta(minutes=5)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["name", "shop-1", "shop-2"]
    assert f"{tomorrow:%Y-%m-%d %H:}" in out
    assert "never" in out
    for entry in keys.read(file).values():
        assert entry.sha256 not in out
    assert command("revoke", "shop-1")[0] == 0
    assert "shop-1" not in command("list")[1]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("create", "shop"), "already"),
        (("create", "a.b"), "letters"),
        (("create", "new", "--days", "0"), "from 1 to"),
        (("create", "new", "--days", "-1"), "from 1 to"),
        (("create", "new", "--days", "9999999"), "from 1 to"),
        (("revoke", "nobody"), "no API key nobody"),
    ],
)
def test_mistakes_change_nothing_and_are_explained_in_one_sentence(command, words, sentence):
    command("create", "shop")
    before = command("list")
    code, out, err = command(*words)
    assert (code, out) == (2, "")
    assert sentence in err
    assert len(err.splitlines()) == 1
    assert command("list") == before
