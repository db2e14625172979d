"""Commands about the versions of a model: history, promote, rollback, copy."""

import argparse

from .. import settings
from ..settings import PACKAGE, Settings
from . import decisions, registry, stores

# Decisions that `history` prints.
DECISIONS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    command = parser.prog.split()[-1]
    if command == "promote":
        parser.add_argument("version", help="number of the version, as `history` shows it")
        parser.add_argument("--force", action="store_true", help="even a rejected version")
    if command in ("promote", "rollback"):
        parser.add_argument("--reason", default="by hand", help="kept with the decision")
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
    _table(rows)
    if made := decisions.last(config.database, DECISIONS):
        print("\nDecisions, the newest first:")
        names = ("decided_at", "actor", "decision", "version", "reason")
        _table([names, *((f"{each.decided_at:%F %H:%MZ}", *each[2:]) for each in made)])


def _table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def promote(arguments: argparse.Namespace) -> None:
    config = settings.load()
    name = _name(config)
    registry.require_fit(arguments.version, arguments.force, config, name)
    registry.promote(arguments.version, arguments.reason, config, name)
    decisions.record(config.database, "promoted", arguments.version, arguments.reason)
    print(f"Version {arguments.version} is the champion.")


def rollback(arguments: argparse.Namespace) -> None:
    config = settings.load()
    old, new = registry.rollback(config, _name(config))
    reason = f"{arguments.reason}; version {new} is the champion again"
    decisions.record(config.database, decisions.ROLLED_BACK, old, reason)
    print(f"Version {new} is the champion again, in place of {old}.")


def copy(arguments: argparse.Namespace) -> None:
    source, target = stores.typed(arguments.source), stores.typed(arguments.target)
    print(stores.copy(source, target, settings.load()))


def _name(config: Settings) -> str:
    """The name of the registered model in models.uri, or else of the one that `train` registers."""
    named = registry.NAMED.fullmatch(config.models.uri)
    return named[1] if named else PACKAGE
