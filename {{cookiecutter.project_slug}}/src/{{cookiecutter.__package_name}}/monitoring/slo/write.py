"""The command ``slo``: write the files in deploy/monitoring/ that follow from the settings."""

import argparse
import importlib
import json
import os
from dataclasses import fields

from jinja2 import Environment, PackageLoader, StrictUndefined

from ...errors import ProjectError
from ...settings import PACKAGE, Settings, load, root
from .grafana import dashboard
from .signals import PERIOD_DAYS, WINDOWS, Objective, Signals

# Section of the settings that a kind of service has: the module with its signals.
MODULES = {"api": "of_api", "batch": "of_batch", "models": "of_model"}
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
    found = signals(config)
    for each in found.objectives:
        if FASTEST * (1 - each.objective) >= 1:
            least = 1 - 1 / FASTEST
            raise ProjectError(
                f"the objective of {each.name}, {each.objective:g}, must be above {least:.4f}: "
                "otherwise no outage is fast enough to page someone."
            )
    pages = Environment(
        loader=PackageLoader(PACKAGE, "monitoring/slo"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - no page for a browser
    )
    values = {name.name: getattr(found, name.name) for name in fields(found)}
    values |= {"service": PACKAGE, "days": PERIOD_DAYS, "windows": WINDOWS}
    values |= {"budget": _budget, "minutes": _minutes}
    return {
        "rules.yml": pages.get_template("rules.yml.j2").render(values),
        "sla.md": pages.get_template("sla.md.j2").render(values),
        "dashboard.json": json.dumps(dashboard(found), indent=2) + "\n",
    }


def signals(config: Settings) -> Signals:
    """Those of all kinds of services that this project has."""
    modules = [
        importlib.import_module(f".{module}", __package__).signals(config)
        for section, module in MODULES.items()
        if hasattr(config, section)
    ]
    return Signals(
        [each for one in modules for each in one.objectives],
        [each for one in modules for each in one.alerts],
        [each for one in modules for each in one.panels],
        {name: query for one in modules for name, query in one.annotations.items()},
    )


def _budget(each: Objective) -> str:
    return f"{1 - each.objective:.10g}"


def _minutes(each: Objective) -> str:
    minutes = (1 - each.objective) * PERIOD_DAYS * 24 * 60
    if minutes < 2:
        return f"{minutes * 60:.0f} seconds"
    return f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"
