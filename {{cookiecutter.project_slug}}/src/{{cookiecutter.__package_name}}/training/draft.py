"""``contract`` prints the contract; ``contract draft`` writes a first one from a table.

A column gets a type in which the contract's own reader can read all its values, so that training
later reads the same values.
"""

import argparse
import itertools
import json
import re
import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import date, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .. import settings
from ..contract import CONTRACT
from ..contract import __doc__ as about
from ..errors import ProjectError
from ..schema import Column, Contract
from ..schema.arrow import encode, is_text, without_nan
from ..schema.columns import EPOCH, LARGEST_INTEGER
from ..settings import PACKAGE
from ..tables.databases import redacted
from ..tables.reader import merged, table_batches

# The most rows in the sample, and the most rows that are read for it.
MOST_ROWS, MOST_READ = 50_000, 3_000_000
# Up to so many different texts are a category; up to so many different numbers may be one.
MOST_ALLOWED, FEW = 50, 10
LONGEST_ALLOWED, SHOWN, WIDTH = 60, 3, 100
# Values that are read at a time: an unreadable value is slow, and no further ones are read.
SLICE = 1_000
Found = tuple[Column | None, list[str]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="draft")
    drafting = actions.add_parser("draft", help="write contract.py from a table")
    table = "csv or parquet file, folder of them, also in the cloud, or SQLAlchemy URL#TABLE"
    drafting.add_argument("table", metavar="TABLE", help=table)
    drafting.add_argument("--target", metavar="COLUMN", required=True, help="what is predicted")
    drafting.add_argument("--key", metavar="COLUMN", help="what identifies a row")


def run(arguments: argparse.Namespace) -> int:
    if not arguments.action:
        print(CONTRACT.markdown())
        return 0
    file = settings.root() / "src" / PACKAGE / "contract.py"
    contract, unsure, left_out = draft(arguments.table, arguments.target, arguments.key)
    backups = (file.with_name(f"contract.py.bak{number or ''}") for number in itertools.count())
    backup = next(path for path in backups if not path.exists())
    new = file.with_name("contract.py.new")
    new.write_text(written(contract, unsure), "utf-8")
    shutil.copy2(file, backup)
    new.replace(file)
    print(f"Wrote {file}; the one before is {backup.name}.")
    for name, notes in unsure.items():
        for note in notes:
            print(f"Unsure: {name}: {note}")
    for name, reason in left_out.items():
        print(f"Left out: {name}: {reason}")
    print("Next: edit meanings, units, and ranges that hold for years: values beyond are rejected.")
    print("Name the table in config/ as training.table. Then `train`.")
    return 0


def draft(uri: str, target: str, key: str | None) -> tuple[Contract, dict, dict]:
    """The contract that a table suggests, doubts about its columns, and why others are left out.

    :raises ProjectError: the table has no rows, lacks a column, or leaves nothing to predict from.
    """
    where = redacted(uri)
    table = sample(uri, where)
    keys = Column(key, "text") if key else None
    Contract("", (), Column(target, "float"), keys).require([*table], where, training=True)
    special = {target: target_of, key: key_of}
    found = {name: special.get(name, column_of)(name, each) for name, each in table.items()}
    for name in filter(None, (target, key)):
        if not found[name][0]:
            raise ProjectError(f"{where}: column {name} cannot be used: {found[name][1][0]}.")
    left_out = {name: notes[0] for name, (column, notes) in found.items() if not column}
    columns = [
        column for name, (column, _) in found.items() if column and name not in (target, key)
    ]
    if not columns:
        told = "".join(f"; {name}: {reason}" for name, reason in left_out.items())
        raise ProjectError(f"{where} has no column to predict from{told}.")
    major = int(CONTRACT.version.partition(".")[0]) + 1
    contract = Contract(
        f"{major}.0.0", tuple(columns), found[target][0], found[key][0] if key else None
    )
    return contract, {name: each[1] for name, each in found.items() if each[0]}, left_out


def sample(uri: str, where: str) -> dict[str, pa.Array]:
    """The columns of a table; of a large table, only every 2nd, 4th, 8th … row."""
    kept: list[tuple[np.ndarray, pa.RecordBatch]] = []
    rows, read, step = 0, 0, 1
    for batch in table_batches(settings.absolute(uri, Path.cwd())):
        kept.append(_every(step, np.arange(read, read + batch.num_rows), batch))
        rows, read = rows + kept[-1][1].num_rows, read + batch.num_rows
        while rows > MOST_ROWS:
            step *= 2
            kept = [_every(step, *each) for each in kept]
            rows = sum(each.num_rows for _, each in kept)
        if read >= MOST_READ:
            break
    if not rows:
        raise ProjectError(f"{where} has no rows.")
    if rows < read:
        print(f"Looked at {rows:,} of {read:,} rows: ranges may be wider, and values more.")
    tables = [pa.Table.from_batches([each]) for _, each in kept]
    names = [name for name in tables[0].column_names if name]
    if some := {name for each in tables for name in {*each.column_names} ^ {*names} if name}:
        raise ProjectError(f"{where}: column {', '.join(sorted(some))} is not in every file.")
    columns = {name: merged(name, tables, None) for name in names}
    return {name: _plain(values) for name, values in columns.items()}


def _every(step: int, numbers: np.ndarray, batch: pa.RecordBatch):
    """The rows whose number in the table is a multiple of ``step``, with these numbers."""
    wanted = numbers % step == 0
    return numbers[wanted], batch.filter(pa.array(wanted))


def _plain(values: pa.ChunkedArray | None) -> pa.Array:
    """One array; for None (types that do not mix), an array of lists, which no column can read."""
    if values is None:
        return pa.array([[]])
    values = values.combine_chunks()
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def column_of(name: str, values: pa.Array) -> Found:
    """The column that values suggest and doubts about it; or None, and why there is none."""
    texts = values.cast(pa.string()).drop_null() if is_text(values.type) else None
    zeros = texts is not None and pc.any(pc.match_substring_regex(texts, r"^\s*0\d")).as_py()
    kinds = ["boolean", "date"] if zeros else ["boolean", "integer", "float", "date"]
    for kind in kinds:
        codes = codes_of(Column(name, kind, nullable=True), values)
        if codes is None:
            continue
        known = codes[~np.isnan(codes)]
        if not len(known):
            return None, ["it holds no value"]
        column = Column(name, kind, nullable=len(known) < len(codes))
        if kind == "integer" and _meant_as_float(values, texts, column.nullable):
            continue
        return with_range(column, known), list(doubts(column, known, values))
    return category_of(name, values, texts)


def _meant_as_float(values: pa.Array, texts: pa.Array | None, nullable: bool) -> bool:
    """Whether whole numbers are floats, such as 3.0; not if there are gaps: pandas adds the .0."""
    if texts is not None:
        return not nullable and pc.any(pc.match_substring(texts, ".")).as_py()
    return not nullable and pa.types.is_floating(values.type)


def codes_of(column: Column, values: pa.Array) -> np.ndarray | None:
    """The numeric form of values; None if one breaks the column."""
    found = []
    for start in range(0, len(values), SLICE):
        codes, wrong = encode(column, values[start : start + SLICE])
        if wrong:
            return None
        found.append(codes)
    return np.concatenate(found)


def with_range(column: Column, codes: np.ndarray) -> Column:
    """The column with its values' range; numbers are rounded outwards to two digits (5.13: 5.1)."""
    if column.type == "boolean":
        return column
    low, high = float(codes.min()), float(codes.max())
    if column.type == "date":  # without a maximum: later days will come
        return replace(column, minimum=EPOCH + timedelta(low))
    ends = ((low, ROUND_FLOOR), (high, ROUND_CEILING))
    low, high = (float(Context(2, how).create_decimal(repr(end))) for end, how in ends)
    low, high = max(low, column.bounds[0]), min(high, column.bounds[1])
    low, high = (int(end) if end == int(end) else end for end in (low, high))
    return replace(column, minimum=low, maximum=high)


def doubts(column: Column, known: np.ndarray, values: pa.Array) -> Iterator[str]:
    """What the user should check."""
    digits = {None, "0", "1", "0.0", "1.0"}
    different = np.unique(known)
    if len(different) == 1:
        yield "always the same value: does the model learn from it?"
    elif column.type == "boolean" and digits >= {*values.cast(pa.string()).unique().to_pylist()}:
        yield "0 and 1 are taken for false and true: if it is an amount, its type is integer"
    elif column.type == "date":
        yield f'does it say when a row came up? Then time="{column.name}" holds out the newest rows'
    elif column.type in ("integer", "float") and (different == np.floor(different)).all():
        if is_few(known):
            allowed = ", ".join(f"{value:.15g}" for value in different)
            yield f"few values: a category? Then allowed=({allowed})"
        if len(different) == len(known):
            yield f"all values differ: does it identify a row? Then --key {column.name}"
        if abs(different).max() > LARGEST_INTEGER:
            yield "larger than 2**24, where numbers are rounded: if these are codes, leave it out"


def is_few(known: np.ndarray) -> bool:
    return len(different := np.unique(known)) <= FEW and 2 * len(different) <= len(known)


def category_of(name: str, values: pa.Array, texts: pa.Array | None) -> Found:
    if texts is None:
        return None, [f"its {values.type} cannot all be read as numbers or dates: see data.py"]
    trimmed = pc.utf8_trim_whitespace(texts)
    allowed = sorted({text for text in trimmed.unique().to_pylist() if text})
    examples = ", ".join(map(repr, allowed[:SHOWN]))
    if not allowed:
        return None, ["it holds no value"]
    words = [text for text in allowed if not re.fullmatch(r"[-+]?\d+([.,]\d+)?", text)]
    others = ", ".join(map(repr, words[:SHOWN]))
    mixed = [f"numbers, but for {others}: make these missing in data.py"]
    mixed *= 0 < 2 * len(words) < len(allowed)
    few = len(allowed) <= MOST_ALLOWED and 2 * len(allowed) <= len(texts)
    if few and max(map(len, allowed)) <= LONGEST_ALLOWED:
        missing = values.null_count + pc.sum(pc.equal(trimmed, "")).as_py() > 0
        column = Column(name, "category", allowed=tuple(allowed), nullable=missing)
        return column, ["one value only"] if len(allowed) == 1 else mixed
    if all(re.search(r"\d[./]\d+[./]\d", text) for text in allowed[:SLICE]):
        reason = f"dates such as {examples}; the contract reads {date(2021, 12, 31)} only, and it "
        return None, [reason + "is for you to say which is the day: make one of it in data.py"]
    if len(allowed) == len(texts):
        examples += f" (if they identify a row: --key {name})"
    reason = f"{len(allowed):,} texts such as {examples} have no numeric form: see data.py"
    return None, mixed or [reason]


def key_of(name: str, values: pa.Array) -> Found:
    """A key: an integer if that loses nothing, such as a leading zero; otherwise a text."""
    try:
        texts = pc.utf8_trim_whitespace(without_nan(values).cast(pa.string()))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None, [f"its {values.type} identifies no row"]
    if gaps := texts.null_count + pc.sum(pc.equal(texts, ""), min_count=0).as_py():
        return None, [f"it is missing in {gaps:,} rows"]
    whole = pc.all(pc.match_substring_regex(texts, r"^(0|-?[1-9]\d{0,17})$")).as_py()
    repeated = len(texts) - pc.count_distinct(texts).as_py()
    doubt = [f"{repeated:,} rows repeat a value: does it identify a row?"] * bool(repeated)
    return Column(name, "integer" if whole else "text"), doubt


def target_of(name: str, values: pa.Array) -> Found:
    """A target: without a range, and a category if its whole numbers have few different values."""
    column, notes = column_of(name, values)
    if not column:
        return None, notes
    column = replace(column, minimum=None, maximum=None)
    codes = codes_of(column, values)
    known = np.sort(codes[~np.isnan(codes)])
    if column.type == "integer" and is_few(known):
        allowed = tuple(np.unique(known).astype(int).tolist())
        column = Column(name, "category", allowed=allowed, nullable=column.nullable)
        notes = ["taken for classes: if it is an amount, its type is integer"]
    if column.nullable:
        notes.append("some rows have none: leave them out in data.py")
    # Imported here, because they load scikit-learn, which printing the contract does not need.
    from sklearn.base import is_classifier

    from .. import model

    if bool(column.classes) != is_classifier(model.build(0)[model.BASELINE].estimator):
        kinds = ("numbers", "classes") if column.classes else ("classes", "numbers")
        notes.append("model.py predicts {}, these are {}".format(*kinds))
    if not column.classes:
        middle = column.decode(known[[len(known) // 2]])[0]
        column = replace(column, example=middle if column.type == "date" else middle.item())
    return replace(column, nullable=False), notes


def written(contract: Contract, unsure: dict[str, list[str]]) -> str:
    """The text of contract.py, formatted as by ``ruff format``; doubts are above their column."""
    lines = [f'    version="{contract.version}",']
    if contract.key:
        lines += _lines(contract.key, unsure, "    ", "key=")
    lines += ["    columns=("]
    for column in contract.columns:
        lines += _lines(column, unsure, "        ", "")
    lines += ["    ),", *_lines(contract.target, unsure, "    ", "target=")]
    dated = "from datetime import date\n\n" if "=date(" in "".join(lines) else ""
    head = f'"""{about}"""\n\n{dated}from .schema import Column, Contract\n\nCONTRACT = Contract('
    return "\n".join([head, *lines, ")", ""])


def _lines(column: Column, unsure: dict, indent: str, role: str) -> Iterator[str]:
    for note in unsure[column.name]:
        yield from textwrap.wrap(
            f"Unsure: {note}", WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "
        )
    words = [_literal(column.name), _literal(column.type)]
    for field in fields(Column)[2:]:
        if (value := getattr(column, field.name)) != field.default:
            words.append(f"{field.name}={_literal(value)}")
    line = f"{indent}{role}Column({', '.join(words)}),"
    if len(line) <= WIDTH:
        yield line
        return
    yield f"{indent}{role}Column("
    for word in words:
        if len(f"{indent}    {word},") > WIDTH and word.startswith("allowed"):
            each = [f"{indent}        {_literal(value)}," for value in column.allowed]
            yield from (f"{indent}    allowed=(", *each, f"{indent}    ),")
        else:
            yield f"{indent}    {word},"
    yield f"{indent}),"


def _literal(value) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_literal, value))}{',' * (len(value) == 1)})"
    if isinstance(value, date):
        return f"date({value.year}, {value.month}, {value.day})"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return repr(value).replace("e+", "e")
