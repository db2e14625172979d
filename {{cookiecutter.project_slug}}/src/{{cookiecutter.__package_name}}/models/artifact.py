"""A saved model: from its folder to a verified ``predict.Model``.

The folder holds the serving artifact (``model.onnx``, or ``model.skops`` for an estimator that
cannot be exported) and ``metadata.json``, which records the artifact's SHA-256. Nothing is
deserialized before its digest was checked.
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
# What scikit-learn's own estimators refer to: of histogram gradient boosting with categories, of
# splines, and how selectors judge a feature. Such a partial calls one of these functions or of
# scikit-learn's classes: nothing else that can be called is trusted.
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
# A probability that is farther off is another one.
OTHER_PROBABILITY = 0.02


class ContractChangedError(ProjectError):
    """The model was trained on other columns than contract.py now has."""


class SelfTest(BaseModel):
    """Rows that the model answered when it was saved, as ``matrix``, and its answers."""

    rows: list[list[float]]
    labels: list[float]
    probabilities: list[list[float]] | None


class Metadata(BaseModel):
    """What metadata.json must hold; there may be more. A version is a number of the registry's."""

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

    :param expected: the SHA-256 a registry recorded; the folder's own record must hold as well.
    :param called: what names the model to the user, the folder if None.
    :raises ProjectError: no model there, changed or cut short, of another contract, or not to be
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
    other = _major(metadata["contract"]) != _major(CONTRACT.version)
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
    """The model's own folder: of one that ``follow`` keeps in step, the copy that is current."""
    try:
        return folder / json.loads((folder / CURRENT).read_text("utf-8"))["folder"]
    except (FileNotFoundError, NotADirectoryError):
        return folder
    except (KeyError, TypeError, ValueError):
        raise ProjectError(f"{folder / CURRENT} is damaged: remove it.") from None


def self_test(model: Model) -> None:
    """Let the model answer the rows that it answered when it was saved.

    :raises ProjectError: it answers otherwise here, or was saved without such rows.
    """
    known = model.metadata.get("self_test")
    if not known:
        raise ProjectError(f"{model.name} was saved without a self-test: train again.")
    try:
        labels, probabilities = model.run(np.asarray(known["rows"], np.float32))
        same = _alike(labels, known["labels"], rtol=1e-4, atol=1e-6)
        if same and (expected := known["probabilities"]) is not None:
            same = _alike(probabilities, expected, rtol=0, atol=OTHER_PROBABILITY)
    except Exception as error:  # as of a damaged record
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
    """:raises ProjectError: they are not the ``Metadata`` of a model."""
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
    # From its import on, onnxruntime would report how it is used to its makers.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Callers run batches in parallel; a pool of threads inside each call would only get in the way.
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
    """Whether a skops file may name it: what model.py defines, and scikit-learn's classes.

    Other functions are not trusted, wherever they come from: called with arguments of the file's
    choice they could run anything. skops itself knows which of numpy's and scipy's are harmless.
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
    # Not what such a module imports, as gzip's class for files.
    own = getattr(found, "__module__", "")
    return isinstance(found, type) and own.startswith("sklearn.") and ".externals" not in own


def _pickle(content: bytes) -> Callable[[np.ndarray], Raw]:
    import cloudpickle

    return native(cloudpickle.loads(content))


def native(estimator: Any) -> Callable[[np.ndarray], Raw]:
    """The same interface over a fitted scikit-learn estimator."""
    with_probabilities = hasattr(estimator, "predict_proba")

    def run(matrix: np.ndarray) -> Raw:
        labels = np.asarray(estimator.predict(matrix)).ravel()
        return labels, estimator.predict_proba(matrix) if with_probabilities else None

    return run


def _labels_only(run: Callable[[np.ndarray], Raw]) -> Callable[[np.ndarray], Raw]:
    """Without what an export gives as probabilities and its estimator does not call so."""
    return lambda matrix: (run(matrix)[0], None)


def _major(version: str) -> str:
    """The part of a contract's version that is raised when a column changes its meaning."""
    return version.partition(".")[0]


LOADERS = {"model.onnx": _onnx, "model.skops": _skops, "model.pkl": _pickle}
