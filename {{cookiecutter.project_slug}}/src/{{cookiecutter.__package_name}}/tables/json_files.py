"""JSON files that are complete whenever they are read."""

import json
import os
from pathlib import Path


def write_json(path: Path, content: dict) -> None:
    """Write the whole file in one step; after an error the old file is still there."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    with unfinished.open("w", encoding="utf-8") as file:
        file.write(json.dumps(content, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def read_json(path: Path) -> dict | None:
    """What ``write_json`` wrote; None if there is no file or it is not valid JSON."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return None
