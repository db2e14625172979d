"""The bill of materials of a release: its packages and its model, in the format CycloneDX 1.6.

``python ci/sbom.py FOLDER`` reads release.json and inventory.json from FOLDER, validates the result
against the schema of CycloneDX and writes sbom.json. It runs in .venv-ci.
"""

import json
import sys
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from license_expression import ExpressionError, get_spdx_licensing
from packageurl import PackageURL

FILES = ("release.json", "inventory.json")


def main(argv: list[str]) -> int:
    if len(argv) != 1:
        print("usage: python ci/sbom.py FOLDER", file=sys.stderr)
        return 2
    folder = Path(argv[0])
    release, inventory = (json.loads((folder / name).read_text("utf-8")) for name in FILES)
    text = JsonV1Dot6(bill(release, inventory)).output_as_string(indent=2)
    if problem := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        print(f"error: the bill of materials is not valid: {problem}", file=sys.stderr)
        return 1
    (folder / "sbom.json").write_text(text + "\n", "utf-8")
    packages, debian = len(inventory["packages"]), len(inventory["debian"])
    print(f"{folder}/sbom.json lists the model, {packages} packages of Python, {debian} of Debian.")
    return 0


def bill(release: dict, inventory: dict) -> Bom:
    bom = Bom()
    image = Component(
        type=ComponentType.CONTAINER,
        name=release["repository"],
        version=release["digest"],
        properties=[Property(name="revision", value=release["revision"])],
    )
    parts = [model(inventory["model"])]
    parts += [python(each) for each in inventory["packages"]]
    parts += [debian(each) for each in inventory["debian"]]
    bom.metadata.component = image
    bom.components.update(parts)
    bom.register_dependency(image, parts)
    return bom


def model(known: dict) -> Component:
    """The model, with its contract, estimator and metrics as properties."""
    told = {"contract": known["contract"], "estimator": known.get("estimator")}
    told |= {f"metric:{name}": value for name, value in known.get("metrics", {}).items()}
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        name=known["name"],
        version=known["sha256"][:12],
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=known["sha256"])],
        properties=[Property(name=name, value=str(value)) for name, value in told.items()],
    )


def python(known: dict) -> Component:
    return Component(
        type=ComponentType.LIBRARY,
        name=known["name"],
        version=known["version"],
        purl=PackageURL("pypi", name=known["name"].lower(), version=known["version"]),
        bom_ref=f"pypi:{known['name']}",
        licenses=expressions(known["license"]),
    )


def expressions(text: str) -> list[LicenseExpression]:
    """The licence, if it is a valid SPDX expression."""
    try:
        parsed = get_spdx_licensing().parse(text, validate=True) if text else None
    except ExpressionError:
        return []
    return [] if parsed is None else [LicenseExpression(str(parsed))]


def debian(known: dict) -> Component:
    return Component(
        type=ComponentType.LIBRARY,
        name=known["name"],
        version=known["version"],
        purl=PackageURL("deb", "debian", known["name"], known["version"], {"arch": known["arch"]}),
        bom_ref=f"deb:{known['name']}:{known['arch']}",
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
