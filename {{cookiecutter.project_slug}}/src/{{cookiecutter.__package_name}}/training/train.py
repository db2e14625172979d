"""The training pipeline: data, split, select, optimise, validate, register, compare, promote.

The pipeline validates, compares and promotes the serving artifact itself, not the estimator that
it was exported from.
"""

import argparse
import logging
import math
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from joblib import parallel_config
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.model_selection import KFold, RandomizedSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline
from tqdm import tqdm

from .. import model, settings
from ..contract import CONTRACT
from ..errors import ProjectError, brief
from ..models import decisions, export, registry, stores
from ..models.artifact import ContractChangedError, open_model, write_metadata
from ..models.predict import Model
from ..models.reference import reference
from ..models.register import Record, register
from ..settings import PACKAGE, Settings, Training
from ..tables.locks import only_one
from . import plots
from .split import Split, load_split

# Rows of each class that a candidate is tried on before the search.
FEW = 200
LONGEST_PARAM = 6_000  # MLflow's limit
MOST_WARNINGS = 10  # logged for a candidate
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Chosen:
    """The winner, refitted on all training rows, and every candidate's cross-validated score."""

    name: str
    params: dict[str, Any]
    estimator: Any
    scores: dict[str, float]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--force", action="store_true", help="promote even where the champion is not beaten"
    )


def run(arguments: argparse.Namespace) -> int:
    config = settings.load()
    with only_one("training", Path(config.training.work), "a training"):
        return train(config, arguments.force)


def train(config: Settings, force: bool = False) -> int:
    """Run the whole pipeline; returns 0, or 1 for a model that is rejected."""
    split = load_split(config)
    registry.find(registry.CHAMPION, config)  # fails early if the registry is down
    chosen = select(split, config)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        with _named(chosen.name):
            metadata = export.save(
                chosen.estimator, folder, split.training, split.target, split.holdout, config
            )
            candidate = open_model(folder, allow_pickle=config.models.allow_pickle)
            metrics = measure(candidate, split)
            files = plots.draw(candidate, split, Path(temporary), config.training)
        trained = {"trained_at": registry.now(), "estimator": chosen.name, "metrics": metrics}
        trained["features"] = features = kept_features(chosen.estimator)
        predicted = candidate.score(split.holdout).codes
        trained["reference"] = reference(split.training, predicted).model_dump()
        write_metadata(folder, metadata | trained)
        problems = shortfalls(metrics, config.training)
        if chosen.name == model.BASELINE:
            problems.append("no candidate beats the baseline")
        record = Record(
            params={
                "estimator": chosen.name,
                "rows": split.rows,
                "features": ", ".join(features)[:LONGEST_PARAM],
                **chosen.params,
            },
            metrics=metrics
            | {f"cv_{name}": score for name, score in chosen.scores.items()}
            | {
                f"disagreement_{rows}_{what}": share
                for rows, shares in metadata["disagreement"].items()
                for what, share in shares.items()
            },
            files=files,
        )
        version = register(folder, record, config)
    print(f"\nVersion {version}: {chosen.name}, served from {metadata['artifact']}")
    if metadata["fallback"]:
        print(f"  slower than ONNX would be: {metadata['fallback']}")
    elif differs := export.told(metadata["disagreement"]):
        print(f"  which gives {differs} than the estimator")
    for name, value in metrics.items():
        print(f"  {name:<18}{value:.4f}")
    return decide(version, problems, metrics, split, config, force)


def select(split: Split, config: Settings) -> Chosen:
    """Search every candidate's space with cross-validation, and take the best.

    :raises ProjectError: a candidate cannot be fitted, or could not be served if it won.
    """
    candidates, problems = model.build(config.training.seed), []
    for name, candidate in candidates.items():
        try:
            with _named(name), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the search reports them
                _rehearse(candidate.estimator, split, config)
        except ProjectError as problem:
            problems.append(str(problem))
    if problems:
        raise ProjectError("\n".join(problems))
    searches = {}
    for name, candidate in tqdm(candidates.items(), "Candidates", disable=None):
        with _named(name), parallel_config("threading", n_jobs=-1):
            search = _search(*candidate, config.training)
            searches[name] = search.fit(split.training, split.target)
        log.info("%s: %s %.4f", name, model.SCORING, search.best_score_)
    best = max(searches, key=lambda name: searches[name].best_score_)
    scores = {name: float(search.best_score_) for name, search in searches.items()}
    return Chosen(best, searches[best].best_params_, searches[best].best_estimator_, scores)


def _search(estimator: BaseEstimator, space: dict[str, list], config: Training):
    folds = StratifiedKFold if is_classifier(estimator) else KFold
    return RandomizedSearchCV(
        estimator,
        space,
        n_iter=min(config.searches, math.prod(map(len, space.values()))),
        scoring=model.SCORING,
        cv=folds(config.folds, shuffle=True, random_state=config.seed),
        random_state=config.seed,
        error_score="raise",
    )


@contextmanager
def _named(candidate: str) -> Iterator[None]:
    """Report a candidate's errors and warnings with its name, each warning once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        except (Exception, SystemExit) as error:  # an estimator may raise any
            raise ProjectError(f"model.py: candidate {candidate}: {brief(error)}.") from error
    told = Counter(brief(each.message) for each in caught)
    for text, count in told.most_common(MOST_WARNINGS):
        log.warning("candidate %s: %s%s", candidate, text, f" ({count} times)" * (count > 1))


def _rehearse(estimator: BaseEstimator, split: Split, config: Settings) -> None:
    """Fit on few rows and check that the result can be served, before the long search."""
    few = _some_of_each(split.target)
    try:
        fitted = clone(estimator).fit(split.training[few], split.target[few])
    except ValueError:  # some estimators need more rows
        fitted = clone(estimator).fit(split.training, split.target)
    export.require_servable(fitted, split.training, config)


def _some_of_each(codes: np.ndarray) -> np.ndarray:
    """Indices of the first FEW rows; with classes, of the first FEW rows of each class."""
    if not CONTRACT.target.classes:
        return np.arange(len(codes))[:FEW]
    return np.concatenate([np.flatnonzero(codes == code)[:FEW] for code in np.unique(codes)])


def kept_features(estimator: Any) -> list[str]:
    """The names of the features that the last step of a pipeline gets, after any selector.

    Without a pipeline, the names of all columns; empty if a step provides no names.
    """
    if not isinstance(estimator, Pipeline):
        return CONTRACT.names
    try:
        return [str(name) for name in estimator[:-1].get_feature_names_out(CONTRACT.names)]
    except (AttributeError, ValueError):
        return []


def measure(served: Model, split: Split) -> dict[str, float]:
    """Metrics of a serving artifact on the held-out rows."""
    labels, probabilities = served.run(split.holdout)
    return model.evaluate(split.holdout_target, labels, probabilities)


def decide(
    version: str, problems: list[str], metrics: dict, split: Split, config: Settings, force: bool
) -> int:
    """Reject, promote or keep a new version, and record the verdict with its reason."""
    if problems:
        verdict, reason = "rejected", "; ".join(problems)
    else:
        registry.set_challenger(version, config)
        better, reason = compare(metrics, split, config)
        verdict = "promoted" if better or force else "kept as challenger"
        if force and not better:
            reason = f"by --force, although {reason}"
    if verdict == "promoted":
        registry.promote(version, reason, config)
    else:
        registry.set_verdict(version, verdict, reason, config)
    decisions.record(config.database, verdict, version, reason)
    log.info("version %s %s: %s", version, verdict, reason)
    print(f"{verdict.capitalize()}: {reason}.")
    return 1 if problems else 0


def shortfalls(metrics: dict[str, float], config: Training) -> list[str]:
    """The thresholds that the metrics miss, a phrase for each."""
    unknown = {*config.minimum, *config.maximum} - set(metrics)
    if unknown:
        raise ProjectError(
            f"training: evaluate() returns no {', '.join(sorted(unknown))}, only "
            f"{', '.join(metrics)}."
        )
    low = [
        f"{name} {metrics[name]:.4f} is below training.minimum, {bound:g}"
        for name, bound in config.minimum.items()
        if not metrics[name] >= bound
    ]
    high = [
        f"{name} {metrics[name]:.4f} is above training.maximum, {bound:g}"
        for name, bound in config.maximum.items()
        if not metrics[name] <= bound
    ]
    return low + high


def compare(metrics: dict[str, float], split: Split, config: Settings) -> tuple[bool, str]:
    """Whether the challenger beats the champion on the same held-out rows, and why."""
    if registry.find(registry.CHAMPION, config) is None:
        return True, "there is no champion yet"
    try:
        champion = stores.load_model(f"models:/{PACKAGE}@{registry.CHAMPION}", config)
    except ContractChangedError:
        return True, "the champion was trained on another contract"
    except ProjectError as error:
        return False, f"the champion cannot be compared, which --force overrides: {brief(error)}"
    name = config.training.metric
    old, new = measure(champion, split)[name], metrics[name]
    gain = new - old if name in config.training.minimum else old - new
    better = gain > config.training.margin
    verb = "beats" if better else "does not beat"
    return better, (
        f"{name} {new:.4f} {verb} the champion's {old:.4f} (version {champion.version}) "
        f"by more than {config.training.margin:g}"
    )
