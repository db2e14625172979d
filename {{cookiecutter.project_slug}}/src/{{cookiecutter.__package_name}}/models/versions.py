"""Commands about the versions of a model: history, promote, rollback, copy; and the contract."""

import argparse

from .. import settings
from ..contract import CONTRACT
from ..errors import ProjectError
from ..settings import Settings
from . import registry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    command = parser.prog.split()[-1]
    if command == "promote":
        parser.add_argument("version", help="number of the version, as `history` shows it")
        parser.add_argument("--force", action="store_true", help="even a rejected version")
        parser.add_argument("--reason", default="promoted by hand", help="kept with the version")
    if command in ("history", "promote", "rollback"):
        parser.add_argument(
            "--store", metavar="URI", help="of the versions (default: that of models.uri)"
        )
    if command == "copy":
        parser.add_argument("source", metavar="FROM", help="a version in a store, or a folder")
        parser.add_argument("target", metavar="TO", help="store, store@alias, or a new folder")


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


def history(arguments: argparse.Namespace) -> None:
    config = settings.load()
    metric = config.training.metric
    store = _store(arguments, config)
    versions = registry.history(config, store)
    if not versions and store != registry.TRAINED:
        raise ProjectError(f"{registry.named(store)}: there is no such store, or it is empty.")
    if not versions:
        print("no model is registered yet; `train` makes one")
        return
    print(f"{'version':<9}{'aliases':<12}{metric:<11}{'created (UTC)':<21}{'verdict':<20}reason")
    for each in versions:
        aliases, value = ", ".join(each.aliases), each.metrics.get(metric, float("nan"))
        verdict, reason = (each.tags.get(tag, "") for tag in ("verdict", "reason"))
        print(
            f"{each.number:<9}{aliases:<12}{value:<11.4f}{each.created:%Y-%m-%d %H:%M:%SZ} "
            f"{verdict:<20}{reason or each.tags.get('source', '')}"
        )


def promote(arguments: argparse.Namespace) -> None:
    config = settings.load()
    store = _store(arguments, config)
    registry.require_fit(arguments.version, arguments.force, config, store)
    registry.promote(arguments.version, arguments.reason, config, store)
    print(f"Version {arguments.version} is the champion.")


def rollback(arguments: argparse.Namespace) -> None:
    config = settings.load()
    old, new = registry.rollback(config, _store(arguments, config))
    print(f"Version {new} is the champion again, in place of {old}.")


def copy(arguments: argparse.Namespace) -> None:
    source, target = registry.typed(arguments.source), registry.typed(arguments.target)
    print(registry.copy(source, target, settings.load()))


def contract(_: argparse.Namespace) -> None:
    print(CONTRACT.markdown())


def _store(arguments: argparse.Namespace, config: Settings) -> str:
    """The store of ``--store``, or that of the settings, or where models are trained into."""
    if arguments.store:
        return registry.typed(arguments.store)
    return registry.store_of(config.models.uri) or registry.TRAINED
