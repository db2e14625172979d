"""Print the contents of an image as JSON. The image's Python runs this file from standard input."""

import importlib.metadata
import json
import platform
from pathlib import Path

MODEL = Path("/app/model/metadata.json")
STATUS = Path("/var/lib/dpkg/status")


def python_packages():
    for each in importlib.metadata.distributions():
        known = each.metadata
        license_of = known.get("License-Expression") or (known.get("License") or "").strip()
        short = license_of if len(license_of) < 100 and "\n" not in license_of else ""
        yield {"name": known["Name"], "version": each.version, "license": short}


def debian_packages():
    for paragraph in STATUS.read_text("utf-8").split("\n\n") if STATUS.exists() else ():
        known = dict(line.partition(": ")[::2] for line in paragraph.splitlines())
        if "installed" in known.get("Status", ""):
            keys = ("Package", "Version", "Architecture")
            yield dict(zip(("name", "version", "arch"), map(known.get, keys), strict=True))


def model():
    kept = ("name", "artifact", "sha256", "contract", "estimator", "trained_at", "metrics")
    known = json.loads(MODEL.read_text("utf-8")) if MODEL.exists() else {}
    return {key: known[key] for key in kept if key in known}


print(
    json.dumps(
        {
            "python": platform.python_version(),
            "model": model(),
            "packages": sorted(python_packages(), key=lambda each: each["name"].lower()),
            "debian": sorted(debian_packages(), key=lambda each: each["name"]),
        }
    )
)
