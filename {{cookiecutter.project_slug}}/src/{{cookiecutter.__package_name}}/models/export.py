"""From a fitted estimator to the serving artifact.

The estimator is exported to ONNX and the export is compared with it: labels and probabilities of a
classifier, values of a regressor. If there is no exporter, or if the two differ too often, the
estimator's skops file is served instead; cloudpickle is the last resort, and only if the settings
allow it.
"""

import hashlib
import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from ..contract import CONTRACT
from ..errors import ProjectError, brief
from ..settings import PACKAGE, Settings, Training
from .artifact import OTHER_PROBABILITY, native, open_model, write_metadata
from .predict import Raw

DRAWN_ROWS = 10_000
MISSING = 0.1
# A class with at least so many rows is compared by itself: one row of 200 is not more than the
# default of training.max_label_disagreement.
CLASS_ROWS = 200
# The self-test that is saved with a model: so many drawn rows, and so many more with a missing
# value.
SELF_TEST_ROWS = 5
# How many drawn rows a candidate must answer before the search.
ASKED_ROWS = 100
# Two classes whose probabilities differ by less are a tie, where both answers are right.
TIE = 1e-6
# Regression: values that differ by more, in standard deviations of the target, count as different.
OTHER_VALUE = 0.01
log = logging.getLogger(__name__)


def save(
    estimator: Any,
    folder: Path,
    training: np.ndarray,
    target: np.ndarray,
    holdout: np.ndarray,
    config: Settings,
) -> dict:
    """Write the serving artifact and its metadata to ``folder``, and return the metadata.

    :param training: float32 (rows, columns); its ranges are used where the contract has none.
    :param target: codes (rows,) of the training rows.
    :param holdout: float32 (rows, columns), rows the estimator was not fitted on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = draw(training, config.training.seed)
    fitted = {"drawn": _answers(estimator, drawn)}
    disagreement: dict[str, dict[str, float]] = {}
    try:
        content = _to_onnx(estimator, training)
        metadata = _write(estimator, folder, "model.onnx", content)
        exported, deviation = open_model(folder), float(np.std(target))
        fitted["holdout"] = native(estimator)(holdout)
        for name, rows in (("holdout", holdout), ("drawn", drawn)):
            disagreement[name] = compare(exported.run(rows), fitted[name], deviation)
        why = _too_much(disagreement, config.training)
    except Exception as error:  # an exporter may fail in any way; the estimator itself still serves
        why = f"it cannot be exported to ONNX: {brief(error.__cause__ or error)}"
    if why:
        log.info("the estimator itself is served, because %s", why)
        (folder / "model.onnx").unlink(missing_ok=True)
        metadata = _write_native(estimator, folder, config.models.allow_pickle)
    else:
        (folder / "native.skops").write_bytes(_to_skops(estimator) or b"")
    metadata |= {"disagreement": disagreement, "fallback": why}
    gaps = np.isnan(drawn).any(axis=1)
    rows = np.concatenate([drawn[:SELF_TEST_ROWS], drawn[gaps][:SELF_TEST_ROWS]])
    labels, probabilities = open_model(folder, allow_pickle=config.models.allow_pickle).run(rows)
    metadata["self_test"] = {
        "rows": rows.tolist(),
        "labels": labels.tolist(),
        "probabilities": None if probabilities is None else probabilities.tolist(),
    }
    write_metadata(folder, metadata)
    return metadata


def require_servable(estimator: Any, training: np.ndarray, config: Settings) -> None:
    """:raises ProjectError: ``save`` would refuse the fitted estimator, or one like it."""
    _answers(estimator, draw(training, config.training.seed)[:ASKED_ROWS])
    try:
        _to_onnx(estimator, training)
    except Exception:  # see save
        with tempfile.TemporaryDirectory() as temporary:
            _write_native(estimator, Path(temporary), config.models.allow_pickle)


def _worst(disagreement: dict[str, dict[str, float]]) -> dict[str, float]:
    """The larger share of each kind that ``compare`` found."""
    worst: dict[str, float] = {}
    for shares in disagreement.values():
        for what, share in shares.items():
            worst[what] = max(share, worst.get(what, 0))
    return worst


def told(disagreement: dict[str, dict[str, float]]) -> str:
    """What ``compare`` found, as text; empty if nothing differs."""
    worst = _worst(disagreement)
    found = [f"other {what} for {100 * share:.2g} %" for what, share in worst.items() if share]
    return f"{' and '.join(found)} of the rows" if found else ""


def _too_much(disagreement: dict[str, dict[str, float]], config: Training) -> str | None:
    """Why the estimator must be served instead of its export; None if it need not."""
    most = {
        "labels": config.max_label_disagreement,
        "probabilities": config.max_score_disagreement,
        "values": config.max_score_disagreement,
    }
    if any(share > most[what] for what, share in _worst(disagreement).items()):
        limits = "training.max_label_disagreement and max_score_disagreement"
        return f"its export to ONNX gives {told(disagreement)}, more than {limits} allow"
    return None


def draw(training: np.ndarray, seed: int) -> np.ndarray:
    """float32 rows drawn uniformly from the contract's ranges, shape (DRAWN_ROWS, columns).

    In a nullable column, the share MISSING of the values is missing.
    """
    random = np.random.default_rng(seed)
    drawn = np.empty((DRAWN_ROWS, len(CONTRACT.columns)), np.float32)
    for index, column in enumerate(CONTRACT.columns):
        low, high = column.drawn_from
        known = training[~np.isnan(training[:, index]), index]
        low = known.min() if low is None else low
        high = known.max() if high is None else high
        values = random.uniform(low, high, DRAWN_ROWS)
        drawn[:, index] = values if column.type == "float" else values.round()
        if column.nullable:
            drawn[random.random(DRAWN_ROWS) < MISSING, index] = np.nan
    return drawn


def _answers(estimator: Any, drawn: np.ndarray) -> Raw:
    """The estimator's answers to the drawn rows.

    :raises ProjectError: it fails on values that the contract allows, such as missing ones, or its
        answers are not valid.
    """
    gaps = [column.name for column in CONTRACT.columns if column.nullable]
    try:
        answers = native(estimator)(drawn)
    except Exception as error:  # an estimator may fail in any way
        advice = (
            f"on missing values, which the contract allows in {', '.join(gaps)}"
            f" ({brief(error)}): impute them in its pipeline in model.py"
            if gaps
            else f"on values that the contract allows ({brief(error)}): choose another in model.py"
        )
        raise ProjectError(f"the estimator fails {advice}.") from error
    _require_answers(answers, len(drawn))
    return answers


def _require_answers(answers: Raw, count: int) -> None:
    """:raises ProjectError: they are not valid answers to ``count`` rows."""
    labels, probabilities = answers
    if labels.shape != (count,) or labels.dtype.kind not in "biuf":
        raise ProjectError("predict does not give a number for each row.")
    if probabilities is None:
        return
    classes = CONTRACT.target.classes
    whole = isinstance(probabilities, np.ndarray) and probabilities.shape == (count, classes)
    # NaN is valid: for a row far from all others there may be no probability.
    if not whole or ((probabilities < 0) | (probabilities > 1)).any():
        raise ProjectError(f"predict_proba does not give {classes} probabilities for each row.")


def compare(served: Raw, fitted: Raw, deviation: float) -> dict[str, float]:
    """Shares of rows, from 0 to 1, on which an export differs from its estimator.

    Regression: ``values`` that differ by more than OTHER_VALUE. Classification: ``labels`` that
    differ, ties aside, as a share of all rows or of a frequent class, whichever is larger; and
    ``probabilities``, rows where that of any class differs by more than OTHER_PROBABILITY.

    :param deviation: standard deviation of the target, in its unit.
    """
    (labels, scores), (expected, probabilities) = served, fitted
    if CONTRACT.target.type in ("float", "integer", "date"):
        # For a target with one value only, float32 still differs in the last digit.
        relative = 0 if deviation else 1e-6
        same = np.isclose(labels, expected, rtol=relative, atol=OTHER_VALUE * deviation)
        return {"values": float(np.mean(~same))}
    other = labels != expected
    # Not every classifier predicts by its probabilities: those of SGDClassifier may all be 0 or 1.
    if probabilities is not None and (expected == probabilities.argmax(axis=1)).all():
        top = np.sort(probabilities, axis=1)[:, -2:]
        other &= top[:, -1] - top[:, 0] > TIE
    # By class, too, because a rare class hardly changes the share of all rows.
    classes = (other[expected == each] for each in np.unique(expected))
    frequent = [rows for rows in classes if len(rows) >= CLASS_ROWS]
    found = {"labels": float(max(np.mean(rows) for rows in (other, *frequent)))}
    if probabilities is not None:
        same = np.isclose(scores, probabilities, rtol=0, atol=OTHER_PROBABILITY)
        found["probabilities"] = float(np.mean(~same.all(axis=1)))
    return found


def _to_onnx(estimator: Any, training: np.ndarray) -> bytes:
    from skl2onnx import to_onnx

    # The probabilities of a classifier as an array, not as a list of dictionaries.
    options = {id(estimator): {"zipmap": False}} if hasattr(estimator, "predict_proba") else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return to_onnx(estimator, training[:1], options=options).SerializeToString()


def _write_native(estimator: Any, folder: Path, allow_pickle: bool) -> dict:
    if content := _to_skops(estimator):
        metadata = _write(estimator, folder, "model.skops", content)
        try:
            open_model(folder)
            return metadata
        except Exception as error:  # skops writes some types, such as lambdas, but cannot read them
            log.warning("skops cannot open the estimator again: %s", brief(error))
            (folder / "model.skops").unlink()
    if not allow_pickle:
        raise ProjectError(
            f"{type(estimator).__name__} can only be pickled, which runs code when it is loaded "
            "(the log says why): what is yours needs a name in model.py, no lambda and no other "
            "module; or choose another estimator, or set models.allow_pickle = true."
        )
    import cloudpickle

    log.warning("The model is saved with cloudpickle: load it only where you trust its origin.")
    return _write(estimator, folder, "model.pkl", cloudpickle.dumps(estimator))


def _to_skops(estimator: Any) -> bytes | None:
    """The estimator as a skops file, or None if skops cannot write it."""
    import skops.io

    try:
        return skops.io.dumps(estimator)
    except Exception as error:
        log.warning("skops cannot keep the estimator: %s", error)
        return None


def _write(estimator: Any, folder: Path, artifact: str, content: bytes) -> dict:
    (folder / artifact).write_bytes(content)
    metadata = {
        "name": PACKAGE,
        "artifact": artifact,
        "sha256": hashlib.sha256(content).hexdigest(),
        "probabilities": hasattr(estimator, "predict_proba"),
        "contract": CONTRACT.version,
        "numeric_form": CONTRACT.numeric_form,
    }
    write_metadata(folder, metadata)
    return metadata
