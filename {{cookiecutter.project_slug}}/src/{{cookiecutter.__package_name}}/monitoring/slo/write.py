"""The command ``slo``: write the rules and the service level that follow from the settings."""

import argparse
import importlib
import os

from jinja2 import Environment, PackageLoader, StrictUndefined

from ...errors import ProjectError
from ...settings import PACKAGE, Settings, load, root
from .objectives import GAUGE, OURS, PERIOD_DAYS, WINDOWS, Objective

# Section of the settings that a kind of service has: the module with its objectives.
MODULES = {"api": "of_api", "batch": "of_batch"}
# The fastest burn that pages someone, in error budgets.
FASTEST = 14.4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--check", action="store_true", help="write nothing; 2 if a file does not follow"
    )


def run(arguments: argparse.Namespace) -> int:
    os.environ["ENVIRONMENT"] = "prod"  # whose objectives are promised
    folder, outdated = root() / "deploy" / "monitoring", []
    for name, text in rendered(load()).items():
        file = folder / name
        if arguments.check:
            same = file.exists() and file.read_bytes() == text.encode()
            outdated += [] if same else [f"deploy/monitoring/{name}"]
        else:
            folder.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8")
            print(file)
    if outdated:
        raise ProjectError(f"{', '.join(outdated)}: outdated; run `make slo`.")
    return 0


def rendered(config: Settings) -> dict[str, str]:
    """The files by name.

    :raises ProjectError: an objective is too low to be watched, or cannot be measured.
    """
    # Braces belong to PromQL.
    pages = Environment(
        variable_start_string="<<",
        variable_end_string=">>",
        loader=PackageLoader(PACKAGE, "monitoring/slo"),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - no page for a browser
    )
    values = {"objectives": [*objectives(config)], "slo": config.slo, "service": PACKAGE}
    values |= {"ours": OURS, "gauge": GAUGE, "days": PERIOD_DAYS, "windows": WINDOWS}
    values["fastest"] = FASTEST
    names = ("rules.yml", "sla.md")
    return {name: pages.get_template(f"{name}.j2").render(values) for name in names}


def objectives(config: Settings) -> list[Objective]:
    """Those of all kinds of services that this project has."""
    modules = [
        importlib.import_module(f".{module}", __package__)
        for section, module in MODULES.items()
        if hasattr(config, section)
    ]
    found = [each for module in modules for each in module.objectives(config)]
    for each in found:
        if FASTEST * each.budget >= 1:
            least = 1 - 1 / FASTEST
            raise ProjectError(
                f"the objective of {each.name}, {each.objective:g}, must be above {least:.4f}: "
                "otherwise no outage is fast enough to page someone."
            )
    return found
