"""Commands about the versions of a model: history, promote, rollback, copy; and the contract."""

import argparse

from . import registry, settings
from .contract import CONTRACT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    command = parser.prog.split()[-1]
    if command == "promote":
        parser.add_argument("version", help="number of the version, as `history` shows it")
        parser.add_argument("--force", action="store_true", help="even a rejected version")
        parser.add_argument("--reason", default="promoted by hand", help="kept with the version")
    if command == "copy":
        parser.add_argument("source", metavar="FROM", help="models:/name@alias or a folder")
        parser.add_argument("target", metavar="TO", help="a folder that does not exist yet")


def run(arguments: argparse.Namespace) -> int:
    commands = {
        "history": history,
        "promote": promote,
        "rollback": rollback,
        "copy": copy,
        "contract": contract,
    }
    commands[arguments.command](arguments)
    return 0


def history(_: argparse.Namespace) -> None:
    config = settings.load()
    metric = config.training.metric
    rows = registry.history(config)
    if not rows:
        print("no model is registered yet; `train` makes one")
        return
    print(f"{'version':<9}{'aliases':<12}{metric:<11}{'created (UTC)':<21}{'verdict':<20}reason")
    for row in rows:
        value = row["metrics"].get(metric, float("nan"))
        print(
            f"{row['version']:<9}{row['aliases']:<12}{value:<11.4f}{row['created']:<21}"
            f"{row['verdict']:<20}{row['reason']}"
        )


def promote(arguments: argparse.Namespace) -> None:
    config = settings.load()
    registry.require_fit(arguments.version, arguments.force, config)
    registry.promote(arguments.version, arguments.reason, config)
    print(f"Version {arguments.version} is the champion.")


def rollback(_: argparse.Namespace) -> None:
    old, new = registry.rollback(settings.load())
    print(f"Version {new} is the champion again, in place of {old}.")


def copy(arguments: argparse.Namespace) -> None:
    print(registry.copy(arguments.source, arguments.target, settings.load()))


def contract(_: argparse.Namespace) -> None:
    print(CONTRACT.markdown())
