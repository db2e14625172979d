"""A real store of models of each kind, as fixtures: ``place`` is one after the other, empty.

Servers are started by the first test that asks for them; on this machine alone.
"""

import base64
import hashlib
import hmac
import http.client
import importlib
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread

import pytest
import sqlalchemy as sa
from conftest import free_port, listens, wait_for
from werkzeug.security import generate_password_hash

from iris_flower_prediction import settings
from iris_flower_prediction.models.artifact import METADATA
from iris_flower_prediction.tables.databases import connect, engine

STORAGE = ["s3", "azure", "google", "sqlite", "postgres"]
REGISTRIES = ["mlflow_sqlite", "mlflow_postgres", "mlflow_server"]
KINDS = ["local", *STORAGE, *REGISTRIES]
BUCKET = "models"
# An account that azurite has, as its documentation says.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
CREDENTIALS = {
    "MLFLOW_TRACKING_USERNAME": "admin",
    "MLFLOW_TRACKING_PASSWORD": secrets.token_urlsafe(12),
}


@dataclass
class Place:
    """An empty store, what the environment must say to reach it, and how to damage it.

    ``tamper`` changes the bytes of every model that is kept there.
    """

    uri: str
    tamper: Callable[[], None]
    variables: dict[str, str] = field(default_factory=dict)


@pytest.fixture(params=KINDS)
def place(request, folder, monkeypatch) -> Place:
    """An empty store of each kind; this process has what it needs to reach it."""
    return reachable(request.getfixturevalue(f"{request.param}_place"), monkeypatch)


@pytest.fixture(params=STORAGE)
def storage(request, folder, monkeypatch) -> Place:
    """Empty storage of each kind, in which a model may replace another."""
    return reachable(request.getfixturevalue(f"{request.param}_place"), monkeypatch)


@pytest.fixture(params=REGISTRIES)
def mlflow_registry(request, folder, monkeypatch) -> Place:
    """An empty model of MLflow's registry of each kind."""
    return reachable(request.getfixturevalue(f"{request.param}_place"), monkeypatch)


def reachable(place: Place, monkeypatch) -> Place:
    for name, value in place.variables.items():
        monkeypatch.setenv(name, value)
    return place


@pytest.fixture
def local_place(tmp_path) -> Place:
    folder = tmp_path / "a folder" / "of a model"
    return Place(str(folder), lambda: damage(folder.glob("model.*")))


def damage(paths) -> None:
    for path in paths:
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def tamper_objects(uri: str) -> None:
    import obstore

    store = obstore.store.from_url(uri, client_options={"allow_http": True})
    for each in obstore.list(store).collect():
        if each["path"] != METADATA:
            content = bytes(obstore.get(store, each["path"]).bytes())
            obstore.put(store, each["path"], content[:-1] + bytes([content[-1] ^ 1]))


@pytest.fixture(scope="session")
def s3_port() -> Iterator[int]:
    """The port of a server that speaks S3's protocol, with a bucket."""
    from moto.s3.responses import S3Response
    from moto.server import ThreadedMotoServer

    put_object, lock = S3Response.put_object, Lock()

    def put_one_at_a_time(response: S3Response) -> tuple:
        # "Only if there is none yet" are two steps here; they are one in the real thing.
        with lock:
            return put_object(response)

    S3Response.put_object = put_one_at_a_time
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("PUT", f"/{BUCKET}")
    assert connection.getresponse().status == 200
    yield port
    server.stop()
    S3Response.put_object = put_object


@pytest.fixture
def s3_place(s3_port) -> Place:
    uri = f"s3://{BUCKET}/{secrets.token_hex(4)}/champions"
    variables = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3_port}",
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }
    return Place(uri, lambda: tamper_objects(uri), variables)


@pytest.fixture(scope="session")
def azure_port(tmp_path_factory) -> Iterator[int]:
    """The port of an azurite with a container."""
    if not shutil.which("azurite-blob"):
        pytest.skip("no azurite: npm install --global azurite")
    port, folder = free_port(), tmp_path_factory.mktemp("azurite")
    words = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder)]
    with process(["azurite-blob", "--silent", "--skipApiVersionCheck", *words], folder, port):
        create_container(port)
        yield port


def create_container(port: int) -> None:
    """What an administrator does once: ``PUT /account/container?restype=container``, signed."""
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    canonical = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()))
    resource = f"/{ACCOUNT}/{ACCOUNT}/{BUCKET}\nrestype:container"
    signed = "PUT" + "\n" * 12 + canonical + resource
    digest = hmac.new(base64.b64decode(KEY), signed.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("PUT", f"/{ACCOUNT}/{BUCKET}?restype=container", headers=headers)
    assert connection.getresponse().status == 201


@pytest.fixture
def azure_place(azure_port) -> Place:
    uri = f"abfs://{BUCKET}/{secrets.token_hex(4)}/champions"
    variables = {
        "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
        "AZURE_STORAGE_ACCOUNT_KEY": KEY,
        "AZURE_STORAGE_ENDPOINT": f"http://127.0.0.1:{azure_port}/{ACCOUNT}",
    }
    return Place(uri, lambda: tamper_objects(uri), variables)


class Google(BaseHTTPRequestHandler):
    """Google's storage, emulated by S3's: the protocols differ only in the names of headers.

    A generation, which counts the versions of an object, is taken from its content.
    """

    protocol_version = "HTTP/1.1"
    s3_port = 0

    def do_GET(self) -> None:
        self._pass_on()

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET  # noqa: N815

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        # Any signature: the S3 server treats unsigned objects as readable only by the owner.
        signed = "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request, Signature=0"
        headers = {"Content-Type": "application/octet-stream", "Authorization": signed}
        for name in ("Range", "If-Match"):
            if name in self.headers:
                headers[name] = self.headers[name]
        if (wanted := self.headers.get("x-goog-if-generation-match")) == "0":
            headers["If-None-Match"] = "*"
        elif wanted:
            found = self._ask("HEAD", b"", headers)[0].getheader("ETag") or ""
            headers["If-Match"] = found if generation(found) == wanted else "another"
        answer, content = self._ask(self.command, body, headers)
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() in ("etag", "last-modified", "content-type", "content-range"):
                self.send_header(name, value)
        self.send_header("x-goog-generation", generation(answer.getheader("ETag") or ""))
        length = answer.getheader("Content-Length") if self.command == "HEAD" else len(content)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(content)

    def _ask(self, command: str, body: bytes, headers: dict) -> tuple:
        connection = http.client.HTTPConnection("127.0.0.1", self.s3_port, timeout=30)
        connection.request(command, self.path, body, headers)
        answer = connection.getresponse()
        return answer, answer.read()

    def log_message(self, *_) -> None:
        pass


def generation(e_tag: str) -> str:
    return str(int(hashlib.md5(e_tag.encode()).hexdigest()[:12], 16))  # noqa: S324


@pytest.fixture(scope="session")
def google_port(s3_port) -> Iterator[int]:
    Google.s3_port = s3_port
    server = ThreadingHTTPServer(("127.0.0.1", 0), Google)
    Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()


@pytest.fixture
def google_place(google_port) -> Place:
    uri = f"gs://{BUCKET}/{secrets.token_hex(4)}/champions"
    nobody = dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
    account = nobody | {"gcs_base_url": f"http://127.0.0.1:{google_port}", "disable_oauth": True}
    variables = {
        "GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(account),
    }
    return Place(uri, lambda: tamper_objects(uri), variables)


def tamper_row(url: str, name: str) -> None:
    known = {"name": name}
    query = sa.text("SELECT artifact FROM stored_models WHERE name = :name")
    update = sa.text("UPDATE stored_models SET artifact = :artifact WHERE name = :name")
    with connect(url) as connection:
        artifact = connection.execute(query, known).scalar_one()
        known["artifact"] = bytes(artifact[:-1]) + bytes([artifact[-1] ^ 1])
        connection.execute(update, known)


@pytest.fixture
def sqlite_place(tmp_path) -> Place:
    url = f"sqlite:///{tmp_path}/models.db"
    return Place(f"{url}#flowers", lambda: tamper_row(url, "flowers"))


@pytest.fixture
def postgres_place(postgresql) -> Place:
    """One database for all tests of a module: a model of its own for each."""
    name = secrets.token_hex(4)
    return Place(f"{postgresql}#{name}", lambda: tamper_row(postgresql, name))


def registered(tracking: str, files: Path) -> Place:
    variables = {"APP__MODELS__TRACKING_URI": tracking}
    name = f"m{secrets.token_hex(4)}"
    return Place(f"models:/{name}", lambda: damage(files.rglob("model.*")), variables)


@pytest.fixture
def artifacts(folder, monkeypatch) -> Path:
    """Where MLflow of this process keeps files: a folder of the project ``folder``."""
    # MLflow imports mlflow_artifacts by its entry point, and must be the first to do so.
    importlib.import_module("mlflow.artifacts")
    monkeypatch.setattr(f"{settings.PACKAGE}.models.mlflow_artifacts.root", lambda: folder)
    return folder / "mlartifacts"


@pytest.fixture
def mlflow_sqlite_place(folder, artifacts) -> Place:
    return registered(f"sqlite:///{folder}/mlflow.db", artifacts)


@pytest.fixture
def mlflow_postgres_place(artifacts, postgresql_registry) -> Place:
    return registered(postgresql_registry, artifacts)


@pytest.fixture(scope="module")
def postgresql_registry(server) -> str:
    """Another database of the PostgreSQL, for MLflow's own tables."""
    opened = engine(server.url)
    with opened.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("CREATE DATABASE registry"))
    opened.dispose()
    return server.url.replace("/postgres?", "/registry?")


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory) -> Iterator[tuple[int, Path]]:
    """The port of an MLflow server that asks for a password, and where it keeps files."""
    port, folder = free_port(), tmp_path_factory.mktemp("mlflow-server")
    words = ["server", "--app-name", "basic-auth", "--host", "127.0.0.1", "--port", str(port)]
    words += ["--backend-store-uri", "sqlite:///mlflow.db", "--artifacts-destination", "files"]
    words += ["--workers", "1"]
    more = {
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
    }
    (folder / "auth.ini").write_text(
        "[mlflow]\ndefault_permission = NO_PERMISSIONS\n"
        f"database_uri = sqlite:///{folder}/auth.db\n"
        f"admin_username = {CREDENTIALS['MLFLOW_TRACKING_USERNAME']}\n"
        f"admin_password = {CREDENTIALS['MLFLOW_TRACKING_PASSWORD']}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    with process([sys.executable, "-m", "mlflow", *words], folder, port, **more):
        # For a thousand requests: MLflow's own hash takes half a second of two cores for each.
        quick = generate_password_hash(CREDENTIALS["MLFLOW_TRACKING_PASSWORD"], "pbkdf2:sha256:1")
        with connect(f"sqlite:///{folder}/auth.db") as connection:
            connection.execute(sa.text("UPDATE users SET password_hash = :quick"), {"quick": quick})
        yield port, folder / "files"


@pytest.fixture
def mlflow_server_place(mlflow_server) -> Place:
    port, files = mlflow_server
    place = registered(f"http://127.0.0.1:{port}", files)
    place.variables.update(CREDENTIALS)
    return place


@contextmanager
def process(command: list[str], folder: Path, port: int, **variables: str):
    """A server that listens on a port of this machine until the end of the block."""
    with (folder / "log.txt").open("w") as log:
        started = subprocess.Popen(
            command, cwd=folder, env=os.environ | variables, stdout=log, stderr=log
        )
    try:
        wait_for(lambda: listens(port), started)
        yield
    finally:
        started.terminate()
        started.wait(30)


@pytest.fixture
def config(place) -> settings.Settings:
    """Settings under which the store can be reached."""
    return settings.load()
