"""Folders here and in the cloud: files are whole or not there, and read as they were written."""

import gzip
import http.client
import io
import socket
import time

import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from conftest import numbered
from real_stores import reachable

from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.errors import ProjectError
from iris_flower_prediction.settings import absolute
from iris_flower_prediction.tables import files, reader, storage
from iris_flower_prediction.tables.databases import identity

CLOUD = ["s3", *(pytest.param(name, marks=pytest.mark.slow) for name in ("google", "azure"))]
NAMES = ["plain.csv", "a b%2F+&=#ü.csv", ".hidden"]


@pytest.fixture(params=CLOUD)
def cloud(request, monkeypatch) -> storage.CloudFolder:
    place = request.getfixturevalue(f"{request.param}_place")
    return storage.folder(f"{reachable(place, monkeypatch).uri}/a b%20/")


@pytest.fixture(params=["local", *CLOUD])
def folder(request, tmp_path, monkeypatch):
    if request.param == "local":
        return storage.folder(str(tmp_path / "new"))
    place = request.getfixturevalue(f"{request.param}_place")
    return storage.folder(f"{reachable(place, monkeypatch).uri}/a b%20/")


def put(folder, name, content):
    with folder.file(name) as path:
        path.write_bytes(content)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_read_as_it_was_written_and_goes(folder, name):
    for content in (b"", b"short", bytes(range(256)) * 40_000):
        put(folder, name, content)
        with folder.find(name).open("rb") as file:
            assert file.read() == content
    folder.remove([name, "never there"])
    with pytest.raises(FileNotFoundError):
        folder.find(name).open("rb")


def test_a_file_that_was_not_finished_is_not_there(folder):
    put(folder, "a.csv", b"old")
    with pytest.raises(RuntimeError), folder.file("a.csv") as path:
        path.write_bytes(b"new")
        raise RuntimeError
    with folder.find("a.csv").open("rb") as file:
        assert file.read() == b"old"
    if isinstance(folder, storage.LocalFolder):
        assert [path.name for path in folder.path.iterdir()] == ["a.csv"]


def test_any_place_of_a_file_can_be_read(cloud):
    content = bytes(range(256)) * 1000
    put(cloud, "x", content)
    with cloud.find("x").open("rb") as file:
        for each in (file, file.raw):
            assert each.seek(-10, io.SEEK_END) == len(content) - 10
            assert each.read(100) == content[-10:]
            assert each.read(1) == b""
            assert each.seek(5_000) == 5_000
            assert each.read(3) == content[5_000:5_003]
            assert each.seek(2, io.SEEK_CUR) == each.tell() == 5_005


def test_a_version_that_is_another_one_is_not_replaced(cloud):
    assert cloud.get("x", 100) is None
    cloud.put("x", b"one", "create")
    with pytest.raises(FileExistsError):
        cloud.put("x", b"two", "create")
    content, version = cloud.get("x", 100)
    assert content == b"one"
    cloud.put("x", b"three", version)
    with pytest.raises(FileExistsError):
        cloud.put("x", b"four", version)
    assert cloud.get("x", 100)[0] == b"three"
    with pytest.raises(ProjectError, match="larger"):
        cloud.get("x", 4)


def test_a_folder_holds_what_is_below_and_nothing_beside_it(cloud):
    for name in ("b/2.csv", "b/1.csv", "bb/3.csv", "b/c/4.csv", "b/_5.csv", "b/_c/6.csv", "b/.d"):
        cloud.put(name, b"A\n1\n")
    found = [str(file) for file in files.files(f"{cloud}/b/")]
    assert found == [f"{cloud}/b/{name}" for name in ("1.csv", "2.csv", "c/4.csv")]
    assert [str(file) for file in files.files(f"{cloud}/b/1.csv")] == [f"{cloud}/b/1.csv"]
    storage.CloudFolder(f"{cloud}/b").clear()
    with pytest.raises(ProjectError, match="b does not exist"):
        files.files(f"{cloud}/b")
    assert len(files.files(f"{cloud}/bb")) == 1
    cloud.put("bb/x.xlsx", b"")
    with pytest.raises(ProjectError, match=r"bb/x\.xlsx cannot be read"):
        files.files(f"{cloud}/bb")


def test_the_folders_that_consoles_make_are_no_files(s3_place, monkeypatch):
    place = reachable(s3_place, monkeypatch)
    endpoint = place.variables["AWS_ENDPOINT_URL"].removeprefix("http://")
    anybody = "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request, Signature=0"
    for name in ("", "c/"):
        connection = http.client.HTTPConnection(endpoint)
        path = f"{place.uri.removeprefix('s3:/')}/b/{name}"
        connection.request("PUT", path, b"", {"Authorization": anybody})
        assert connection.getresponse().status == 200
        with pytest.raises(ProjectError, match="does not exist"):
            files.files(f"{place.uri}/b")
    storage.folder(f"{place.uri}/b/c").put("1.csv", b"A\n1\n")
    storage.folder(f"{place.uri}/b/c/1.csv").put("2.csv", b"A\n1\n")
    assert [file.name for file in files.files(f"{place.uri}/b")] == ["1.csv", "2.csv"]


def test_tables_in_the_cloud_are_read_as_they_are_here(cloud, tmp_path):
    table, local = numbered(3000), tmp_path / "in"
    local.mkdir()
    pq.write_table(table.slice(0, 1000), local / "a.parquet", row_group_size=90)
    pyarrow.csv.write_csv(table.slice(1000, 1000), local / "b.csv")
    pyarrow.csv.write_csv(table.slice(2000), tmp_path / "c.csv")
    (local / "c.csv.gz").write_bytes(gzip.compress((tmp_path / "c.csv").read_bytes()))
    for path in local.iterdir():
        put(cloud, path.name, path.read_bytes())
    assert reader.read(str(cloud), CONTRACT).equals(reader.read(str(local), CONTRACT))
    assert reader.read(f"{cloud}/b.csv", CONTRACT).num_rows == 1000
    put(cloud, "b.csv", b"PAR1")
    with pytest.raises(ProjectError, match=r"b\.csv cannot be read as csv: it is parquet"):
        reader.read(f"{cloud}/b.csv", CONTRACT)


def test_what_is_not_there_is_one_sentence(cloud):
    with pytest.raises(ProjectError, match=r"nothing does not exist; give a file"):
        files.files(f"{cloud}/nothing")
    elsewhere = storage.folder(f"{cloud.bucket}-that-nobody-made/x")
    for action in (
        lambda: elsewhere.put("a", b""),
        lambda: list(elsewhere.files()),
        lambda: put(elsewhere, "a", b"0" * 10_000_000),
    ):
        with pytest.raises(ProjectError, match="that-nobody-made: there is no such bucket"):
            action()


@pytest.mark.parametrize("change", ["removed", "replaced"])
def test_a_file_that_changes_while_it_is_read_is_one_sentence(cloud, change):
    """Else half of the old file would be read, and half of the new one."""
    put(cloud, "a.csv", b"A,B\n" + b"1,2\n" * 3_000_000)
    file = cloud.find("a.csv").open("rb")
    file.read(10)
    if change == "removed":
        cloud.remove(["a.csv"])
    else:
        put(cloud, "a.csv", b"A,B\n" + b"3,4\n" * 3_000_000)
    with pytest.raises(ProjectError, match=r"a\.csv was changed while it was read"):
        file.read()


@pytest.mark.parametrize(
    "uri", ["s3://b/../x", "s3://b/x?y", "s3://b/x#y", "s3://u:p@b/x", "s3:///x", "s3://b//x"]
)
def test_an_address_that_is_more_than_a_folder_is_refused(uri):
    with pytest.raises(ProjectError, match="give a bucket and a folder") as caught:
        storage.folder(uri)
    assert ":p@" not in str(caught.value)


def test_one_place_has_one_identity(tmp_path):
    assert identity("s3://bucket/x/") == identity("s3://bucket/x") == "s3://bucket/x"
    named = [absolute(f"sqlite:///{way}shop.db#t", tmp_path) for way in ("", "x/../", "./")]
    assert len({identity(uri) for uri in named}) == 1


@pytest.mark.parametrize("uri", ["gcs://b/x", "http://b/x", "sqlite:///x.db"])
def test_what_is_no_folder_is_not_made_one(uri, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProjectError, match="is no folder: give a path, or abfs://"):
        storage.folder(uri)


@pytest.mark.parametrize("uri", ["http://b/x.csv", "gcs://b/x", "hdfs://b/x"])
def test_a_scheme_that_is_not_known_is_one_sentence(uri):
    with pytest.raises(ProjectError, match=r"is neither cloud storage .* nor a database"):
        reader.sql_columns(f"{uri}#t")


def test_an_endpoint_without_a_scheme_is_one_sentence(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "127.0.0.1:1")
    with pytest.raises(ProjectError, match=r"AWS_ENDPOINT_URL=127\.0\.0\.1:1: begin it with https"):
        list(storage.CloudFolder("s3://bucket/x").files())


def test_a_server_that_does_not_answer_ends_in_bounded_time(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
        began = time.monotonic()
        with pytest.raises(ProjectError, match="s3://bucket/x: ") as caught:
            storage.CloudFolder("s3://bucket/x").get("a", 1, seconds=1)
    assert 0.9 < time.monotonic() - began < 60
    assert "\n" not in str(caught.value)
