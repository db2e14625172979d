"""How the programs of this folder are called, and how they fail."""

import signal
import sys
from collections.abc import Callable

from {{ cookiecutter.__package_name }}.errors import ProjectError


def call(work: Callable[..., None], usage: str, argv: list[str]) -> int:
    """Call ``work`` with the arguments that ``usage`` names, and return the exit code.

    0: success. 1: ``work`` fails; the message is printed. 2: wrong number of arguments. SIGTERM,
    which a cancelled workflow sends, raises SystemExit, so that ``work`` undoes what it began.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if len(argv) != len(usage.split()):
        print(f"usage: python {sys.argv[0]} {usage}", file=sys.stderr)
        return 2
    try:
        work(*argv)
    except (ProjectError, OSError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    return 0
