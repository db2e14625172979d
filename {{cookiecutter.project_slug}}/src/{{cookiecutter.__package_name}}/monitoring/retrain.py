"""The command ``retrain``: train again, always or only if there is a reason."""

import argparse
from datetime import UTC, datetime

from .. import settings
from ..models import decisions, registry
from ..settings import PACKAGE, Settings
from ..tables.monitored import open_alerts, utc
from ..training import train
from .records import database


def add_arguments(parser: argparse.ArgumentParser) -> None:
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--if-alert",
        action="store_true",
        help="only if a critical alert was opened since the last training, or the model is too old",
    )
    choice.add_argument("--reason", default="by hand", help="kept with the decision")


def run(arguments: argparse.Namespace) -> int:
    """Returns 0 whatever the verdict on the new version is: it did its work."""
    config, reason = settings.load(), arguments.reason
    if arguments.if_alert:
        reason = _reason(config)
        if not reason:
            print("No critical alert is new, and the model is not old: there is nothing to do.")
            return 0
        if refusal := _refusal(config):
            decisions.record(config.database, decisions.NOT_RETRAINING, "", f"{refusal} {reason}")
            print(f"Not training again: {refusal} It was asked for: {reason}")
            return 0
    decisions.record(config.database, decisions.RETRAINING, "", reason)
    print(f"Training again: {reason}")
    train.run(argparse.Namespace(force=False))
    return 0


def _reason(config: Settings) -> str:
    """Critical alerts that are younger than the newest version, or its age; empty if there is none.

    Without any version, it is not known what to replace: empty, too.
    """
    versions = registry.history(config, PACKAGE)
    if not versions:
        return ""
    with database(config.database) as connection:
        found = [
            each.evidence
            for each in open_alerts(connection)
            if each.severity == "critical" and utc(each.opened_at) > versions[0].created
        ]
    days = (datetime.now(UTC) - versions[0].created).total_seconds() / 86_400
    if config.retraining.days and days >= config.retraining.days:
        found.append(f"The newest version is {days:.0f} days old.")
    return " ".join(found)


def _refusal(config: Settings) -> str:
    """Why no training may start by itself now; empty if it may."""
    limits = config.retraining
    before = decisions.last(config.database, limits.max_per_day, decisions.RETRAINING)
    if before and (hours := decisions.since(before[0])) < limits.cooldown_hours:
        return f"the last one began {hours:.1f} hours ago, see retraining.cooldown_hours."
    if len(before) == limits.max_per_day and decisions.since(before[-1]) < 24:
        return f"there were {len(before)} within a day, see retraining.max_per_day."
    return ""
