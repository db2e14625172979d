"""Smoke test of an image: it must score the example, with only a model.

``python ci/smoke_batch.py ENGINE IMAGE MODEL`` returns 1 if it does not. ENGINE is docker or
podman, MODEL the folder of a model.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

from container import LOCKED, run
from program import call

from {{ cookiecutter.__package_name }}.batch.outputs import MANIFEST
from {{ cookiecutter.__package_name }}.errors import ProjectError
from {{ cookiecutter.__package_name }}.tables.json_files import read_json

RUN = "smoke"


def score(engine: str, image: str, model: str) -> None:
    """:raises ProjectError: it fails, predicts no row, or its manifest lacks rows."""
    Path("build").mkdir(exist_ok=True)
    # Inside the project: an engine on another machine may share this folder.
    with tempfile.TemporaryDirectory(dir="build") as folder:
        data = Path(folder, "data").resolve()
        shutil.copytree("data/raw", data / "raw")
        mounts = ("-v", f"{Path(model).resolve()}:/app/model:ro", "-v", f"{data}:/app/data")
        where = ("--user", str(os.getuid()), "--env", "APP__MODELS__URI=/app/model")
        words = ("--input", "data/raw/example.csv", "--output", "data/out", "--run-id", RUN)
        print(run(engine, "run", "--rm", *LOCKED, *where, *mounts, image, "score", *words), end="")
        manifest = read_json(data / "out" / RUN / MANIFEST) or {"rows": {}}
    rows = manifest["rows"]
    if not rows.get("predicted") or rows["read"] != rows["predicted"] + rows["rejected"]:
        raise ProjectError(f"it has published no predictions: {rows}.")


if __name__ == "__main__":
    sys.exit(call(score, "ENGINE IMAGE MODEL", sys.argv[1:]))
