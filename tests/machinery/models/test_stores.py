"""What a connection string names, and what a package of a model may hold."""

import io
import zipfile

import pytest

from iris_flower_prediction import cli
from iris_flower_prediction.errors import ProjectError
from iris_flower_prediction.models import packaged, predict, registry
from iris_flower_prediction.models.registry import open_store
from iris_flower_prediction.models.stores import parse


@pytest.mark.parametrize(
    ("text", "store", "version"),
    [
        ("models:/flowers", "models:/flowers", ""),
        ("models:/flowers@champion", "models:/flowers", "@champion"),
        ("models:/flowers/3", "models:/flowers", "3"),
        ("s3://bucket/a/flowers", "s3://bucket/a/flowers", ""),
        ("s3://bucket/a/flowers@v1.2-rc_1", "s3://bucket/a/flowers", "@v1.2-rc_1"),
        ("s3://bucket/a/flowers/12", "s3://bucket/a/flowers", "12"),
        ("gs://bucket/2026", "gs://bucket/2026", ""),
        ("abfs://box@account/flowers", "abfs://box@account/flowers", ""),
        ("abfs://box@account/flowers@old", "abfs://box@account/flowers", "@old"),
        ("sqlite:///models.db#flowers", "sqlite:///models.db#flowers", ""),
        ("sqlite:///models.db#flowers/3", "sqlite:///models.db#flowers", "3"),
        ("postgresql://u:p@host/db#flowers@old", "postgresql://u:p@host/db#flowers", "@old"),
        ("postgresql://u:p@host/db", "postgresql://u:p@host/db", ""),
        ("some/where/flowers@champion", "some/where/flowers", "@champion"),
        ("file:///some/where@champion", "file:///some/where", "@champion"),
        ("runs/3", "runs/3", ""),
        ("a@b/flowers", "a@b/flowers", ""),
    ],
)
def test_a_connection_string_is_a_store_and_a_version(text, store, version, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reference = parse(text)
    assert reference == (store, version)
    assert str(reference) == text


def test_a_number_behind_a_folder_is_a_version_only_where_there_are_versions(tmp_path):
    assert parse(str(tmp_path / "3")).version == ""
    (tmp_path / "versions").mkdir()
    assert parse(str(tmp_path / "3")) == (str(tmp_path), "3")


@pytest.mark.parametrize(
    "store", ["typo/models", "sqlite:///typo.db#flowers", "sqlite+pysqlite:///typo.db#flowers"]
)
@pytest.mark.parametrize(
    "words",
    [
        ["history", "--store", "{store}"],
        ["promote", "1", "--store", "{store}"],
        ["rollback", "--store", "{store}"],
        ["copy", "{store}@champion", "here"],
    ],
    ids=lambda words: words[0],
)
def test_a_store_that_is_not_there_is_named_and_not_made(store, words, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert cli.main([word.format(store=store) for word in words]) == 2
    said = capsys.readouterr().err
    assert "typo" in said and "there is no" in said
    assert not [*folder.glob("typo*"), *folder.glob("here")]


@pytest.mark.parametrize("words", [["promote", "1"], ["rollback"], ["history"]])
def test_a_registry_that_is_not_there_is_not_made(words, folder, capsys):
    assert cli.main(words) == (0 if words == ["history"] else 2)
    assert not list(folder.glob("*.db"))


def test_a_folder_that_is_there_is_no_alias(tmp_path):
    (tmp_path / "me@home").mkdir()
    assert parse(str(tmp_path / "me@home")).version == ""


@pytest.mark.parametrize(
    "words",
    [
        ["copy", "postgresql://app:s3cret@host/db#flowers@champion", "somewhere"],
        ["copy", "somewhere", "postgresql://app:s3cret@host/db#flowers@champion"],
        ["history", "--store", "postgresql://app:s3cret@host/db#flowers"],
        ["promote", "1", "--store", "postgresql://app:s3cret@host/db#flowers"],
        ["rollback", "--store", "postgresql://app:s3cret@host/db#flowers"],
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
    assert registry.typed(uri) == uri


def test_no_password_is_kept_with_a_model(saved, tmp_path, config):
    assert registry.named("s3://bucket/models@champion") == "s3://bucket/models@champion"
    assert registry.named("sqlite:///models.db#flowers") == "sqlite:///models.db#flowers"
    shown = registry.named("postgresql+pg8000://app:s3cret@host/db#flowers@champion")
    assert "s3cret" not in shown
    assert shown.endswith("#flowers@champion")


@pytest.mark.parametrize("uri", ["gopher://host/model", "ftp://host/model", "x://"])
def test_a_scheme_that_is_no_store_is_named(config, uri):
    with pytest.raises(ProjectError, match="no model store"):
        open_store(uri, config)


def test_the_same_model_is_the_same_package(saved, tmp_path):
    content = packaged.pack(saved)
    assert packaged.pack(saved) == content
    packaged.unpack(content, packaged.digest(content), tmp_path / "model", "it")
    assert predict.read_metadata(tmp_path / "model") == predict.read_metadata(saved)


@pytest.mark.parametrize("name", ["../outside", "/outside", "load.py", "model.onnx/../x"])
def test_a_package_with_anything_else_is_refused(tmp_path, name):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(name, b"strange")
    whole = content.getvalue()
    with pytest.raises(ProjectError, match="no part of a model"):
        packaged.unpack(whole, packaged.digest(whole), tmp_path / "model", "it")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_model_that_is_too_large_is_refused_before_it_is_read(saved, monkeypatch):
    monkeypatch.setattr(packaged, "LARGEST_BYTES", 100)
    with pytest.raises(ProjectError, match="at most 100"):
        packaged.pack(saved)
