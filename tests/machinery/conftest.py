"""What the tests of the machinery share: copies of a rendered project, models, real processes.

They run in the environment of a rendered project, see `make machinery`, and never write to that
project's own folders: they work in copies of it.
"""

import importlib
import os
import secrets
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from iris_flower_prediction import cli, model, settings
from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.models import export
from iris_flower_prediction.schema.arrow import as_batch, encode
from iris_flower_prediction.tables.databases import connect
from iris_flower_prediction.training.split import training_table

# In this order, because later ones use earlier ones.
pytest_plugins = [
    *("api_process", "loopback", "real_stores"),
    *("mirror_project", "churn_project", "monitored_project"),
]

# The rendered project whose environment this is.
CHECKOUT = Path(settings.__file__).resolve().parents[2]
PACKAGE = settings.PACKAGE
sys.path.insert(0, str(CHECKOUT / "ci"))
# Training of the tests: the same pipeline with fewer tries.
QUICK = {"APP__TRAINING__FOLDS": "2", "APP__TRAINING__SEARCHES": "1"}
# A time limit that suffices on a busy machine too.
SECONDS = 300
# A value that is invalid for every feature of every contract.
BAD = "not a value"
# Variables that select or replace settings, but are no settings.
VARIABLES = {"ENVIRONMENT", "SECRETS_DIR", "HOST", "PORT"}
# Each problem has a model.py, and so an evaluate, of its own.
PROBLEM = "classification" if hasattr(model, "f1_score") else "regression"
collect_ignore = [
    f"training/test_model_{other}.py"
    for other in ("classification", "regression")
    if other != PROBLEM
]
SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
PG_CTL = shutil.which("pg_ctl") or (str(SERVERS[-1]) if SERVERS else None)


def is_setting(name: str) -> bool:
    return name in VARIABLES or name.startswith(settings.PREFIX)


class Project:
    """A copy of this project in a folder of its own; commands run in it as real processes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.started = folder, []
        for name in ("src", "config", "data/raw"):
            shutil.copytree(CHECKOUT / name, folder / name)

    def start(self, *words: object, **options) -> subprocess.Popen:
        """``python -m <package> WORDS``, or a script if the first word ends in .py.

        Upper-case options are settings, such as APP__TRAINING__FOLDS=2; others are Popen's.
        """
        chosen = {name: str(options.pop(name)) for name in list(options) if name.isupper()}
        kept = {name: value for name, value in os.environ.items() if not is_setting(name)}
        paths = [str(self.folder / "src"), os.environ.get("PYTHONPATH", "")]
        environment = kept | {"PYTHONPATH": os.pathsep.join(filter(None, paths))} | chosen
        script = [] if words and Path(str(words[0])).suffix == ".py" else ["-m", PACKAGE]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        command = [sys.executable, *script, *map(str, words)]
        options = {"cwd": self.folder, "env": environment, **pipes, **options}
        self.started.append(subprocess.Popen(command, **options))
        return self.started[-1]

    def stop(self) -> None:
        """End what a failed test has left behind, stopped processes too."""
        for process in self.started:
            process.kill()
            process.communicate()

    def run(self, *words: object, **options) -> subprocess.CompletedProcess:
        process = self.start(*words, **options)
        out, err = process.communicate(timeout=SECONDS)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def copy_to(self, folder: Path) -> "Project":
        """The same project with everything it has made so far, in another place."""
        shutil.copytree(self.folder, folder)
        other = object.__new__(Project)
        other.folder, other.started = folder, []
        return other


class PostgreSQL:
    """A real server with an empty database, which nobody else can reach: a Unix socket, no network.

    It runs as an unprivileged user, as PostgreSQL refuses to run as root.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.url = f"postgresql+pg8000://tester@/postgres?unix_sock={folder}/.s.PGSQL.5432"
        self.user = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}
        if self.user:
            shutil.chown(folder, **self.user)
        words = ("-D", f"{folder}/data", "-U", "tester", "-A", "trust", "--no-sync")
        self._run(Path(PG_CTL).resolve().with_name("initdb"), *words)

    def start(self) -> None:
        options = f"-k {self.folder} -c listen_addresses='' -c fsync=off"
        self._control("-o", options, "-l", f"{self.folder}/log", "-w", "start")

    def stop(self) -> None:
        self._control("-m", "immediate", "stop")

    def _control(self, *words: str) -> None:
        self._run(Path(PG_CTL).resolve(), "-D", f"{self.folder}/data", *words)

    def _run(self, *words: object) -> None:
        done = {"check": True, "capture_output": True, "timeout": SECONDS}
        subprocess.run([*words], cwd=self.folder, **done, **self.user)


def one_sentence(done) -> str:
    """The only line on stderr; no traceback."""
    assert done.returncode == 2, (done.stdout, done.stderr)
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


def wait_for(condition, process: subprocess.Popen | None = None):
    """The first true value of ``condition()``; it must come before the process ends."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        with suppress(FileNotFoundError):  # a folder that is removed while it is listed
            if found := condition():
                return found
        if process and process.poll() is not None and not condition():
            raise AssertionError(f"ended too early: {process.communicate()}")
        time.sleep(0.01)
    raise AssertionError("waited in vain")


def free_port() -> int:
    """A port below the range from which the system gives ports to clients."""
    while True:
        port = 10_000 + secrets.randbelow(22_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def listens(port: int) -> bool:
    """Whether a process of this machine listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def use(folder: Path, monkeypatch) -> None:
    """Make ``folder`` the project of this process."""
    monkeypatch.setattr(settings, "root", lambda: folder)
    if (folder / "mlflow.db").exists():
        # MLflow imports mlflow_artifacts by its entry point, and must be the first to do so.
        importlib.import_module("mlflow.artifacts")
        monkeypatch.setattr(f"{PACKAGE}.models.mlflow_artifacts.root", lambda: folder)


@pytest.fixture(autouse=True)
def no_settings():
    """Remove settings of the developer's shell, and those that a test reads from .env."""
    # monkeypatch would restore a variable that .env set before the test patched it.
    variables = {name: text for name, text in os.environ.items() if not is_setting(name)}
    with (
        mock.patch.dict(os.environ, variables, clear=True),
        mock.patch.object(settings, "SECRETS", "/nowhere"),
    ):
        yield


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A project folder with the configuration, the example, and nothing else."""
    for name in ("config", "data/raw"):
        shutil.copytree(CHECKOUT / name, tmp_path / name)
    use(tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture
def config(folder) -> settings.Settings:
    return settings.load()


@pytest.fixture(scope="session")
def examples():
    """The training table, or some of its rows where it is long."""
    table = training_table(settings.load()).reset_index(drop=True)
    return table.sample(min(len(table), 2000), random_state=0).sort_index(ignore_index=True)


@pytest.fixture(scope="session")
def matrix(examples) -> np.ndarray:
    return CONTRACT.encode(examples)


@pytest.fixture(scope="session")
def target(examples) -> np.ndarray:
    """The target's codes, (rows,)."""
    return encode(CONTRACT.target, as_batch(examples[[CONTRACT.target.name]]).column(0))[0]


@pytest.fixture(scope="session")
def fitted(matrix, target):
    """The first candidate that is more than the baseline, fitted."""
    name = next(name for name in model.build(0) if name != model.BASELINE)
    return model.build(0)[name].estimator.fit(matrix, target)


@pytest.fixture(scope="session")
def saved(fitted, matrix, target, tmp_path_factory) -> Path:
    """The folder of a model that needs no registry."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    export.save(fitted, folder, matrix, target, matrix, settings.load())
    return folder


@pytest.fixture
def project(tmp_path):
    project = Project(tmp_path / "project")
    yield project
    project.stop()


@pytest.fixture
def call(project, monkeypatch, capsys):
    """call(*words, **settings): as Project.run, but in this process, which is much faster."""
    use(project.folder, monkeypatch)
    monkeypatch.chdir(project.folder)

    def run(*words: object, **chosen: object) -> subprocess.CompletedProcess:
        with monkeypatch.context() as patch:
            for name, value in chosen.items():
                patch.setenv(name, str(value))
            code = cli.main([str(word) for word in words])
        return subprocess.CompletedProcess(words, code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Project:
    """A project in which `train` has run once; ``training`` is that process."""
    project = Project(tmp_path_factory.mktemp("trained") / "project")
    project.training = project.run("train", **QUICK)
    assert project.training.returncode == 0, project.training.stdout + project.training.stderr
    return project


@pytest.fixture
def untouched(trained, monkeypatch) -> Project:
    """The trained project itself as this process's project, for tests that change nothing in it."""
    use(trained.folder, monkeypatch)
    return trained


@pytest.fixture
def copied(trained, tmp_path, monkeypatch) -> Project:
    """A copy of the trained project that a test may change; it is this process's project."""
    copy = trained.copy_to(tmp_path / "copied")
    use(copy.folder, monkeypatch)
    return copy


@pytest.fixture(scope="session")
def rows(examples):
    """rows(n): an Arrow table of n rows as they come in, without the target."""
    table = pa.Table.from_pandas(examples[CONTRACT.needed], preserve_index=False)
    for index, name in enumerate(table.column_names):
        if pa.types.is_timestamp(table[name].type):
            # pandas keeps dates as times; a CSV file would show their hours too.
            table = table.set_column(index, name, table[name].cast(pa.date32(), safe=False))

    def repeat(count: int) -> pa.Table:
        times = -(-count // table.num_rows)
        return pa.concat_tables([table] * times).slice(0, count).combine_chunks()

    return repeat


@pytest.fixture(scope="module")
def server():
    """A running PostgreSQL."""
    if not PG_CTL:
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    # A socket's path is limited to about 100 characters, pytest's folders are too deep.
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as folder:
        server = PostgreSQL(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture
def postgresql(server) -> str:
    """The URL of an empty database of a PostgreSQL."""
    with connect(server.url) as connection:
        connection.execute(sa.text("DROP SCHEMA IF EXISTS public CASCADE"))
        connection.execute(sa.text("CREATE SCHEMA public"))
    return server.url


def spoil(table: pa.Table, *numbers: int) -> pa.Table:
    """The table as a CSV file has it, with a bad value in the first feature of some rows."""
    name = CONTRACT.names[0]
    texts = [None if value is None else str(value) for value in table[name].to_pylist()]
    for number in numbers:
        texts[number] = BAD
    return table.set_column(table.column_names.index(name), name, pa.array(texts))


def numbered(count, first=0):
    numbers = range(first, first + count)
    return pa.table({"A": list(numbers), "B": [f"row {n}" for n in numbers], "C": [0.5] * count})


@pytest.fixture
def sources(tmp_path):
    """The same 1000 rows in every form an input may have."""
    table = numbered(1000)
    pq.write_table(table, tmp_path / "one.parquet", row_group_size=90)
    pyarrow.csv.write_csv(table, tmp_path / "one.csv")
    folder = tmp_path / "many"
    (folder / "day=2").mkdir(parents=True)
    pq.write_table(numbered(400), folder / "a.parquet", row_group_size=150)
    pyarrow.csv.write_csv(numbered(600, 400), folder / "day=2" / "b.csv")
    for hidden in (".staging", "_temporary"):
        (folder / hidden).mkdir()
        (folder / hidden / "c.csv").write_text("A,B\n1,no\n", "utf-8")
    (folder / "_manifest.json").write_text("{}", "utf-8")
    with sqlite3.connect(tmp_path / "one.db") as database:
        database.execute("CREATE TABLE numbers (A INTEGER, B TEXT, C REAL)")
        shuffled = table.take(list(range(999, -1, -1))).to_pydict()
        database.executemany(
            "INSERT INTO numbers VALUES (?, ?, ?)", list(zip(*shuffled.values(), strict=True))
        )
    url = f"sqlite:///{tmp_path / 'one.db'}"
    return {
        "parquet": str(tmp_path / "one.parquet"),
        "csv": str(tmp_path / "one.csv"),
        "file": (tmp_path / "one.csv").as_uri(),
        "folder": str(folder),
        "table": f"{url}#numbers",
        "query": f"{url}#SELECT * FROM numbers WHERE B <> ':not a parameter';",
    }
