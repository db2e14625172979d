"""Commands about the versions of a model: history, promote, rollback, copy."""

import argparse

from .. import settings
from ..settings import PACKAGE, Settings
from . import registry, stores


def add_arguments(parser: argparse.ArgumentParser) -> None:
    command = parser.prog.split()[-1]
    if command == "promote":
        parser.add_argument("version", help="number of the version, as `history` shows it")
        parser.add_argument("--force", action="store_true", help="even a rejected version")
        parser.add_argument("--reason", default="promoted by hand", help="kept with the version")
    if command == "copy":
        parser.add_argument("source", metavar="FROM", help="a model, by connection string")
        where = "models:/NAME@ALIAS, a new folder, or other storage"
        parser.add_argument("target", metavar="TO", help=where)


def run(arguments: argparse.Namespace) -> int:
    commands = {
        "history": history,
        "promote": promote,
        "rollback": rollback,
        "copy": copy,
    }
    commands[arguments.command](arguments)
    return 0


def history(_: argparse.Namespace) -> None:
    config = settings.load()
    metric = config.training.metric
    versions = registry.history(config, _name(config))
    if not versions:
        print("no model is registered yet; `train` makes one")
        return
    rows = [("version", "aliases", metric, "created (UTC)", "verdict", "reason")]
    for each in versions:
        value = each.metrics.get(metric, float("nan"))
        verdict, reason, source = (
            each.tags.get(tag, "") for tag in ("verdict", "reason", "source")
        )
        created = f"{each.created:%Y-%m-%d %H:%M:%SZ}"
        about = (created, verdict, reason or source)
        rows.append((each.number, ", ".join(each.aliases), f"{value:.4f}", *about))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def promote(arguments: argparse.Namespace) -> None:
    config = settings.load()
    name = _name(config)
    registry.require_fit(arguments.version, arguments.force, config, name)
    registry.promote(arguments.version, arguments.reason, config, name)
    print(f"Version {arguments.version} is the champion.")


def rollback(_: argparse.Namespace) -> None:
    config = settings.load()
    old, new = registry.rollback(config, _name(config))
    print(f"Version {new} is the champion again, in place of {old}.")


def copy(arguments: argparse.Namespace) -> None:
    source, target = stores.typed(arguments.source), stores.typed(arguments.target)
    print(stores.copy(source, target, settings.load()))


def _name(config: Settings) -> str:
    """The name of the registered model in models.uri, or else of the one that `train` registers."""
    named = registry.NAMED.fullmatch(config.models.uri)
    return named[1] if named else PACKAGE
