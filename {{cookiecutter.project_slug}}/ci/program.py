"""What the programs of this folder have in common: how they are called, and how they fail."""

import signal
import sys
from collections.abc import Callable

from {{ cookiecutter.__package_name }}.errors import ProjectError


def call(work: Callable[..., None], usage: str, argv: list[str]) -> int:
    """The exit code of ``work`` with the words of the command line, which ``usage`` names.

    0; 1 if it fails, with a sentence; 2 for other words than those. A workflow that is cancelled
    sends SIGTERM: then, as with Ctrl-C, what was begun is taken back.
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
