"""A real PostgreSQL as input, output and ledger."""

import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from conftest import wait_for
from orders_table import fill

from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.tables import reader
from iris_flower_prediction.tables.databases import connect

pytestmark = pytest.mark.slow


def execute(url, statement):
    with connect(url) as connection:
        connection.execute(sa.text(statement))


DECIMAL = sa.Numeric(12, 2)


def test_from_table_to_table_by_watermark_exactly_once(postgresql, call, saved, rows):
    words = ["score", "--model", saved, "--input", f"{postgresql}#orders"]
    words += ["--output", f"{postgresql}#predictions", "--incremental", "--watermark", "number"]

    def score():
        done = call(*words, APP__DATABASE=postgresql)
        assert done.returncode == 0, done.stderr
        return done.stdout

    fill(postgresql, rows(1500), number=DECIMAL)
    assert "1,500 predicted" in score()
    assert "Nothing new" in score()
    fill(postgresql, rows(10), first=1500, number=DECIMAL)
    assert "10 predicted" in score()
    stored = reader.read(f"{postgresql}#predictions", CONTRACT)
    assert stored.num_rows == 1510
    assert len(set(stored["run_id"].to_pylist())) == 2
    assert reader.read(f"{postgresql}#score_runs", CONTRACT).num_rows == 2
    # Rows that were scored as one database user are not scored again as another.
    execute(postgresql, "CREATE ROLE another SUPERUSER LOGIN")
    another = sa.make_url(postgresql).set(username="another").render_as_string(False)
    words = [str(word).replace(postgresql, another) for word in words]
    assert "Nothing new" in score()


SLEEP = """
CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_sleep(60); RETURN NEW; END $$;
CREATE TRIGGER sleep BEFORE INSERT ON score_runs EXECUTE FUNCTION sleep()
"""


def test_a_run_killed_while_it_publishes_leaves_nothing(postgresql, project, call, saved, rows):
    pq.write_table(rows(500), project.folder / "in.parquet")
    words = ["score", "--model", saved, "--input", "in.parquet", "--output", f"{postgresql}#kept"]

    def stored(run_id):
        query = f"SELECT count(*) AS n FROM kept WHERE run_id = '{run_id}'"
        return reader.read(f"{postgresql}#{query}", CONTRACT)["n"][0].as_py()

    assert call(*words, "--run-id", "one").returncode == 0
    assert stored("one") == 500
    execute(postgresql, SLEEP)
    process = project.start(*words, "--run-id", "two")
    query = "SELECT max(pid) AS pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    sleeping = f"{postgresql}#{query}"
    pid = wait_for(lambda: reader.read(sleeping, CONTRACT)["pid"][0].as_py(), process)
    assert stored("two") == 0, "a reader sees nothing of a run that is not whole"
    process.kill()
    process.communicate()
    execute(postgresql, f"SELECT pg_terminate_backend({pid}, 10000)")
    execute(postgresql, "DROP FUNCTION sleep CASCADE")
    assert (stored("one"), stored("two")) == (500, 0)
    done = call(*words, "--run-id", "two")
    assert done.returncode == 0, done.stderr
    assert (stored("one"), stored("two")) == (500, 500)
