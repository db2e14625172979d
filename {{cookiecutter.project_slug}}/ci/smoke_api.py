"""Smoke test of an image: it must serve the contract's example, with only a model.

``python ci/smoke_api.py ENGINE IMAGE MODEL`` returns 1 if it does not. ENGINE is docker or podman,
MODEL the folder of a model.
"""

import json
import os
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from container import LOCKED, SECONDS, run
from machine import EXAMPLE
from program import call

from {{ cookiecutter.__package_name }}.errors import ProjectError

# Runs inside the container, because the container has no network.
ASK = """
import sys, urllib.request
url, kind = "http://127.0.0.1:8000" + sys.argv[1], {"Content-Type": "application/json"}
body = sys.argv[2].encode() if len(sys.argv) > 2 else None
print(urllib.request.urlopen(urllib.request.Request(url, body, kind), timeout=30).read().decode())
"""


def serve(engine: str, image: str, model: str) -> None:
    """:raises ProjectError: it is not ready in time, or gives no prediction."""
    name = f"smoke-{os.getpid()}"
    Path("build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir="build", ignore_cleanup_errors=True) as folder:
        data = Path(folder, "data").resolve()
        data.mkdir()
        data.chmod(0o777)  # the image runs as another user
        mounts = ("-v", f"{Path(model).resolve()}:/app/model:ro", "-v", f"{data}:/app/data")
        run(engine, "run", "--detach", "--name", name, *LOCKED, *mounts, image)
        try:
            ask_for_a_prediction(image, engine, "exec", name, "python", "-c")
        finally:
            with suppress(ProjectError):
                run(engine, "rm", "--force", name)


def ask_for_a_prediction(image: str, *python: str) -> None:
    wait_until_ready(*python, ASK)
    answer = run(*python, ASK, "/predict", run(*python, EXAMPLE))
    print(f"{image} answers {answer.strip()}")
    if len(json.loads(answer)["predictions"]) != 1:
        raise ProjectError("it gives no prediction for one row.")


def wait_until_ready(*ask: str) -> None:
    until = time.monotonic() + SECONDS
    while True:
        try:
            run(*ask, "/health/ready")
            return
        except ProjectError as problem:
            if time.monotonic() > until:
                raise ProjectError(f"it was not ready in {SECONDS} seconds: {problem}") from None
            time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(call(serve, "ENGINE IMAGE MODEL", sys.argv[1:]))
