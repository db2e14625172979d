"""The page ``/status`` and the gauges of monitoring, which ``serve`` writes for its workers."""

import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from ..errors import brief
from ..settings import PACKAGE, Settings
from .processes import METRICS, MONITORED

# How often the files are written, and how long the database may take.
SECONDS, DATABASE_SECONDS = 15, 5
HTML, JSON = "status.html", "status.json"
TYPES = {HTML: "text/html", JSON: "application/json"}
log = logging.getLogger(__name__)


def read(accept: str) -> tuple[bytes, str] | None:
    """The page, or its values for a client that asks for JSON, and the media type.

    None until it is written for the first time.
    """
    name = JSON if "json" in accept else HTML
    file = Path(os.environ[METRICS]) / name
    return (file.read_bytes(), TYPES[name]) if file.exists() else None


def writer(config: Settings) -> Callable[[], None]:
    """A function that writes the files when it is time; it never raises."""
    from jinja2 import Environment, PackageLoader

    from ..status import short, told

    pages = Environment(loader=PackageLoader(PACKAGE, "api"), autoescape=True)
    pages.filters |= {"short": short, "told": told}
    template, due = pages.get_template(HTML), 0.0

    def step() -> None:
        nonlocal due
        if time.monotonic() < due:
            return
        due = time.monotonic() + SECONDS
        try:
            _write(template, config)
        except Exception as error:  # any error: the next try may work
            log.warning("/status is not up to date: %s", brief(error))

    return step


def _write(template, config: Settings) -> None:
    from ..pipelines.gauges import publish
    from ..status import gather

    folder, found = Path(os.environ[METRICS]), gather(config, DATABASE_SECONDS)
    for name, text in {HTML: template.render(found), JSON: json.dumps(found)}.items():
        new = folder / f"{name}.new"
        new.write_text(text, "utf-8")
        new.replace(folder / name)
    publish(config.database, str(folder / MONITORED), seconds=DATABASE_SECONDS)
