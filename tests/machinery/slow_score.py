"""The command, slowed down in each part of a run, so that tests can stop it midway.

``python slow_score.py score …`` does the same as ``score …`` otherwise.
"""

import sys
import time
from pathlib import Path

from iris_flower_prediction import cli
from iris_flower_prediction.batch import results

SLOWLY = Path(__file__)
write = results.Results.write


def write_slowly(*arguments):
    time.sleep(0.1)
    return write(*arguments)


if __name__ == "__main__":
    results.Results.write = write_slowly
    sys.exit(cli.main())
