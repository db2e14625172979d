"""Make the model of a release the champion in the registry of ENVIRONMENT.

``python ci/champion.py ENGINE FOLDER`` reads the release in FOLDER and copies the model from its
image, unless the registry already has it.
"""

import sys
import tempfile
from pathlib import Path

import container
import release
from container import run
from program import call

from {{ cookiecutter.__package_name }} import settings
from {{ cookiecutter.__package_name }}.models import registry, stores
from {{ cookiecutter.__package_name }}.models.registry import CHAMPION


def promote(engine: str, folder: str) -> None:
    """:raises ProjectError: the registry cannot be written to, or the model fails its checks."""
    deployed = release.read(Path(folder))
    config, reason = settings.load(), f"released with {deployed.image}"
    champion = registry.find(CHAMPION, config)
    if champion and champion.sha256 == deployed.model:
        print(f"Version {champion.number} is the champion already.")
        return
    known = [each for each in registry.history(config) if each.sha256 == deployed.model]
    if not known:
        with tempfile.TemporaryDirectory() as temporary:
            model = Path(temporary, "model")
            take_out(engine, deployed.image, model)
            arrived = stores.copy(str(model), f"models:/{settings.PACKAGE}", config)
        known = [each for each in registry.history(config) if arrived.endswith(f"/{each.number}")]
    registry.promote(known[0].number, reason, config)
    print(f"Version {known[0].number} is the champion: model {deployed.model[:12]}.")
    if config.models.tracking_uri.startswith("sqlite:"):
        print("That is known on this machine alone: set APP__MODELS__TRACKING_URI to a server.")


def take_out(engine: str, image: str, folder: Path) -> None:
    """Copy the model's folder out of an image."""
    made = run(engine, "create", image).strip().splitlines()[-1]
    try:
        run(engine, "cp", f"{made}:/app/model", str(folder))
    finally:
        container.remove(engine, made)


if __name__ == "__main__":
    sys.exit(call(promote, "ENGINE FOLDER", sys.argv[1:]))
