"""Every estimator of scikit-learn can be served, from ONNX or by itself, as docs/models.md says."""

import re
import warnings

import pytest
from conftest import CHECKOUT, PROBLEM
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import all_estimators

from iris_flower_prediction.errors import ProjectError
from iris_flower_prediction.models import artifact, export

pytestmark = pytest.mark.slow

KIND = {"classification": "classifier", "regression": "regressor"}[PROBLEM]
# Those that take another target, another number of columns, or an estimator as an argument.
OTHERS = {
    *("ClassifierChain", "FixedThresholdClassifier", "MultiOutputClassifier"),
    *("OneVsOneClassifier", "OneVsRestClassifier", "OutputCodeClassifier", "StackingClassifier"),
    *("TunedThresholdClassifierCV", "VotingClassifier", "SelfTrainingClassifier"),
    *("CCA", "PLSCanonical", "IsotonicRegression", "MultiOutputRegressor", "RegressorChain"),
    *("MultiTaskElasticNet", "MultiTaskElasticNetCV", "MultiTaskLasso", "MultiTaskLassoCV"),
    *("StackingRegressor", "VotingRegressor"),
}
# What finds nothing in numbers of different sizes.
SCALED = {"SGDRegressor"}
NAMED = {name: kind for name, kind in all_estimators(type_filter=KIND) if name not in OTHERS}


def told(artifact: str) -> set[str]:
    """The estimators that the page says are served from it."""
    text = (CHECKOUT / "docs/models.md").read_text("utf-8")
    found = re.findall(rf"(?m)^\| {re.escape(artifact)} \| (.*) \|$", text)
    return set(re.findall(r"`([A-Z]\w+)`", "".join(found)))


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.filterwarnings("ignore")
def test_every_estimator_is_served_as_the_page_says(name, matrix, target, tmp_path, config):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = NAMED[name]()
        if name in SCALED:
            estimator = make_pipeline(StandardScaler(), estimator)
        fitted = estimator.fit(matrix, target)
        if name in told("refused"):
            with pytest.raises(ProjectError, match="fails on values that the contract allows"):
                export.save(fitted, tmp_path, matrix, target, matrix, config)
            return
        metadata = export.save(fitted, tmp_path, matrix, target, matrix, config)
    artifact.self_test(artifact.open_model(tmp_path))
    assert name in told(f"`{metadata['artifact']}`"), metadata["fallback"]


def test_the_page_names_no_other():
    known = [told(what) for what in ("`model.onnx`", "`model.skops`", "refused")]
    assert set.union(*known) == NAMED.keys()
    assert sum(map(len, known)) == len(NAMED)


def test_histograms_with_categories_and_splines_are_served_by_themselves(
    matrix, target, tmp_path, config
):
    from sklearn import ensemble, linear_model, pipeline, preprocessing

    boosting = {
        "classification": ensemble.HistGradientBoostingClassifier,
        "regression": ensemble.HistGradientBoostingRegressor,
    }[PROBLEM](categorical_features=[0], max_iter=10)
    spline = preprocessing.SplineTransformer(), linear_model.RidgeClassifier()
    if PROBLEM == "regression":
        spline = preprocessing.SplineTransformer(), linear_model.Ridge()
    rounded = matrix.round()
    for number, estimator in enumerate((boosting, pipeline.make_pipeline(*spline))):
        fitted = estimator.fit(rounded, target)
        export.save(fitted, tmp_path / str(number), rounded, target, rounded, config)
        artifact.self_test(artifact.open_model(tmp_path / str(number)))
