"""A dry run of a new version of the batch job beside the old one, on the input of the environment.

Both score ``batch.input`` into a folder of their own, in the volume of the environment; nothing is
published. The share of rows whose prediction differs by more than ``rollout.tolerance``, or that
only one of them predicts, must not be above ``rollout.max_changed_share``.
"""

import json
import secrets

from jobs import Job
from release import Release

from {{ cookiecutter.__package_name }}.errors import ProjectError
from {{ cookiecutter.__package_name }}.settings import Settings

# Run by the new image's own Python: the two folders, the tolerance.
DIFFER = """
import json, sys
import pyarrow as pa, pyarrow.compute as pc, pyarrow.parquet as pq
old, new, tolerance = sys.argv[1], sys.argv[2], float(sys.argv[3])
told = {"prediction", "probability", "model_version", "run_id", "predicted_at"}
def read(folder, name):
    table = pq.read_table(folder)
    keys = [each for each in table.column_names if each not in told]
    return table.select([*keys, "prediction"]).rename_columns([*keys, name]), keys
before, keys = read(old, "before")
after, _ = read(new, "after")
both = before.join(after, keys, join_type="full outer")
one, other = both["before"], both["after"]
if pa.types.is_floating(one.type):
    differs = pc.greater(pc.abs(pc.subtract(other, one)), tolerance)
else:
    differs = pc.not_equal(one, other)
changed = pc.sum(pc.fill_null(differs, True)).as_py() or 0
print(json.dumps({"rows": both.num_rows, "changed": changed}))
"""


def compare(job: Job, old: Release, new: Release, config: Settings) -> None:
    """:raises ProjectError: one of them fails, or too many predictions changed."""
    folder = f"data/dry-runs/{secrets.token_hex(6)}"
    try:
        for which, release in (("old", old), ("new", new)):
            manifest = job.score(release.image, f"{folder}/{which}", which)
            rows, took = manifest["rows"], manifest["timings"]["seconds"]
            print(f"The {which} version: {rows}, {took:.1f} s.")
        words = (f"{folder}/old/old", f"{folder}/new/new", str(config.rollout.tolerance))
        found = json.loads(job.python(new.image, DIFFER, *words))
    finally:
        job.forget(new.image, folder)
    share = found["changed"] / found["rows"] if found["rows"] else 0.0
    print(f"{found['changed']:,} of {found['rows']:,} predictions changed ({share:.2%}).")
    if share > config.rollout.max_changed_share:
        raise ProjectError(
            f"{share:.2%} of the predictions changed, {config.rollout.max_changed_share:.2%} may: "
            "ROLLOUT__MAX_CHANGED_SHARE says, for once or in config/, that this is meant."
        )
