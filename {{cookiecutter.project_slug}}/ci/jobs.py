"""Runs of an environment's batch job, each in a container with the environment's volume."""

import json
from pathlib import Path

import container
from container import RIGHTS, run
from release import given

from {{ cookiecutter.__package_name }} import settings
from {{ cookiecutter.__package_name }}.settings import Settings

# In the volume of the environment.
DRY_RUNS = "data/dry-runs"
# The timeout of a run on the whole input.
RUN_SECONDS = 6 * 3600
PRINT = "import sys, pathlib; print(pathlib.Path(sys.argv[1]).read_text())"
THERE = "import sys, pathlib; print(pathlib.Path(sys.argv[1]).exists())"
FORGET = "import shutil, sys; shutil.rmtree(sys.argv[1], ignore_errors=True)"


class Job:
    """The batch job of one environment, whose settings are ``config``."""

    def __init__(self, engine: str, environment: str, config: Settings) -> None:
        self.engine, self.environment, self.config = engine, environment, config

    def score(self, image: str, output: str, run_id: str) -> dict:
        """Score into a folder of the volume and nowhere else, and return the run's manifest."""
        aside = {"APP__BATCH__REJECTED": f"{output}/rejected", "APP__BATCH__WORK": f"{output}/work"}
        options = [word for name, value in aside.items() for word in ("--env", f"{name}={value}")]
        words = ("score", "--output", output, "--run-id", run_id)
        sample = self._sample(image)
        if sample:
            words += ("--input", f"data/{sample.name}")
        self._run(image, *words, options=tuple(options), sample=sample)
        return json.loads(self.python(image, PRINT, f"{output}/{run_id}/_manifest.json"))

    def python(self, image: str, script: str, *words: str) -> str:
        """Run a script in the image, with the volume, and return its output."""
        return self._run(image, "-c", script, *words, options=("--entrypoint=python",))

    def forget(self, image: str, folder: str) -> None:
        self.python(image, FORGET, folder)

    def _run(self, image: str, *words: str, options=(), sample: Path | None = None) -> str:
        """Run a container. The sample is copied into it: a remote engine cannot mount our files."""
        memory = f"--memory={self.config.rollout.memory_mb}m"
        known = (*given(self.environment), *options, memory)
        rights = tuple(each for each in RIGHTS if each != "--read-only") if sample else RIGHTS
        made = run(self.engine, "create", *rights, *known, image, *words).strip().splitlines()[-1]
        try:
            if sample:
                run(self.engine, "cp", str(sample), f"{made}:/app/data/{sample.name}")
            return run(self.engine, "start", "--attach", made, seconds=RUN_SECONDS)
        finally:
            container.remove(self.engine, made)

    def _sample(self, image: str) -> Path | None:
        """The input, if it is a file of this project that the volume does not have."""
        file = Path(self.config.batch.input)
        if not file.is_file() or not file.is_relative_to(settings.root()):
            return None
        there = self.python(image, THERE, str(file.relative_to(settings.root())))
        return None if there.strip() == "True" else file
