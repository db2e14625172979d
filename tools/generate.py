"""Write the files in deploy/monitoring/ of the template, for each flavor.

The rules and the service level are what ``slo`` of a rendered project writes, and a test of the
project finds out that they are outdated. ``make generated`` calls this.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from cookiecutter.main import cookiecutter
from dashboard import dashboard

TEMPLATE = Path(__file__).resolve().parent.parent
INTO = TEMPLATE / "{{cookiecutter.project_slug}}" / "deploy" / "monitoring"
PACKAGE = "iris_flower_prediction"
# What becomes an answer to a question again; braces of the file itself stay as they are.
NAMES = {
    "{{": "{{ '{{' }}",
    PACKAGE: "{{ cookiecutter.__package_name }}",
    PACKAGE.replace("_", " ").capitalize(): (
        "{{ cookiecutter.__package_name | replace('_', ' ') | capitalize }}"
    ),
}


def main(python: str) -> None:
    """:param python: an interpreter with the requirements of a rendered project."""
    for flavor in ("batch", "api", "both"):
        with tempfile.TemporaryDirectory() as folder:
            options = {"no_input": True, "default_config": True, "output_dir": folder}
            answers = {"deployment_flavor": flavor}
            project = cookiecutter(str(TEMPLATE), extra_context=answers, **options)
            environment = os.environ | {"PYTHONPATH": "src"}
            subprocess.run([python, "-m", PACKAGE, "slo"], cwd=project, env=environment, check=True)
            written = Path(project) / "deploy" / "monitoring"
            save("rules.yml", flavor, (written / "rules.yml").read_text("utf-8"))
            save("sla.md", flavor, (written / "sla.md").read_text("utf-8"))
        text = json.dumps(dashboard(PACKAGE, flavor), indent=2)
        save("dashboard.json", flavor, f"{text}\n")


def save(name: str, flavor: str, text: str) -> None:
    for ours, theirs in NAMES.items():
        text = text.replace(ours, theirs)
    stem, _, ending = name.partition(".")
    (INTO / f"{stem}_{flavor}.{ending}").write_text(text, "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
