"""What a connection string names, and what a package of a model may hold."""

import json

import pytest
import sqlalchemy as sa

from iris_flower_prediction import cli
from iris_flower_prediction.errors import ProjectError
from iris_flower_prediction.models import artifact, mlflow_client, stores
from iris_flower_prediction.tables.databases import connect, exists


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("typo/models", "holds no model"),
        ("sqlite:///typo.db#flowers", "holds no model"),
        ("sqlite+pysqlite:///typo.db#flowers", "holds no model"),
        ("models:/typo@champion", "there is no such model"),
        ("models:/", "there is no such model"),
        ("typo://host/flowers", "typo:// is no model store"),
    ],
)
@pytest.mark.parametrize("words", [["copy", "{}", "here"], ["score", "--model", "{}"]])
def test_a_place_without_a_model_is_named_and_not_made(
    uri, told, words, folder, monkeypatch, capsys
):
    monkeypatch.chdir(folder)
    (folder / "data/raw/example.csv").write_text("")
    assert cli.main([word.format(uri) for word in words]) == 2
    assert told in capsys.readouterr().err
    assert not [*folder.glob("typo*"), *folder.glob("here")]


@pytest.mark.parametrize("uri", ["models:/flowers@champion", "runs:/0123/model"])
def test_without_mlflow_a_registry_is_one_sentence(uri, folder, config, monkeypatch):
    monkeypatch.setattr(mlflow_client.importlib.util, "find_spec", lambda name: None)
    for use in (stores.load_model, stores.identify):
        with pytest.raises(ProjectError, match="need mlflow: install"):
            use(uri, config)


@pytest.mark.parametrize("words", [["promote", "1"], ["rollback"], ["history"]])
def test_a_registry_that_is_not_there_is_not_made(words, folder, capsys):
    assert cli.main(words) == (0 if words == ["history"] else 2)
    assert not list(folder.glob("*.db"))


@pytest.mark.parametrize(
    "words",
    [
        ["copy", "postgresql://app:s3cret@host/db#flowers@champion", "somewhere"],
        ["copy", "somewhere", "postgresql://app:s3cret@host/db#flowers@champion"],
        ["score", "--model", "postgresql://app:s3cret@host/db#flowers@champion"],
        ["serve", "--model", "postgresql://app:s3cret@host/db#flowers@champion"],
        ["follow", "postgresql://app:s3cret@host/db#flowers@champion", "data/served"],
    ],
    ids=lambda words: words[0],
)
def test_a_password_on_the_command_line_is_refused_and_not_repeated(folder, words, capsys):
    assert cli.main(words) == 2
    said = capsys.readouterr()
    assert "APP__MODELS__URI" in said.err
    assert "s3cret" not in said.out + said.err


@pytest.mark.parametrize(
    "uri", ["postgresql+pg8000://app@/db?unix_sock=/run/x#flowers", "models:/a", "s3://b/c", "a/b"]
)
def test_what_has_no_password_is_taken_as_it_is(uri):
    assert stores.typed(uri) == uri


def test_no_password_is_kept_with_a_model(saved, tmp_path, config):
    assert stores.named("s3://bucket/models@champion") == "s3://bucket/models@champion"
    assert stores.named("sqlite:///models.db#flowers") == "sqlite:///models.db#flowers"
    shown = stores.named("postgresql+pg8000://app:s3cret@host/db#flowers@champion")
    assert "s3cret" not in shown
    assert shown.endswith("#flowers@champion")


@pytest.mark.parametrize("uri", ["gopher://host/model", "ftp://host/model", "x://"])
def test_a_scheme_that_is_no_store_is_named(config, uri):
    with pytest.raises(ProjectError, match="no model store"):
        stores.load_model(uri, config)


@pytest.mark.parametrize(
    "uri",
    ["s3://b/x#v1", "s3://b/x?v=3", "s3://b/../z", "s3://b/x/..", "s3://KEY:s3cret@b/x", "s3:///x"],
)
def test_an_address_that_would_be_another_one_is_refused(uri, config):
    with pytest.raises(ProjectError, match="a bucket and a folder in it") as told:
        stores.load_model(uri, config)
    assert "s3cret" not in str(told.value)


@pytest.fixture
def stored(saved, tmp_path, config) -> str:
    """The URL of a database that holds the saved model."""
    uri = f"sqlite:///{tmp_path}/models.db#flowers"
    assert stores.copy(str(saved), uri, config) == uri
    return uri


@pytest.mark.parametrize(
    "changed",
    [
        "{",
        "[]",
        "null",
        "{}",
        '{"sha256": 1}',
        '{"sha256": "abc"}',
        '{"version": "../victim"}',
        '{"artifact": "../model.onnx"}',
        '{"self_test": "none"}',
        '{"metrics": [1]}',
    ],
)
def test_a_damaged_record_is_a_sentence_and_is_mended_by_another_copy(
    changed, stored, saved, config
):
    text = changed
    if changed.startswith('{"'):
        text = json.dumps(artifact.read_metadata(saved) | json.loads(changed))
    with connect(stored) as connection:
        connection.execute(sa.text("UPDATE stored_models SET metadata = :text"), {"text": text})
    for use in (stores.load_model, stores.identify):
        with pytest.raises(ProjectError, match=r"models\.db#flowers is damaged"):
            use(stored, config)
    stores.copy(str(saved), stored, config)
    artifact.self_test(stores.load_model(stored, config))


def test_nothing_but_the_model_is_copied(saved, tmp_path, config):
    copied = stores.copy(str(saved), str(tmp_path / "one"), config)
    (tmp_path / "one" / "secret.txt").symlink_to("/etc/hostname")
    again = stores.copy(copied, str(tmp_path / "two"), config)
    file = artifact.read_metadata(saved)["artifact"]
    assert {path.name for path in (tmp_path / "two").iterdir()} == {file, artifact.METADATA}
    assert stores.identify(again, config) == stores.identify(copied, config)


def test_a_folder_with_another_version_of_the_same_model_is_not_taken_for_it(
    saved, tmp_path, config
):
    copied = stores.copy(str(saved), str(tmp_path / "one"), config)
    artifact.write_metadata(tmp_path / "one", artifact.read_metadata(saved) | {"version": "2"})
    with pytest.raises(ProjectError, match="exists: remove it"):
        stores.copy(str(saved), copied, config)


def test_a_model_that_does_not_prove_itself_is_copied_nowhere(saved, tmp_path, config):
    known = artifact.read_metadata(saved)["self_test"]
    for number, wrong in enumerate(({"labels": []}, {"rows": [[0.0], [1.0, 2.0]]})):
        copied = stores.copy(str(saved), str(tmp_path / f"from {number}"), config)
        strange = artifact.read_metadata(saved) | {"self_test": known | wrong}
        artifact.write_metadata(tmp_path / f"from {number}", strange)
        with pytest.raises(ProjectError, match="self-test"):
            stores.copy(copied, str(tmp_path / "to"), config)
    assert not (tmp_path / "to").exists()


def test_a_model_that_is_too_large_is_refused_before_it_is_read(saved, monkeypatch, config):
    monkeypatch.setattr(stores, "LARGEST_BYTES", 100)
    with pytest.raises(ProjectError, match="at most 100"):
        stores.copy(str(saved), "s3://nobody/model", config)


def test_a_run_of_no_registry_makes_none(config):
    with pytest.raises(ProjectError, match=r"there is no registry .* yet"):
        stores.load_model("runs:/0123/model", config)
    assert not exists(config.models.tracking_uri)
