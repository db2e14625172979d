"""Write the files of the template that follow from its code: deploy/monitoring/ of each flavor.

A test of a rendered project finds out that they are outdated; ``make generated`` writes them anew.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from cookiecutter.main import cookiecutter

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
            answers = {"deployment_flavor": flavor}
            project = Path(
                cookiecutter(
                    str(TEMPLATE),
                    no_input=True,
                    default_config=True,
                    output_dir=folder,
                    extra_context=answers,
                )
            )
            environment = os.environ | {"PYTHONPATH": "src"}
            command = [python, "-m", PACKAGE, "slo"]
            subprocess.run(command, cwd=project, env=environment, check=True)
            for name in ("dashboard.json", "rules.yml", "sla.md"):
                text = (project / "deploy" / "monitoring" / name).read_text("utf-8")
                for ours, theirs in NAMES.items():
                    text = text.replace(ours, theirs)
                stem, _, ending = name.partition(".")
                (INTO / f"{stem}_{flavor}.{ending}").write_text(text, "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
