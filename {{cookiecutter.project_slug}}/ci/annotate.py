"""Print failed tests as GitHub annotations, at their lines in the diff of a pull request.

``python ci/annotate.py FOLDER`` reads the JUnit reports in FOLDER and annotates the first ten
failures: GitHub shows no more per step. Exit code 2: a report is missing or cannot be read.
"""

import re
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from xml.etree import ElementTree

MOST = 10
COVERAGE = "coverage.xml"


def main(argv: list[str]) -> int:
    if len(argv) != 1:
        print("usage: python ci/annotate.py FOLDER", file=sys.stderr)
        return 2
    reports = [path for path in Path(argv[0]).glob("*.xml") if path.name != COVERAGE]
    if not reports:
        print(f"error: no report of tests in {argv[0]}.", file=sys.stderr)
        return 2
    try:
        # Trusted XML: the project's own tests wrote it.
        trees = [ElementTree.parse(path) for path in sorted(reports)]  # noqa: S314
    except (OSError, ElementTree.ParseError) as problem:
        print(f"error: a report of tests cannot be read: {problem}.", file=sys.stderr)
        return 2
    for line in islice((line for tree in trees for line in annotations(tree)), MOST):
        print(line)
    return 0


def annotations(report: ElementTree.ElementTree) -> Iterator[str]:
    """A workflow command per failure; JUnit's ``error`` is one outside the test's own code."""
    for test in report.iter("testcase"):
        for problem in (*test.findall("failure"), *test.findall("error")):
            name, text = test.get("name", ""), problem.text or ""
            file = file_of(test.get("classname") or name)
            found = re.search(rf"(?m)^{re.escape(file)}:(\d+): ", text)
            properties = {"file": file, "line": found[1] if found else "1", "title": name}
            words = ",".join(f"{key}={as_property(value)}" for key, value in properties.items())
            yield f"::error {words}::{as_data(problem.get('message') or text)}"


def file_of(dotted: str) -> str:
    """The file of ``tests.unit.test_it`` or of a class in it, relative to the project."""
    words = dotted.split(".")
    for count in range(len(words), 0, -1):
        file = Path(*words[:count]).with_suffix(".py")
        if file.is_file():
            return file.as_posix()
    return dotted


def as_data(text: str) -> str:
    """Escape the message of a GitHub workflow command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def as_property(text: str) -> str:
    """Escape a property of a workflow command, where colons and commas are special, too."""
    return as_data(text).replace(":", "%3A").replace(",", "%2C")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
