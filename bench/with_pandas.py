"""Peer (a): as in a notebook, everything in memory; writes only the predictions."""

import sys
from pathlib import Path

import pandas as pd
import skops.io
from clock import work

source, target, model = sys.argv[1:]
file = Path(model) / "native.skops"
estimator = skops.io.load(file, trusted=skops.io.get_untrusted_types(file=file))

with work():
    frame = pd.read_parquet(source)
    predictions = pd.DataFrame({"prediction": estimator.predict(frame)})
    predictions.to_parquet(target, index=False)
