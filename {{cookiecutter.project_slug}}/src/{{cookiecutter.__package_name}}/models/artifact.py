"""Load a saved model: from its folder to a verified ``predict.Model``.

The folder holds the serving artifact (``model.onnx``, or ``model.skops`` for an estimator that
cannot be exported) and ``metadata.json``, which records the artifact's SHA-256. The digest is
checked before anything is deserialized.
"""

import hashlib
import importlib
import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from ..contract import CONTRACT
from ..errors import ProjectError, brief
from ..settings import PACKAGE
from .predict import Model, Raw
from .reference import Reference

METADATA, CURRENT = "metadata.json", "current.json"
# Names that scikit-learn's own estimators refer to: histogram gradient boosting with categories,
# splines, and the scores of feature selectors. A partial can only call these functions or
# scikit-learn's classes, because no other callable is trusted.
HARMLESS = {
    "numpy.dtype",
    "functools.partial",
    "sklearn.utils.validation.check_array",
    "scipy.interpolate._bsplines.BSpline",
    "scipy.interpolate._bsplines._BSpline",  # its name from Python 3.12 on, with scipy 1.18
    "scipy._lib.array_api_compat.numpy._aliases.asarray",
    "sklearn.feature_selection._mutual_info.mutual_info_classif",
    "sklearn.feature_selection._mutual_info.mutual_info_regression",
    "sklearn.feature_selection._univariate_selection.chi2",
    "sklearn.feature_selection._univariate_selection.f_classif",
    "sklearn.feature_selection._univariate_selection.f_regression",
    "sklearn.feature_selection._univariate_selection.r_regression",
}
# Probabilities that differ by more count as different.
OTHER_PROBABILITY = 0.02


class ContractChangedError(ProjectError):
    """The model was trained on other columns than those now in contract.py."""


class SelfTest(BaseModel):
    """Rows in numeric form, and the model's answers to them when it was saved."""

    rows: list[list[float]]
    labels: list[float]
    probabilities: list[list[float]] | None


class Metadata(BaseModel):
    """The content of metadata.json, which may hold more; ``version`` is the registry's number."""

    name: str
    artifact: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    contract: str
    numeric_form: list
    probabilities: bool
    version: str | None = Field(None, pattern="^[0-9]{1,18}$")
    metrics: dict[str, float] = {}
    self_test: SelfTest | None = None
    reference: Reference | None = None


def open_model(
    folder: Path,
    expected: str | None = None,
    allow_pickle: bool = False,
    called: str | None = None,
) -> Model:
    """Verify the model in ``folder`` and make it ready to predict.

    :param expected: the SHA-256 a registry recorded; the folder's own record must match, too.
    :param called: the model's name in messages; None for the folder.
    :raises ProjectError: the model is missing, changed, incomplete, of another contract, or not
        trusted.
    """
    called = called or str(folder)
    metadata = read_metadata(folder, called)
    name = metadata["artifact"]
    if not (folder / name).is_file():
        raise ProjectError(f"{called} has lost its {name}: restore it or save the model again.")
    content = (folder / name).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != metadata["sha256"] or (expected and found != expected):
        raise ProjectError(
            f"{called}: {name} is not the file that was saved (SHA-256 {found[:12]}…, recorded "
            f"{(expected or metadata['sha256'])[:12]}…): restore it or save the model again."
        )
    other = major(metadata["contract"]) != major(CONTRACT.version)
    if other or metadata["numeric_form"] != CONTRACT.numeric_form:
        raise ContractChangedError(
            f"{called} was trained on contract {metadata['contract']}, whose columns are not "
            f"those of contract {CONTRACT.version} in contract.py: train again."
        )
    load = LOADERS[name]
    if load is _pickle and not allow_pickle:
        allow = "models.allow_pickle = true allows it"
        raise ProjectError(f"{called}: {name} has to be unpickled; {allow}.")
    try:
        run = load(content)
        return Model(metadata, run if metadata["probabilities"] else _labels_only(run))
    except ProjectError:
        raise
    except Exception as error:
        raise ProjectError(f"{called}: {name} cannot be opened: {brief(error)}.") from error


def current(folder: Path) -> Path:
    """The folder of the model itself: the current copy, in a folder that ``follow`` updates."""
    try:
        return folder / json.loads((folder / CURRENT).read_text("utf-8"))["folder"]
    except (FileNotFoundError, NotADirectoryError):
        return folder
    except (KeyError, TypeError, ValueError):
        raise ProjectError(f"{folder / CURRENT} is damaged: remove it.") from None


def self_test(model: Model) -> None:
    """Check that the model answers its self-test as it did when it was saved.

    :raises ProjectError: its answers differ, or it was saved without a self-test.
    """
    known = model.metadata.get("self_test")
    if not known:
        raise ProjectError(f"{model.name} was saved without a self-test: train again.")
    try:
        labels, probabilities = model.run(np.asarray(known["rows"], np.float32))
        same = _alike(labels, known["labels"], rtol=1e-4, atol=1e-6)
        if same and (expected := known["probabilities"]) is not None:
            same = _alike(probabilities, expected, rtol=0, atol=OTHER_PROBABILITY)
    except Exception as error:  # for example from a damaged record
        problem = f"{model.name} version {model.version} cannot answer its self-test"
        raise ProjectError(f"{problem}: {brief(error)}: train again.") from error
    if not same:
        raise ProjectError(
            f"{model.name} version {model.version} answers its self-test otherwise than when it "
            f"was saved (labels {labels.tolist()} and {known['labels']}): train again on this "
            "platform."
        )


def _alike(found, expected, **most: float) -> bool:
    return np.shape(found) == np.shape(expected) and np.allclose(
        found, expected, equal_nan=True, **most
    )


def read_metadata(folder: Path, called: str | None = None) -> dict:
    """:param called: as for ``open_model``."""
    called = called or str(folder)
    try:
        content = (folder / METADATA).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise ProjectError(f"{called} holds no model: there is no {METADATA} in it.") from None
    return parse_metadata(content, f"{called}/{METADATA}")


def parse_metadata(content: str | bytes, called: object) -> dict:
    """:raises ProjectError: the content is not the ``Metadata`` of a model."""
    try:
        metadata = json.loads(content)
        whole = Metadata.model_validate(metadata, strict=True).artifact in LOADERS
    except (RecursionError, ValueError):
        whole = False
    if not whole:
        raise ProjectError(f"{called} is damaged: save the model again.")
    return metadata


def write_metadata(folder: Path, metadata: dict) -> None:
    (folder / METADATA).write_text(json.dumps(metadata, indent=2) + "\n", "utf-8")


def _onnx(content: bytes) -> Callable[[np.ndarray], Raw]:
    # Must be set before the import, after which onnxruntime sends usage data to its makers.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Callers run batches in parallel; more threads inside each call would only compete for cores.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(matrix: np.ndarray) -> Raw:
        labels, *probabilities = session.run(None, {name: matrix})
        return labels.ravel(), probabilities[0] if probabilities else None

    return run


def _skops(content: bytes) -> Callable[[np.ndarray], Raw]:
    for module in ("skops", "sklearn"):
        if importlib.util.find_spec(module) is None:
            raise ProjectError(
                f"this model is served by scikit-learn and {module} is not installed: "
                "install requirements-train.txt."
            )
    import skops.io

    types = skops.io.get_untrusted_types(data=content)
    foreign = [name for name in types if not _trusted(name)]
    if foreign:
        raise ProjectError(f"the model holds types that are not trusted: {', '.join(foreign)}.")
    return native(skops.io.loads(content, trusted=types))


def _trusted(name: str) -> bool:
    """Whether a skops file may use a name: one from model.py, or a class of scikit-learn.

    Other functions are not trusted, because the file chooses their arguments, and so could run
    anything. skops itself trusts the harmless functions of numpy and scipy.
    """
    module, _, attribute = name.rpartition(".")
    if module == f"{PACKAGE}.model" or name in HARMLESS:
        return True
    if not module.startswith("sklearn."):
        return False
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError:
        return False
    # Not a class that the module only imports, such as gzip's class for files.
    own = getattr(found, "__module__", "")
    return isinstance(found, type) and own.startswith("sklearn.") and ".externals" not in own


def _pickle(content: bytes) -> Callable[[np.ndarray], Raw]:
    import cloudpickle

    return native(cloudpickle.loads(content))


def native(estimator: Any) -> Callable[[np.ndarray], Raw]:
    """A fitted scikit-learn estimator as a function from a matrix to ``Raw``."""
    with_probabilities = hasattr(estimator, "predict_proba")

    def run(matrix: np.ndarray) -> Raw:
        labels = np.asarray(estimator.predict(matrix)).ravel()
        return labels, estimator.predict_proba(matrix) if with_probabilities else None

    return run


def _labels_only(run: Callable[[np.ndarray], Raw]) -> Callable[[np.ndarray], Raw]:
    """Drop the scores that an export adds for an estimator without ``predict_proba``."""
    return lambda matrix: (run(matrix)[0], None)


def major(version: str) -> str:
    """The major number of a contract's version, raised when a column changes its meaning."""
    return version.partition(".")[0]


LOADERS = {"model.onnx": _onnx, "model.skops": _skops, "model.pkl": _pickle}
