"""The generated project's command: validate, predict, write, publish, with a manifest."""

import sys
from importlib import import_module

from clock import work

from iris_flower_prediction import cli

source, target, model, *options = sys.argv[1:]
for module in ("onnxruntime", "iris_flower_prediction.batch.job"):  # what the command imports later
    import_module(module)

with work():
    code = cli.main(["score", "--input", source, "--output", target, "--model", model, *options])
sys.exit(code)
