"""Batch jobs of an environment in containers: one run each, with the environment's volume."""

import json
from pathlib import Path

import container
from container import RIGHTS, run
from release import given

from {{ cookiecutter.__package_name }} import settings
from {{ cookiecutter.__package_name }}.settings import Settings

# In the volume of the environment.
DRY_RUNS = "data/dry-runs"
# A run on the whole input.
RUN_SECONDS = 6 * 3600
PRINT = "import sys, pathlib; print(pathlib.Path(sys.argv[1]).read_text())"
THERE = "import sys, pathlib; print(pathlib.Path(sys.argv[1]).exists())"
FORGET = "import shutil, sys; shutil.rmtree(sys.argv[1], ignore_errors=True)"


class Job:
    """The batch job of one environment, whose settings are ``config``."""

    def __init__(self, engine: str, environment: str, config: Settings) -> None:
        self.engine, self.environment, self.config = engine, environment, config

    def score(self, image: str, output: str, run_id: str) -> dict:
        """The manifest of a run that writes to a folder of the volume and nowhere else."""
        aside = {"APP__BATCH__REJECTED": f"{output}/rejected", "APP__BATCH__WORK": f"{output}/work"}
        options = [word for name, value in aside.items() for word in ("--env", f"{name}={value}")]
        words = ("score", "--output", output, "--run-id", run_id)
        sample = self._sample(image)
        if sample:
            words += ("--input", f"data/{sample.name}")
        self._run(image, *words, options=tuple(options), sample=sample)
        return json.loads(self.python(image, PRINT, f"{output}/{run_id}/_manifest.json"))

    def python(self, image: str, script: str, *words: str) -> str:
        """What a script prints that the image's own Python runs, with the volume."""
        return self._run(image, "-c", script, *words, options=("--entrypoint=python",))

    def forget(self, image: str, folder: str) -> None:
        self.python(image, FORGET, folder)

    def _run(self, image: str, *words: str, options=(), sample: Path | None = None) -> str:
        """Created, given the sample, and started: an engine elsewhere sees no file of ours."""
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
        """The input, where it is a file of this project that the volume does not have."""
        file = Path(self.config.batch.input)
        if not file.is_file() or not file.is_relative_to(settings.root()):
            return None
        there = self.python(image, THERE, str(file.relative_to(settings.root())))
        return None if there.strip() == "True" else file
