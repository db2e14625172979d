"""Predictions for a csv file from a running API: ``predict --url http://127.0.0.1:8000 FILE.csv``.

Rows are read, sent and written batch by batch, so that a file of any length takes the memory of
one batch.
"""

import argparse
import csv
import io
import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .. import settings
from ..contract import CONTRACT
from ..errors import ProjectError, brief
from .remote import Api, printable, told
from .values import parse

log = logging.getLogger(__name__)
MOST_ROWS, LINE_CHARACTERS, KEY_CHARACTERS = 100_000, 1_000_000, 8_192
# So many of the refused rows are named.
NAMED = 20
HINTS = {
    401: " The key is expected in the variable API_KEY or in a --key-file.",
    404: " Is --url the address of the API?",
    413: " Not even one row alone was accepted.",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", type=Path, metavar="FILE.csv", help="rows with the columns of the contract, UTF-8")
    add("--url", help="of the API (default: api.host and api.port of the settings)")
    add("--output", type=Path, metavar="FILE", help="csv file (default: standard output)")
    add("--key-file", type=Path, metavar="FILE", help="holds the API key (default: $API_KEY)")
    rows = _between(int, 1, MOST_ROWS)
    add("--batch-rows", type=rows, default=1000, metavar="N", help="rows per request (1000)")
    tries = _between(int, 0, 20)
    add("--retries", type=tries, default=5, metavar="N", help="further tries of a request (5)")
    seconds = _between(float, 0.1, 600)
    add("--timeout", type=seconds, default=30.0, metavar="S", help="seconds for one try (30)")


def _between(kind: type, low: float, high: float):
    def read(text: str):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not between {low} and {high:,}")
        return value

    return read


def run(arguments: argparse.Namespace) -> int:
    settings.read_dotenv()
    url = _own_url() if arguments.url is None else arguments.url
    api = Api(url, _key(arguments.key_file), arguments.timeout, arguments.retries)
    with closing(api), _read(arguments.file) as table, _written(arguments.output) as output:
        job = Job(api, table, arguments.batch_rows)
        job.write_to(output)
    return job.close()


@dataclass(slots=True)
class Row:
    """The cells of a row, the line of the file that ends it, and what the API says of it."""

    line: int
    cells: list[str]
    answer: list[str] = field(default_factory=list)


class Table:
    """A csv file that is read row by row.

    :raises ProjectError: a column is missing or there twice, or would be written twice.
    """

    def __init__(self, path: Path, file: io.BufferedReader, text: io.TextIOBase) -> None:
        self.path, self.file = path, file
        # Strict: a quote that is never closed must not swallow the rest of the file.
        self.reader = csv.reader(_lines(path, text), strict=True)
        self.header = next(self.reader, [])
        CONTRACT.require(self.header, str(path))
        ours = [name for name in added() if name in self.header]
        if ours:
            raise ProjectError(f"{path} has a column {', '.join(ours)} already: rename it.")

    def __iter__(self) -> Iterator[Row]:
        for cells in self.reader:
            if cells and len(cells) != len(self.header):
                raise ProjectError(
                    f"{self.path}, line {self.reader.line_num}: {len(cells)} cells, "
                    f"where the header has {len(self.header)}."
                )
            if cells:  # an empty line is no row
                yield Row(self.reader.line_num, cells)

    @property
    def position(self) -> tuple[int, int]:
        """How much was read, of how much; 0 where that is unknown, as of a pipe."""
        size = os.fstat(self.file.fileno()).st_size
        return (self.file.tell(), size) if size else (0, 0)


def added() -> list[str]:
    """What is written behind the columns of the input."""
    with_probability = bool(CONTRACT.target.classes)
    return ["prediction", *(["probability"] if with_probability else []), "model_version"]


class Job:
    """The table's way through the API, in batches."""

    def __init__(self, api: Api, table: Table, batch_rows: int) -> None:
        self.api, self.table, self.batch_rows = api, table, batch_rows
        self.places = [(column, table.header.index(column.name)) for column in CONTRACT.inputs]
        self.done, self.refused = 0, 0

    def write_to(self, output: io.TextIOBase) -> None:
        """Write every row with its prediction, in the order of the input."""
        write = csv.writer(output, lineterminator="\n")
        write.writerow([*self.table.header, *added()])
        rows, total = iter(self.table), self.table.position[1] or None
        with tqdm(
            desc="Predicting", total=total, unit="B", unit_scale=True, disable=None
        ) as progress:
            while batch := list(islice(rows, self.batch_rows)):
                self._answer(batch)
                write.writerows(row.cells + row.answer for row in batch)
                self.done += len(batch)
                progress.set_postfix(rows=self.done, refresh=False)
                progress.update(self.table.position[0] - progress.n)

    def _answer(self, batch: list[Row]) -> None:
        """Fill in the rows' answers; each round ends a part, halves it, or drops refused rows."""
        left = batch
        while left:
            part, left = left[: self.batch_rows], left[self.batch_rows :]
            status, answer = self.api.ask(self._body(part))
            # Too many bytes, or too many rows.
            too_large = status == 413 or answer.get("code") == "too_many_rows"
            if status == 200:
                self._take(part, answer)
            elif too_large and len(part) > 1:
                self.batch_rows = (len(part) + 1) // 2
                log.info("%d rows are too many at once: now %d", len(part), self.batch_rows)
                left = part + left
            elif reasons := _reasons(answer, len(part)) if status == 422 else {}:
                for index, reason in reasons.items():
                    self._refuse(part[index], reason)
                left = [row for index, row in enumerate(part) if index not in reasons] + left
            else:
                raise ProjectError(
                    f"{self.api} answered {told(status, answer)}.{HINTS.get(status, '')}"
                )

    def _body(self, rows: list[Row]) -> bytes:
        data = {
            column.name: [parse(column, row.cells[place]) for row in rows]
            for column, place in self.places
        }
        return json.dumps({"data": data}, allow_nan=False).encode()

    def _take(self, rows: list[Row], answer: dict) -> None:
        predictions = answer.get("predictions")
        columns = {"prediction": predictions}
        columns["probability"] = answer.get("probabilities") or [None] * len(rows)
        model = answer.get("model")
        version = model.get("version") if isinstance(model, dict) else None
        columns["model_version"] = [version] * len(rows)
        if not all(isinstance(each, list) and len(each) == len(rows) for each in columns.values()):
            raise ProjectError(f"{self.api} did not answer with one prediction for each row.")
        for row, *cells in zip(rows, *(columns[name] for name in added()), strict=True):
            row.answer = [_cell(value) for value in cells]

    def _refuse(self, row: Row, reason: str) -> None:
        row.answer = [""] * len(added())
        self.refused += 1
        if self.refused <= NAMED:
            named = printable(f"{self.table.path}, line {row.line}: {reason}")
            tqdm.write(named, file=sys.stderr)

    def close(self) -> int:
        """Sum up; the exit code is 1 if the API refused a row, else 0."""
        if self.refused > NAMED:
            print(f"and {self.refused - NAMED:,} more rows", file=sys.stderr)
        refused = f", {self.refused:,} of them refused" if self.refused else ""
        print(f"{self.done:,} rows{refused}", file=sys.stderr)
        return 1 if self.refused else 0


def _own_url() -> str:
    """Where the API of the same settings listens, seen from this machine."""
    api = settings.load().api
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(api.host, api.host)  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host else host}:{api.port}"


def _key(file: Path | None) -> str:
    """The API key, or nothing; never from an option, which the list of processes would show."""
    where, key = "API_KEY", os.environ.get("API_KEY", "")
    if file:
        where = str(file)
        with _explained(file), file.open(encoding="utf-8", errors="replace") as text:
            key = text.read(KEY_CHARACTERS + 1)
    key = key.strip()
    if (file and not key) or len(key) > KEY_CHARACTERS or not (key.isascii() and key.isprintable()):
        raise ProjectError(f"{where} holds no key: one line of printable ASCII is expected.")
    return key


@contextmanager
def _read(path: Path):
    """The table of a csv file.

    :raises ProjectError: it cannot be read, now or further down.
    """
    with _explained(path):
        file = path.open("rb")
    try:
        with file, io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
            yield Table(path, file, text)
    except UnicodeDecodeError as error:
        raise ProjectError(f"{path} is no text in UTF-8: {brief(error)}.") from None
    except csv.Error as error:
        raise ProjectError(f"{path} is no csv file: {brief(error)}.") from None


def _lines(path: Path, text: io.TextIOBase) -> Iterator[str]:
    """The lines of a file, none so long that it would fill the memory."""
    while line := text.readline(LINE_CHARACTERS):
        if len(line) == LINE_CHARACTERS:
            raise ProjectError(f"{path} has a line of more than {LINE_CHARACTERS:,} characters.")
        yield line


@contextmanager
def _explained(path: Path):
    try:
        yield
    except OSError as error:
        raise ProjectError(f"{path} cannot be read: {error.strerror}.") from None


@contextmanager
def _written(path: Path | None):
    """A csv file that is there whole or not at all; the standard output, where none is named."""
    if path is None:
        with _standard_output() as output:
            yield output
        return
    path = path.resolve()
    if not path.parent.is_dir() or (path.exists() and not path.is_file()):
        raise ProjectError(f"{path} cannot be written: name a file in a folder that exists.")
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        with unfinished.open("w", encoding="utf-8", newline="") as output:
            yield output
            output.flush()
            os.fsync(output.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def _standard_output():
    sys.stdout.reconfigure(encoding="utf-8", newline="")
    try:
        yield sys.stdout
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more at its end and would complain once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise ProjectError("the reader of the standard output has gone away.") from None


def _reasons(answer: dict, rows: int) -> dict[int, str]:
    """Why rows were refused, by their place in the request."""
    reasons: dict[int, str] = {}
    violations = answer.get("violations")
    for each in violations if isinstance(violations, list) else []:
        index = each.get("index") if isinstance(each, dict) else None
        if not isinstance(index, int) or not 0 <= index < rows:
            continue
        value = each.get("value")
        words = [each.get("column"), None if value is None else _cell(value), each.get("reason")]
        reason = " ".join(str(word) for word in words if word is not None)
        reasons[index] = f"{reasons[index]}; {reason}" if index in reasons else reason
    return reasons


def _cell(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)
