"""What a connection string names, and what a package of a model may hold."""

import io
import zipfile

import pytest

from iris_flower_prediction import cli
from iris_flower_prediction.errors import ProjectError
from iris_flower_prediction.models import packaged, predict, stores


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
    (folder / "data/raw").mkdir(parents=True)
    (folder / "data/raw/example.csv").write_text("")
    assert cli.main([word.format(uri) for word in words]) == 2
    assert told in capsys.readouterr().err
    assert not [*folder.glob("typo*"), *folder.glob("here")]


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
