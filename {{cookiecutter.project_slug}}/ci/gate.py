"""The quality gate of a change: train as ``train`` does, in a separate registry, and report.

``python ci/gate.py FOLDER REPORT`` returns 1 if the model misses a threshold of the settings. It
writes a report in Markdown and, if the model passes, the model to FOLDER/model.
"""

import os
import shutil
import sys
from pathlib import Path

from {{ cookiecutter.__package_name }} import cli, settings
from {{ cookiecutter.__package_name }}.models import registry, stores
from {{ cookiecutter.__package_name }}.models.registry import Version
from {{ cookiecutter.__package_name }}.settings import PACKAGE, Settings


def main(argv: list[str]) -> int:
    if len(argv) != 2:
        print("usage: python ci/gate.py FOLDER REPORT", file=sys.stderr)
        return 2
    folder, report = (Path(each).resolve() for each in argv)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.environ |= {
        "APP__MODELS__TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "APP__MODELS__ARTIFACTS": f"{folder}/mlartifacts",
        "APP__TRAINING__WORK": str(folder),
    }
    code = cli.main(["train"])
    if code not in (0, 1):
        return code
    config = settings.load()
    [version] = registry.history(config)
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(markdown(version, config), "utf-8")
    if code == 0:
        stores.copy(f"models:/{PACKAGE}/{version.number}", str(folder / "model"), config)
    return code


def markdown(version: Version, config: Settings) -> str:
    """A version's verdict with the reason, and its metrics beside the thresholds."""
    training = config.training
    lines = [
        f"## Model: {version.tags['verdict']}",
        "",
        f"{version.tags['reason']}. Contract {version.tags['contract']}, SHA-256 of the artifact "
        f"`{version.sha256}`.",
        "",
        "| metric | value | must be |",
        "|---|---:|---|",
    ]
    for name, value in sorted(version.metrics.items()):
        wanted = [f"at least {training.minimum[name]:g}"] if name in training.minimum else []
        wanted += [f"at most {training.maximum[name]:g}"] if name in training.maximum else []
        lines.append(f"| {name} | {value:.4f} | {', '.join(wanted)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
