"""Where predictions are published: a folder, one file, or a table; whole or not at all.

A run writes its parts to a staging folder first. Publishing is one rename, or one transaction, and
leaves the run's manifest with the predictions, so that a run that was published is known as such.
"""

import ctypes
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import ProjectError
from ..tables.databases import connect, identity, local_path, make_missing, redacted
from ..tables.files import FORMATS, format_of
from ..tables.json_files import read_json, write_json
from ..tables.locks import only_one
from .parts import BATCH_ROWS, STREAMED, merge

MANIFEST = "_manifest.json"
PARTS = "parts"
# Of Linux's system calls: a path as it stands, and to swap two.
AT_FDCWD, RENAME_EXCHANGE = -100, 2
# How long a run waits for another one that publishes to the same file.
PUBLISHING_SECONDS = 600


class FolderOutput:
    """``folder/<run id>/part-….parquet``; dataset readers skip names with a leading _ or dot."""

    def __init__(self, folder: Path, suffix: str) -> None:
        self.folder, self.suffix = folder, suffix
        self.staging = folder / ".staging"

    def __str__(self) -> str:
        return str(self.folder)

    def path(self, run_id: str) -> Path:
        return self.folder / run_id

    def published(self, run_id: str) -> dict | None:
        target, replaced = self.path(run_id), self.staging / run_id / "replaced"
        if replaced.is_dir() and not target.exists():
            replaced.rename(target)  # killed between the two renames of _exchange
        manifest = read_json(target / MANIFEST)
        if manifest is None and target.exists():
            raise ProjectError(f"{target} is no run: choose another output or run id.")
        return manifest

    def publish(self, run_id: str, parts: list[Path], schema: pa.Schema, manifest: dict) -> None:
        staged, target = self.staging / run_id / PARTS, self.folder / run_id
        write_json(staged / MANIFEST, manifest)
        # Under another name: a run that is taken up again must not find what it has replaced.
        shutil.rmtree(ready := staged.with_name("ready"), ignore_errors=True)
        staged.rename(ready)
        if target.exists():
            _exchange(ready, target)
        else:
            ready.rename(target)


class FileOutput:
    """One parquet or csv file, and its manifest beside it."""

    def __init__(self, file: Path, staging: Path) -> None:
        self.file, self.staging, self.suffix = file, staging, f".{format_of(file)}"
        self.manifest = file.with_name(f"_{file.name}{MANIFEST}")

    def __str__(self) -> str:
        return str(self.file)

    def path(self, run_id: str) -> Path:
        return self.file

    def published(self, run_id: str) -> dict | None:
        manifest = read_json(self.manifest)
        is_it = manifest and manifest["run_id"] == run_id and self.file.exists()
        return manifest if is_it else None

    def publish(self, run_id: str, parts: list[Path], schema: pa.Schema, manifest: dict) -> None:
        lock = hashlib.sha256(str(self.file).encode()).hexdigest()
        what = f"another run to {self.file}"
        with only_one(lock, self.staging.parent, what, PUBLISHING_SECONDS):
            self._replace(run_id, parts, schema, manifest)

    def _replace(self, run_id: str, parts: list[Path], schema: pa.Schema, manifest: dict) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.file.with_name(f".{run_id}.{self.file.name}")
        try:
            merge(parts, unfinished, schema)
            # First, so that a kill never leaves the new file beside the manifest of the old one.
            self.manifest.unlink(missing_ok=True)
            unfinished.replace(self.file)
        finally:
            unfinished.unlink(missing_ok=True)
        write_json(self.manifest, manifest)


class TableOutput:
    """A database table, created if it is missing; its manifests are kept in ``score_runs``."""

    suffix = ".parquet"

    def __init__(self, uri: str, staging: Path) -> None:
        self.uri, self.staging = uri, staging
        self.schema_name, _, self.table = uri.partition("#")[2].rpartition(".")
        if not self.table.replace("_", "").isalnum():
            raise ProjectError(f"{redacted(uri)}: name the table to write to behind the #.")

    def __str__(self) -> str:
        return identity(self.uri)

    def published(self, run_id: str) -> dict | None:
        from sqlalchemy import select

        runs = _runs_table(self.schema_name)
        mine = (runs.c.run_id == run_id) & (runs.c.table_name == self.table)
        with connect(self.uri, create=True) as connection:
            make_missing(connection, runs)
            found = connection.scalar(select(runs.c.manifest).where(mine))
        return json.loads(found) if found else None

    def publish(self, run_id: str, parts: list[Path], schema: pa.Schema, manifest: dict) -> None:
        from sqlalchemy import delete, insert

        runs, table = _runs_table(self.schema_name), self._predictions(schema)
        with connect(self.uri) as connection:
            table.create(connection, checkfirst=True)
            mine = (runs.c.run_id == run_id) & (runs.c.table_name == self.table)
            # Only a run that is repeated has rows, and to look for them takes a while. Of two
            # processes that publish the same run, the key of ``score_runs`` lets one through.
            if connection.execute(delete(runs).where(mine)).rowcount:
                connection.execute(delete(table).where(table.c.run_id == run_id))
            for path in parts:
                with pq.ParquetFile(path, **STREAMED) as part:
                    for batch in part.iter_batches(BATCH_ROWS):
                        connection.execute(insert(table), batch.to_pylist())
            row = {"run_id": run_id, "table_name": self.table, "manifest": json.dumps(manifest)}
            connection.execute(insert(runs), row)

    def _predictions(self, schema: pa.Schema):
        from sqlalchemy import Column, MetaData, Table

        columns = [Column(each.name, _sql_type(each.type)) for each in schema]
        return Table(self.table, MetaData(), *columns, schema=self.schema_name or None)


def open_output(uri: str, file_format: str, work: Path):
    """The output that a URI names: a ``.parquet`` or ``.csv`` file, a folder, or a table."""
    path = local_path(uri)
    if path is None:
        return TableOutput(uri, work / ".staging")
    if path.is_dir() or not path.suffix[1:2].isalpha():
        return FolderOutput(path, f".{file_format}")
    if path.suffix.lower() not in FORMATS:
        raise ProjectError(
            f"{path}: an output is a .parquet or .csv file, or a folder: make this one first."
        )
    return FileOutput(path, work / ".staging")


def _exchange(staged: Path, published: Path) -> None:
    """Put one folder in the place of the other: in one step on Linux, elsewhere in two."""
    if sys.platform == "linux":
        # Python itself has no function for this system call.
        swap = getattr(ctypes.CDLL(None), "renameat2", lambda *_: -1)
        here = [(AT_FDCWD, os.fsencode(path)) for path in (staged, published)]
        if swap(*here[0], *here[1], RENAME_EXCHANGE) == 0:
            return
    shutil.rmtree(replaced := staged.with_name("replaced"), ignore_errors=True)
    published.rename(replaced)
    staged.rename(published)


def _runs_table(schema: str):
    from sqlalchemy import Column, MetaData, String, Table, Text

    columns = [Column(name, String(200), primary_key=True) for name in ("run_id", "table_name")]
    columns.append(Column("manifest", Text))
    return Table("score_runs", MetaData(), *columns, schema=schema or None)


def _sql_type(kind: pa.DataType):
    from sqlalchemy import BigInteger, Boolean, Date, DateTime, Double, Text

    if pa.types.is_timestamp(kind):
        return DateTime(timezone=True)
    for matches, sql in (
        (pa.types.is_integer, BigInteger),
        (pa.types.is_floating, Double),
        (pa.types.is_boolean, Boolean),
        (pa.types.is_date, Date),
    ):
        if matches(kind):
            return sql()
    return Text()
