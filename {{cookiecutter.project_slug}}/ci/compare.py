"""Compare a new version of the batch job with the old one, in dry runs on the environment's input.

Both versions score ``batch.input`` into folders of their own in the environment's volume; nothing
is published. The share of rows whose prediction differs by more than ``rollout.tolerance``, or that
only one version predicts, must not exceed ``rollout.max_changed_share``.
"""

import json
import secrets

from jobs import DRY_RUNS, Job
from release import Release

from {{ cookiecutter.__package_name }}.errors import ProjectError
from {{ cookiecutter.__package_name }}.settings import Settings

# Runs in the new image; arguments: the two folders and the tolerance. Both versions read the same
# input in the same order, so few rows wait for their counterpart, and little memory is needed.
DIFFER = """
import itertools, json, pathlib, sys
import pyarrow as pa, pyarrow.compute as pc, pyarrow.parquet as pq
old, new, tolerance = sys.argv[1], sys.argv[2], float(sys.argv[3])
told = {"probability", "model_version", "run_id", "predicted_at"}
def batches(folder):
    for file in sorted(pathlib.Path(folder).glob("[!_.]*.parquet")):
        parquet = pq.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20)
        columns = [each for each in parquet.schema_arrow.names if each not in told]
        yield from map(pa.table, parquet.iter_batches(columns=columns))
def with_next(waiting, batch):
    return pa.concat_tables([waiting, batch]) if waiting and batch else batch or waiting
def differing(one, other):
    if pa.types.is_floating(one.type):
        found = pc.greater(pc.abs(pc.subtract(other, one)), tolerance)
    else:
        found = pc.not_equal(one, other)
    return pc.sum(pc.fill_null(found, True)).as_py() or 0
rows = changed = 0
before, after = pa.table({}), pa.table({})
for one, other in itertools.zip_longest(batches(old), batches(new)):
    before, after = with_next(before, one), with_next(after, other)
    if not (before and after):
        continue
    keys = [name for name in before.column_names if name != "prediction"]
    if set(before.column_names) != set(after.column_names):
        sys.exit(f"rows were named by {keys}, now {after.column_names}: nothing can be compared")
    both = before.join(after, keys, join_type="inner", right_suffix="_after")
    rows += both.num_rows
    changed += differing(both["prediction"], both["prediction_after"])
    before = before.join(both, keys, join_type="left anti")
    after = after.join(both, keys, join_type="left anti")
alone = before.num_rows + after.num_rows
print(json.dumps({"rows": rows + alone, "changed": changed + alone}))
"""


class OldVersionError(ProjectError):
    """The old version fails, or its predictions cannot be compared."""


def compare(job: Job, old: Release, new: Release, config: Settings) -> None:
    """:raises ProjectError: the new version fails, or too many predictions changed."""
    job.forget(new.image, DRY_RUNS)  # left by an interrupted comparison
    folder = f"{DRY_RUNS}/{secrets.token_hex(6)}"
    try:
        dry_run(job, new, folder, "new")
        found = changes(job, old, new, folder, config)
    except OldVersionError as problem:
        # Otherwise a broken version, or one with another contract, could never be replaced.
        if config.rollout.max_changed_share < 1:
            raise
        print(f"All predictions may change: {problem}")
        return
    finally:
        job.forget(new.image, folder)
    share = found["changed"] / found["rows"] if found["rows"] else 0.0
    print(f"{found['changed']:,} of {found['rows']:,} predictions changed ({share:.2%}).")
    if share > config.rollout.max_changed_share:
        raise ProjectError(
            f"{share:.2%} of the predictions changed, {config.rollout.max_changed_share:.2%} may: "
            "APP__ROLLOUT__MAX_CHANGED_SHARE says, for once or in config/, that this is meant."
        )


def changes(job: Job, old: Release, new: Release, folder: str, config: Settings) -> dict:
    """Counts of rows and of changed predictions, after a dry run of the old version."""
    words = (f"{folder}/old/old", f"{folder}/new/new", str(config.rollout.tolerance))
    try:
        dry_run(job, old, folder, "old")
        return json.loads(job.python(new.image, DIFFER, *words))
    except ProjectError as problem:
        raise OldVersionError(
            f"the old version cannot be compared; APP__ROLLOUT__MAX_CHANGED_SHARE=1 replaces it "
            f"all the same. {problem}"
        ) from None


def dry_run(job: Job, release: Release, folder: str, which: str) -> None:
    manifest = job.score(release.image, f"{folder}/{which}", which)
    rows, took = manifest["rows"], manifest["timings"]["seconds"]
    print(f"The {which} version: {rows}, {took:.1f} s.")
