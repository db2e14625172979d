"""A real PostgreSQL as input, output and ledger, started here as an unprivileged user."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from {{ cookiecutter.__package_name }} import tables

from conftest import wait_for

SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
PG_CTL = shutil.which("pg_ctl") or (str(SERVERS[-1]) if SERVERS else None)
pytestmark = pytest.mark.skipif(not PG_CTL, reason="no PostgreSQL: apt-get install postgresql")


@pytest.fixture(scope="module")
def postgresql():
    """The URL of an empty database that nobody else can reach: a Unix socket, no network."""
    # PostgreSQL refuses to run as root.
    user = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}
    # A socket's path is limited to about 100 characters, pytest's folders are too deep.
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as folder:
        if user:
            shutil.chown(folder, **user)
        binary, data = Path(PG_CTL).resolve(), f"{folder}/data"

        def run(*words):
            subprocess.run([*words], check=True, capture_output=True, cwd=folder, **user)

        run(binary.with_name("initdb"), "-D", data, "-U", "tester", "-A", "trust", "--no-sync")
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        log = f"{folder}/log"
        run(binary, "-D", data, "-o", options, "-l", log, "-w", "start")
        try:
            yield f"postgresql+pg8000://tester@/postgres?unix_sock={folder}/.s.PGSQL.5432"
        finally:
            run(binary, "-D", data, "-m", "immediate", "stop")


def fill(url, table: pa.Table, first=0):
    import sqlalchemy as sa

    kinds = {pa.int64(): sa.BigInteger, pa.float64(): sa.Double, pa.string(): sa.Text}
    columns = [sa.Column(f.name, kinds.get(f.type, sa.Text)) for f in table.schema]
    number = sa.Column("number", sa.Numeric(12, 2))
    orders = sa.Table("orders", sa.MetaData(), number, *columns)
    with tables.connect(url) as connection:
        orders.create(connection, checkfirst=True)
        numbered = [
            {"number": first + number, **row} for number, row in enumerate(table.to_pylist())
        ]
        connection.execute(orders.insert(), numbered)


def test_from_table_to_table_by_watermark_exactly_once(postgresql, project, saved, rows):
    words = ["score", "--model", saved, "--input", f"{postgresql}#orders"]
    words += ["--output", f"{postgresql}#predictions", "--incremental", "--watermark", "number"]

    def score():
        done = project.run(*words, BATCH__DATABASE=postgresql)
        assert done.returncode == 0, done.stderr
        return done.stdout

    fill(postgresql, rows(2000))
    assert "2,000 predicted" in score()
    assert "Nothing new" in score()
    fill(postgresql, rows(10), first=2000)
    assert "10 predicted" in score()
    stored = tables.read(f"{postgresql}#predictions")
    assert stored.num_rows == 2010
    assert len(set(stored["run_id"].to_pylist())) == 2
    assert tables.read(f"{postgresql}#score_runs").num_rows == 2


def test_a_reader_never_sees_half_a_run_and_a_killed_one_leaves_nothing(
    postgresql, project, saved, rows, tmp_path
):
    import pyarrow.parquet as pq

    pq.write_table(rows(20_000), tmp_path / "in.parquet", row_group_size=5_000)
    words = ["score", "--model", saved, "--input", tmp_path / "in.parquet"]
    words += ["--output", f"{postgresql}#big", "--run-id", "big"]
    process = project.start(*words)

    def count():
        try:
            return tables.read(f"{postgresql}#SELECT count(*) AS n FROM big")["n"][0].as_py()
        except tables.ProjectError:
            return None

    wait_for(lambda: busy(postgresql), process)
    assert count() in (None, 0)
    process.kill()
    process.communicate()
    assert count() in (None, 0)
    done = project.run(*words)
    assert done.returncode == 0, done.stderr
    assert count() == 20_000


def busy(url):
    """Whether another connection is inserting."""
    query = "SELECT count(*) AS n FROM pg_stat_activity WHERE query LIKE 'INSERT INTO big%'"
    return tables.read(f"{url}#{query}")["n"][0].as_py()
