"""Where predictions are published, all or nothing: a folder, a file, a table, or cloud storage.

An attempt at a run writes its parts to its own folder. Publishing is one rename, one transaction,
or in the cloud one file that names the parts. The run's manifest is stored with the predictions and
shows that the run is published.
"""

import json
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import ProjectError
from ..tables.databases import connect, exists, identity, local_path, make_missing, redacted
from ..tables.files import FORMATS, format_of
from ..tables.json_files import read_json, write_json
from ..tables.locks import only_one
from ..tables.reader import selection, sql_batches, sql_columns, table_batches
from ..tables.storage import CloudFolder, LocalFolder, in_cloud
from .formats import BATCH_ROWS, merge_csv, merge_parquet

MANIFEST = "_manifest.json"
LARGEST_MANIFEST = 100_000_000  # bytes
# The folder of an attempt, or of the copy of the model that Spark reads.
ATTEMPT = re.compile("[0-9a-f]{32}(-model)?")
# How long a run waits for another run that publishes to the same place.
PUBLISHING_SECONDS = 600
# The age at which the files of a killed attempt are removed.
ABANDONED_SECONDS = 24 * 3600


class LocalOutput:
    """Base class of the outputs that stage their parts in a local folder.

    ``publish`` of a folder or table replaces only a run that ``published`` found. If another
    process publishes the same run in between, that one stays.
    """

    def __init__(self, staging: Path) -> None:
        self.staging, self.found = staging, None
        self.locks = staging  # processes that share the staging folder share its locks

    def attempt(self, run_id: str) -> LocalFolder:
        """A new folder for the parts of a run; files that earlier attempts left are removed."""
        now = time.time()
        for left in self.staging.glob("*/*/"):
            with suppress(OSError):  # another process has removed it
                old = now - left.stat().st_mtime > ABANDONED_SECONDS
                if ATTEMPT.fullmatch(left.name) and (left.parent.name == run_id or old):
                    self.discard(LocalFolder(left))
        return LocalFolder(self.staging / run_id / uuid.uuid4().hex)

    def discard(self, attempt: LocalFolder) -> None:
        """Remove what was not published."""
        attempt.clear()
        with suppress(OSError):
            attempt.path.parent.rmdir()

    def _checked(self, attempt: LocalFolder, manifest: dict) -> list[Path]:
        """The parts that a manifest names.

        :raises ProjectError: a part is missing: it was removed, or executors write elsewhere.
        """
        parts = [attempt.path / name for name in manifest["parts"]]
        if missing := [part for part in parts if not part.exists()]:
            raise ProjectError(f"{missing[0]} is not there any more: start the run again.")
        return parts


class FolderOutput(LocalOutput):
    """``folder/<run id>/part-….parquet``; dataset readers skip names with a leading _ or dot."""

    def __init__(self, folder: Path, suffix: str) -> None:
        super().__init__(folder / ".staging")
        self.folder, self.suffix = folder, suffix

    def __str__(self) -> str:
        return str(self.folder)

    def published(self, run_id: str) -> dict | None:
        target, replaced = self.folder / run_id, self._replaced(run_id)
        if target.exists():
            shutil.rmtree(replaced, ignore_errors=True)
        elif replaced.exists():
            replaced.rename(target)  # killed between the two renames of ``publish``
        found = read_json(target / MANIFEST)
        if found is None and target.exists():
            raise ProjectError(f"{target} is no run: choose another output or run id.")
        self.found = _manifest(found, target)
        return self.found

    def publish(self, attempt: LocalFolder, schema: pa.Schema, manifest: dict) -> None:
        ready, target = attempt.path, self.folder / manifest["run_id"]
        parts = self._checked(attempt, manifest)
        for file in ready.iterdir():
            if file not in parts:
                file.unlink()
        write_json(ready / MANIFEST, manifest)
        if self.found:
            target.rename(self._replaced(target.name))
        ready.rename(target)
        shutil.rmtree(self._replaced(target.name), ignore_errors=True)

    def first(self, manifest: dict) -> Path:
        return self.folder / manifest["run_id"] / manifest["parts"][0]

    def manifests(self) -> Iterator[dict]:
        """The manifests of all published runs; the other outputs have this method, too."""
        for file in sorted(self.folder.glob(f"*/{MANIFEST}")):
            yield _manifest(read_json(file), file)

    def rows(self, manifest: dict, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        """The predictions of a run, in batches; in csv files all values are text."""
        for part in manifest["parts"]:
            yield from table_batches(str(self.folder / manifest["run_id"] / part), columns)

    def _replaced(self, run_id: str) -> Path:
        return self.folder / f".replaced-{run_id}"


class FileOutput(LocalOutput):
    """One parquet or csv file, and its manifest beside it."""

    def __init__(self, file: Path) -> None:
        super().__init__(file.parent / ".staging")
        self.file, self.suffix = file, f".{format_of(file)}"
        self.manifest = file.with_name(f"_{file.name}{MANIFEST}")

    def __str__(self) -> str:
        return str(self.file)

    def published(self, run_id: str) -> dict | None:
        found = _manifest(read_json(self.manifest), self.manifest)
        is_it = found and found["run_id"] == run_id and self.file.exists()
        return found if is_it else None

    def publish(self, attempt: LocalFolder, schema: pa.Schema, manifest: dict) -> None:
        parts, whole = self._checked(attempt, manifest), attempt.path / f"whole{self.suffix}"
        if self.suffix == ".csv":
            merge_csv((part.open("rb") for part in parts), whole)
        else:
            merge_parquet(parts, whole, schema)
        what = f"another run to {self.file}"
        with only_one(f"_{self.file.name}", self.staging, what, PUBLISHING_SECONDS):
            # First, so that a kill never leaves the new file beside the manifest of the old one.
            self.manifest.unlink(missing_ok=True)
            whole.replace(self.file)
            write_json(self.manifest, manifest)

    def first(self, manifest: dict) -> Path:
        return self.file

    def manifests(self) -> Iterator[dict]:
        if self.file.exists() and (found := _manifest(read_json(self.manifest), self.manifest)):
            yield found

    def rows(self, manifest: dict, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        yield from table_batches(str(self.file), columns)


class TableOutput(LocalOutput):
    """A database table, created if it is missing; its manifests are kept in ``score_runs``."""

    suffix = ".parquet"

    def __init__(self, uri: str, staging: Path) -> None:
        super().__init__(staging)
        self.uri = uri
        self.schema_name, _, self.table = uri.partition("#")[2].rpartition(".")
        if not self.table.replace("_", "").isalnum():
            raise ProjectError(f"{redacted(uri)}: name the table to write to behind the #.")

    def __str__(self) -> str:
        return identity(self.uri)

    def published(self, run_id: str) -> dict | None:
        from sqlalchemy import select

        runs = _runs_table(self.schema_name)
        mine = (runs.c.run_id == run_id) & (runs.c.table_name == self.table)
        with connect(self.uri, True, PUBLISHING_SECONDS) as connection:
            make_missing(connection, runs)
            found = connection.scalar(select(runs.c.manifest).where(mine))
        self.found = _manifest(json.loads(found), self) if found else None
        return self.found

    def publish(self, attempt: LocalFolder, schema: pa.Schema, manifest: dict) -> None:
        from sqlalchemy import delete, insert

        runs, table = _runs_table(self.schema_name), self._predictions(schema)
        run_id, parts = manifest["run_id"], self._checked(attempt, manifest)
        with connect(self.uri, seconds=PUBLISHING_SECONDS) as connection:
            make_missing(connection, table)
        with connect(self.uri, seconds=PUBLISHING_SECONDS) as connection:
            mine = (runs.c.run_id == run_id) & (runs.c.table_name == self.table)
            # If two processes publish the same run, the primary key of ``runs`` accepts only one.
            if self.found:
                connection.execute(delete(runs).where(mine))
                connection.execute(delete(table).where(table.c.run_id == run_id))
            for path in parts:
                with pq.ParquetFile(path, pre_buffer=False) as part:
                    for batch in part.iter_batches(BATCH_ROWS):
                        connection.execute(insert(table), batch.to_pylist())
            row = {"run_id": run_id, "table_name": self.table, "manifest": json.dumps(manifest)}
            connection.execute(insert(runs), row)

    def manifests(self) -> Iterator[dict]:
        from sqlalchemy import inspect, select

        runs = _runs_table(self.schema_name)
        if not exists(self.uri):
            return
        with connect(self.uri) as connection:
            there = inspect(connection).has_table(runs.name, runs.schema)
            query = select(runs.c.manifest).where(runs.c.table_name == self.table)
            found = connection.scalars(query).all() if there else ()
        yield from (_manifest(json.loads(each), self) for each in found)

    def rows(self, manifest: dict, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        from sqlalchemy import column

        query = selection(self.uri, columns or sql_columns(self.uri), [])
        yield from sql_batches(self.uri, query.where(column("run_id") == manifest["run_id"]))

    def _predictions(self, schema: pa.Schema):
        from sqlalchemy import Column, MetaData, Table

        columns = [Column(each.name, _sql_type(each.type)) for each in schema]
        return Table(self.table, MetaData(), *columns, schema=self.schema_name or None)


class CloudOutput:
    """``<uri>/<run id>/<attempt>/part-….parquet``, and the manifest beside the attempts.

    Nothing is renamed: a run is the parts that its manifest names, and does not exist without one.
    """

    def __init__(self, uri: str, suffix: str, work: Path) -> None:
        self.folder, self.suffix = CloudFolder(uri), suffix
        self.locks = work  # local locks, because cloud storage has none
        self.found: tuple[dict, dict] | None = None

    def __str__(self) -> str:
        return str(self.folder)

    def published(self, run_id: str) -> dict | None:
        self.found = self._manifest(run_id)
        return self.found and self.found[0]

    def attempt(self, run_id: str) -> CloudFolder:
        return CloudFolder(f"{self}/{run_id}/{uuid.uuid4().hex}")

    def publish(self, attempt: CloudFolder, schema: pa.Schema, manifest: dict) -> None:
        run_id, own = manifest["run_id"], str(attempt).rpartition("/")[2]
        manifest["parts"] = [f"{own}/{name}" for name in manifest["parts"]]
        before, version = self.found or (None, "create")
        content = json.dumps(manifest, indent=2).encode()
        try:
            self.folder.put(f"{run_id}/{MANIFEST}", content, version)
        except FileExistsError:
            # It may be our own manifest: it was written, but the response was lost.
            if self._parts(run_id) != manifest["parts"]:
                what = "was published by another process meanwhile: nothing was changed"
                raise ProjectError(f"run {run_id} {what}.") from None
        if before:
            with suppress(ProjectError):
                self.folder.remove(f"{run_id}/{name}" for name in before["parts"])

    def discard(self, attempt: CloudFolder) -> None:
        run_id, own = str(attempt).split("/")[-2:]
        with suppress(ProjectError):
            left = {f"{own}/{file.name}" for file in attempt.files()} - {*self._parts(run_id)}
            self.folder.remove(f"{run_id}/{name}" for name in left)

    def first(self, manifest: dict):
        return self.folder.find(f"{manifest['run_id']}/{manifest['parts'][0]}")

    def manifests(self) -> Iterator[dict]:
        for file in self.folder.files():
            if file.name == MANIFEST:
                yield self._manifest(Path(file.path).parent.name)[0]

    def rows(self, manifest: dict, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        for part in manifest["parts"]:
            yield from table_batches(f"{self}/{manifest['run_id']}/{part}", columns)

    def _parts(self, run_id: str) -> list[str]:
        """The parts of the run as it is published now."""
        found = self._manifest(run_id)
        return found[0]["parts"] if found else []

    def _manifest(self, run_id: str) -> tuple[dict, dict] | None:
        found = self.folder.get(f"{run_id}/{MANIFEST}", LARGEST_MANIFEST)
        where = f"{self}/{run_id}/{MANIFEST}"
        try:
            return found and (_manifest(json.loads(found[0]), where), found[1])
        except ValueError:
            raise _no_manifest(where) from None


def open_output(uri: str, file_format: str, work: Path):
    """The output that a URI names: a ``.parquet`` or ``.csv`` file, a folder, or a table."""
    if in_cloud(uri):
        if format_of(Path(uri)):
            raise ProjectError(f"{uri}: in the cloud an output is a folder: name one.")
        return CloudOutput(uri, f".{file_format}", work)
    path = local_path(uri)
    if path is None:
        return TableOutput(uri, work / ".staging")
    if path.is_dir() or not path.suffix[1:2].isalpha():
        return FolderOutput(path, f".{file_format}")
    if path.suffix.lower() not in FORMATS:
        raise ProjectError(
            f"{path}: an output is a .parquet or .csv file, or a folder: make this one first."
        )
    return FileOutput(path)


def _manifest(found: dict | None, where: object) -> dict | None:
    """The manifest, or None if there is none; anything else in its place is refused."""
    if found is not None:
        try:
            found["run_id"], found["input"]["uri"], [*found["parts"]]
        except (KeyError, TypeError):
            raise _no_manifest(where) from None
    return found


def _no_manifest(where: object) -> ProjectError:
    return ProjectError(f"{where} has no manifest of a run: choose another output or run id.")


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
