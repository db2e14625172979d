"""The command ``retrain``: train again, always or only if an alert asks for it."""

import argparse

from .. import settings
from ..models import registry
from ..settings import PACKAGE, Settings
from ..tables.monitored import open_alerts, utc
from ..training import train
from .records import database


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--if-alert",
        action="store_true",
        help="only if a critical alert was opened since the last training",
    )


def run(arguments: argparse.Namespace) -> int:
    """Returns 0 whatever the verdict on the new version is: it did its work."""
    config = settings.load()
    if arguments.if_alert and not (asking := _asking(config)):
        print("No critical alert was opened since the last training: there is nothing to do.")
        return 0
    for evidence in asking if arguments.if_alert else ():
        print(f"Training again: {evidence}")
    train.run(argparse.Namespace(force=False))
    return 0


def _asking(config: Settings) -> list[str]:
    """The evidence of the critical alerts that are younger than the newest version."""
    with database(config.database) as connection:
        critical = [each for each in open_alerts(connection) if each.severity == "critical"]
    versions = registry.history(config, PACKAGE) if critical else []
    return [
        each.evidence
        for each in critical
        if not versions or utc(each.opened_at) > versions[0].created
    ]
