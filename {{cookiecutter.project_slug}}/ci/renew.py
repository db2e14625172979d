"""Propose newer versions: ``python ci/renew.py requirements`` or ``python ci/renew.py template``.

`make lock` locks the newest requirements; cruft applies changes of the template, if the project was
made with cruft. Exit code 1: the update or its proposal fails.
"""

import sys

import change
import forge
import origin
from container import run
from program import call

from {{ cookiecutter.__package_name }}.errors import ProjectError

# The timeout of resolving requirements, or of rendering two versions of the template.
SECONDS = 1200
CRUFT = ("--from", "cruft==2.16.0", "--with", "cookiecutter==2.7.1", "cruft")
{%- if cookiecutter.ci_provider == "github" %}
WORKFLOWS, OF_A_RUN = ".github/workflows", "ghs_"
{%- endif %}
CHECKED = "The checks of a change say whether all still works."


def renew(kind: str) -> None:
    """:raises ProjectError: the kind is unknown, or the update fails."""
    kinds = {"requirements": requirements, "template": template}
    if kind not in kinds:
        raise ProjectError(f"{kind} is none of {', '.join(kinds)}.")
    forge.token()
    print(kinds[kind]() or "Nothing is newer.")


def requirements() -> str | None:
    run("make", "lock", seconds=SECONDS)
    body = f"Written by `make lock`: the newest versions that pyproject.toml allows. {CHECKED}"
    return change.propose("renew/requirements", "Newer requirements", body, "requirements*.txt")


def template() -> str | None:
    if not (origin.PROJECT / ".cruft.json").exists():
        print("The project was not made with cruft: there is no .cruft.json.")
        return None
    words = ("-m", "uv", "tool", "run", *CRUFT, "update", "--skip-apply-ask")
    run(sys.executable, *words, seconds=SECONDS)
{%- if cookiecutter.ci_provider == "github" %}
    if origin.git("status", "--porcelain", "--", WORKFLOWS) and forge.token().startswith(OF_A_RUN):
        raise ProjectError(
            f"the newer template changes {WORKFLOWS}, which the token of a run may not push: set "
            "the secret RENEW_TOKEN, see docs/governance.md, or `cruft update` on your machine."
        )
{%- endif %}
    body = (
        f"Written by `cruft update`. {CHECKED} What could not be merged is in files that end in "
        "`.rej`: put it in by hand on this branch, and remove them."
    )
    return change.propose("renew/template", "Newer template", body, ".")


if __name__ == "__main__":
    sys.exit(call(renew, "requirements|template", sys.argv[1:]))
