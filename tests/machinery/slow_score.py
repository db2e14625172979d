"""The command, each part of whose runs takes a little longer: time to stop it midway.

``python tests/slow_score.py score …`` does the same as ``score …`` otherwise.
"""

import sys
import time
from pathlib import Path

from iris_flower_prediction import cli
from iris_flower_prediction.batch import results

SLOWLY = Path(__file__)
finish = results.PartWriter.finish


def finish_late(part: results.PartWriter) -> None:
    time.sleep(0.1)
    finish(part)


if __name__ == "__main__":
    results.PartWriter.finish = finish_late
    sys.exit(cli.main())
