"""The command line: ``python -m <package> COMMAND``.

The module of a command defines two functions, ``add_arguments(parser)`` and ``run(arguments) ->
exit code``. It is imported only when its command is called, so that ``--help`` is fast.
"""

import argparse
import importlib
import logging
import os
import sys
from contextlib import suppress

from .errors import ProjectError, brief

# Command: (module, help).
COMMANDS = {
    "train": ("training.train", "train, validate, register; promote if better than the champion"),
{%- if cookiecutter.deployment_flavor != "api" %}
    "score": ("batch.job", "score a table: read, validate, predict, write"),
{%- endif %}
{%- if cookiecutter.deployment_flavor != "batch" %}
    "serve": ("api.serve", "answer requests for predictions over HTTP"),
{%- endif %}
    "history": ("models.versions", "list the registered versions with their metrics and verdicts"),
    "promote": ("models.versions", "make a registered version the champion"),
    "rollback": ("models.versions", "put the previous champion back"),
    "copy": ("models.versions", "copy a verified model to a folder, storage or the registry"),
{%- if cookiecutter.deployment_flavor != "batch" %}
    "api-key": ("api.keys", "create, list or revoke an API key"),
    "deliver": ("api.kept", "bring kept predictions from the spool to the database"),
    "follow": ("api.follow", "keep a folder in step with a model elsewhere"),
    "openapi": ("api.describe", "write docs/openapi.json, unless clients would break"),
{%- endif %}
    "labels": ("monitoring.labels", "take in what really happened, to measure the model"),
    "monitor": ("monitoring.monitor", "metrics, data quality and drift of predictions; alerts"),
    "slo": ("monitoring.slo.write", "write the rules of Prometheus that follow from [slo]"),
    "retrain": ("monitoring.retrain", "train again, or only if an alert asks for it"),
    "contract": ("training.draft", "print the contract, or draft it from a table"),
    "run": ("pipelines.run", "run the steps of a pipeline for its last data interval"),
    "cron": ("pipelines.cron", "print, install or remove the crontab of the pipelines"),
    "status": ("status", "print what runs, how it went last, and what is due next"),
    "settings": ("production", "print the settings and where each came from, or check them"),
    "migrate": ("production", "bring the project's tables to the newest version"),
}
FAILED, INTERRUPTED, UNREAD = 2, 130, 141
# Limits of log/: bytes per file, and the number of older files that are kept.
LOG_BYTES, LOG_FILES = 1_000_000, 3
log = logging.getLogger(__name__)


def parser(command: str | None) -> argparse.ArgumentParser:
    """The parser: ``command`` with its arguments, the other commands with a line of help only."""
    top = argparse.ArgumentParser(
        prog=f"python -m {__package__}",
        description="From a trained model to predictions in production.",
        epilog="The environment variable ENVIRONMENT picks config/<name>.toml (nonprod if unset).",
    )
    top.add_argument("-v", "--verbose", action="store_true", help="log what is being done")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, summary) in COMMANDS.items():
        whole = f"{summary[0].upper()}{summary[1:]}."
        sub = commands.add_parser(name, help=summary, description=whole)
        if name == command:
            job = importlib.import_module(f".{module}", __package__)
            job.add_arguments(sub)
            sub.set_defaults(run=job.run)
    return top


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit code, 2 after an error."""
    argv = sys.argv[1:] if argv is None else argv
    command = next((word for word in argv if word in COMMANDS), None)
    try:
        arguments = parser(command).parse_args(argv)
        log_to_files(arguments.verbose)
        log.info("started: %s", command)
        code = arguments.run(arguments)
        sys.stdout.flush()
        log.info("finished: %s, exit code %d", command, code)
        return code
    except BrokenPipeError:
        # The reader of the output, such as `head`, has closed it: discard what is not flushed yet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    except (ProjectError, OSError) as error:
        log.info("failed: %s", error, exc_info=error)
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except SyntaxError as error:  # in a file of the user
        print(f"error: {error.filename}, line {error.lineno}: {error.msg}.", file=sys.stderr)
        return FAILED
    except Exception as error:
        log.info("failed unexpectedly", exc_info=error)
        kind = type(error).__name__
        print(f"error: unexpected {kind}: {brief(error)}; -v shows where.", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt as interruption:
        log.info("interrupted: %s", command)
        print(*("interrupted", *interruption.args), sep="; ", file=sys.stderr)
        return INTERRUPTED


def log_to_files(verbose: bool) -> None:
    """Log to stderr, and to a file in log/ if that folder exists and is writable."""
    from logging.handlers import RotatingFileHandler

    from .settings import load, root

    level = "INFO"
    with suppress(ProjectError):  # the command itself reports it, if it needs settings
        level = load().log_level
    screen = logging.StreamHandler()
    screen.setLevel(level if verbose else logging.WARNING)
    handlers: list[logging.Handler] = [screen]
    logging.raiseExceptions = False  # a full disk must not hide the command's own error
    folder = root() / "log"
    if os.access(folder, os.W_OK):
        file = folder / f"{__package__}.log"
        handlers.append(RotatingFileHandler(file, maxBytes=LOG_BYTES, backupCount=LOG_FILES))
    form = "%(asctime)s %(levelname)s %(message)s"
    logging.basicConfig(level=level, format=form, handlers=handlers)
