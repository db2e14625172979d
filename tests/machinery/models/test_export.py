"""The serving artifact answers as its estimator does, whichever form it takes."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin, clone, is_classifier
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import ParameterGrid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from iris_flower_prediction import model
from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.errors import ProjectError
from iris_flower_prediction.models import artifact, export
from iris_flower_prediction.models.artifact import native, open_model, self_test
from iris_flower_prediction.schema import Column


class Doubled(TransformerMixin, BaseEstimator):
    """A transformer as a user may write it: no exporter knows it."""

    def fit(self, features, target=None):
        self.n_features_in_ = features.shape[1]
        return self

    def transform(self, features):
        return features * 2


@pytest.fixture
def in_model(monkeypatch):
    """Make Doubled a class of model.py."""
    monkeypatch.setattr(Doubled, "__module__", model.__name__)
    monkeypatch.setattr(model, "Doubled", Doubled, raising=False)


@pytest.fixture
def exportable(fitted, matrix):
    """A pipeline that can be exported to ONNX, independent of model.py."""
    last = LogisticRegression() if is_classifier(fitted) else Ridge()
    pipeline = make_pipeline(SimpleImputer(), StandardScaler(), last)
    return pipeline.fit(matrix, codes(fitted, matrix))


def codes(fitted, matrix):
    return np.asarray(fitted.predict(matrix), float)


def save(estimator, folder, matrix, config):
    return export.save(estimator, folder, matrix, codes(estimator, matrix), matrix, config)


def shares(served, fitted, rows):
    """The shares of rows on which the two models differ, as training computes them."""
    scores = native(fitted)(rows)
    return export.compare(served.run(rows), scores, float(np.std(scores[0])))


def behind(step, fitted, matrix):
    return make_pipeline(step, clone(fitted)).fit(matrix, codes(fitted, matrix))


def test_what_is_known_to_onnx_is_served_from_it(exportable, matrix, tmp_path, config):
    metadata = save(exportable, tmp_path / "m", matrix, config)
    assert metadata["artifact"] == "model.onnx"
    assert metadata["fallback"] is None


def test_the_artifact_answers_as_the_estimator_on_known_and_on_drawn_rows(fitted, saved, matrix):
    served = open_model(saved)
    assert (served.metadata["artifact"] == "model.onnx") == (served.metadata["fallback"] is None)
    drawn = export.draw(matrix, seed=1)
    for rows in (matrix, drawn):
        assert set(shares(served, fitted, rows).values()) == {0.0}
        labels, probabilities = served.run(rows)
        chances = native(fitted)(rows)[1]
        assert labels.shape == (len(rows),)
        if chances is not None:
            np.testing.assert_allclose(probabilities, chances, atol=1e-3)


PLAN = Column("PLAN", "category", allowed=("basic", "family", "business"), nullable=True)
SINCE = Column("SINCE", "date", nullable=True)
PAYS = Column("PAYS", "boolean", nullable=True)
AGE = Column("AGE", "integer", minimum=16, maximum=120)
CONTRACTS = [(PLAN,), (PLAN, AGE), (AGE, PAYS), (AGE, PLAN, SINCE, PAYS)]


@pytest.mark.parametrize("columns", CONTRACTS, ids=lambda columns: str(len(columns)))
def test_the_candidates_suit_any_contract(columns, monkeypatch, tmp_path, config):
    """Each choice of the search is served from ONNX, also if a fold has no value of a column."""
    contract = replace(CONTRACT, columns=columns)
    for module in (model, artifact, export):
        monkeypatch.setattr(module, "CONTRACT", contract)
    seen = np.repeat(np.arange(3, dtype=np.float32), len(columns)).reshape(3, -1)
    rows = export.draw(seen, seed=1)
    target = (np.nan_to_num(rows[:, 0], nan=20) % 3).astype(float)
    if len(columns) > 2:
        rows[:, -1] = np.nan
    candidates = model.build(0)
    del candidates[model.BASELINE]
    for name, (estimator, space) in candidates.items():
        for number, choice in enumerate(ParameterGrid(space)):
            fitted = clone(estimator).set_params(**choice).fit(rows, target)
            metadata = save(fitted, tmp_path / f"{name}{number}", rows, config)
            assert metadata["artifact"] == "model.onnx", (choice, metadata["fallback"])


def test_drawn_rows_keep_the_contract(matrix):
    drawn = export.draw(matrix, seed=1)
    assert drawn.shape == (export.DRAWN_ROWS, len(CONTRACT.columns))
    for index, column in enumerate(CONTRACT.columns):
        low, high = column.bounds
        known = drawn[:, index][~np.isnan(drawn[:, index])]
        assert (len(known) < len(drawn)) == column.nullable
        assert low <= known.min() < known.max() <= high
        if column.type != "float":
            assert (known % 1 == 0).all()
    np.testing.assert_array_equal(drawn, export.draw(matrix, seed=1))
    assert (drawn != export.draw(matrix, seed=2)).any()


def test_the_estimator_is_kept_beside_its_export(fitted, saved, matrix):
    import skops.io

    onnx = (saved / "model.onnx").exists()
    file = saved / ("native.skops" if onnx else "model.skops")
    kept = skops.io.load(file, trusted=skops.io.get_untrusted_types(file=file))
    np.testing.assert_array_equal(kept.predict(matrix), fitted.predict(matrix))


@pytest.fixture
def with_gaps(monkeypatch):
    """The contract, but any value may be missing."""
    columns = tuple(replace(column, nullable=True) for column in CONTRACT.columns)
    for module in (artifact, export):
        monkeypatch.setattr(module, "CONTRACT", replace(CONTRACT, columns=columns))


def test_an_export_that_takes_missing_values_otherwise_is_not_served(
    with_gaps, fitted, matrix, tmp_path, config
):
    forest = RandomForestClassifier if is_classifier(fitted) else RandomForestRegressor
    estimator = forest(10, random_state=0).fit(matrix, codes(fitted, matrix))
    metadata = save(estimator, tmp_path / "m", matrix, config)
    served, rows = open_model(tmp_path / "m"), export.draw(matrix, seed=2)
    assert max(shares(served, estimator, rows).values()) <= config.training.max_score_disagreement
    assert metadata["artifact"] == "model.onnx" or "to ONNX gives" in metadata["fallback"]


def test_a_missing_value_that_means_something_is_not_lost_in_the_export(
    with_gaps, exportable, matrix, tmp_path, config
):
    """skl2onnx drops the column that ``add_indicator`` makes; this changes few labels."""
    random, rows = np.random.default_rng(0), export.draw(matrix, seed=3)
    risk = np.where(np.isnan(rows[:, 0]), 0.35, 0.04)
    rare = random.random(len(rows)) < risk
    most = CONTRACT.target.bounds[1] if is_classifier(exportable) else 1
    target = np.where(rare, most, np.arange(len(rows)) % most)
    steps = (StandardScaler(), SimpleImputer(add_indicator=True), clone(exportable[-1]))
    estimator = make_pipeline(*steps).fit(rows, target)
    export.save(estimator, tmp_path / "m", rows, target, rows, config)
    served, fitted = open_model(tmp_path / "m").run(rows), native(estimator)(rows)
    answers = served if is_classifier(estimator) else served[:1]
    for answer, expected in zip(answers, fitted, strict=False):
        np.testing.assert_allclose(answer, expected, atol=1e-3)


def test_an_estimator_without_imputation_is_refused_where_values_may_be_missing(
    with_gaps, exportable, matrix, tmp_path, config
):
    with pytest.raises(ProjectError, match=r"fails on missing values, .*: impute them"):
        target = codes(exportable, matrix)
        export.save(exportable[1:], tmp_path / "m", matrix, target, matrix, config)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda found: found[:, :1],
        lambda found: np.hstack([found, found]),
        lambda found: found[:-1],
        lambda found: found - 5,
        lambda found: found.tolist(),
        lambda found: [found],
    ],
)
def test_probabilities_that_are_none_are_refused(
    wrong, exportable, matrix, tmp_path, config, monkeypatch
):
    if not is_classifier(exportable):
        return
    target, right = codes(exportable, matrix), exportable.predict_proba
    monkeypatch.setattr(exportable, "predict_proba", lambda rows: wrong(right(rows)), raising=False)
    with pytest.raises(ProjectError, match=r"does not give . probabilities for each row"):
        export.save(exportable, tmp_path / "m", matrix, target, matrix, config)


def test_answers_that_are_no_numbers_are_refused(exportable, matrix, tmp_path, config, monkeypatch):
    target = codes(exportable, matrix)
    for wrong in (np.ones((len(matrix), 2)), np.full(export.DRAWN_ROWS, "yes")):
        monkeypatch.setattr(exportable, "predict", lambda _, wrong=wrong: wrong, raising=False)
        with pytest.raises(ProjectError, match="a number for each row"):
            export.save(exportable, tmp_path / "m", matrix, target, matrix, config)


def test_an_estimator_that_refuses_what_the_contract_allows_is_refused(
    exportable, matrix, tmp_path, config, monkeypatch
):
    def refuse(*_):
        raise ValueError("no neighbours")

    target = codes(exportable, matrix)
    monkeypatch.setattr(exportable, "predict", refuse, raising=False)
    with pytest.raises(ProjectError, match=r"estimator fails on .* \(no neighbours\)"):
        export.save(exportable, tmp_path / "m", matrix, target, matrix, config)


def test_a_rare_class_is_not_lost_in_the_others():
    if CONTRACT.target.type not in ("category", "boolean"):
        return
    expected = np.repeat([0.0, 1.0], [50_000, export.CLASS_ROWS])
    served = expected.copy()
    served[-50:] = 0
    found = export.compare((served, None), (expected, None), 1)
    assert found == {"labels": 50 / export.CLASS_ROWS}


@pytest.mark.parametrize("what", ["labels", "probabilities", "values"])
def test_an_export_that_disagrees_is_not_served(
    what, exportable, matrix, tmp_path, config, monkeypatch
):
    training = config.training
    most = training.max_label_disagreement if what == "labels" else training.max_score_disagreement
    monkeypatch.setattr(export, "compare", lambda *_: {what: most})
    accepted = save(exportable, tmp_path / "m", matrix, config)
    assert (accepted["artifact"], accepted["fallback"]) == ("model.onnx", None)
    monkeypatch.setattr(export, "compare", lambda *_: {what: most + 0.001})
    refused = save(exportable, tmp_path / "m", matrix, config)
    assert refused["artifact"] == "model.skops"
    assert refused["disagreement"]["drawn"] == {what: most + 0.001}
    assert f"other {what} for {100 * most + 0.1:.2g} % of the rows" in refused["fallback"]
    assert not (tmp_path / "m" / "model.onnx").exists()


def test_rows_with_another_answer_are_counted():
    labels = np.array([0.0, 1.0, 1.0, 0.0])
    if CONTRACT.target.type in ("category", "boolean"):
        sure = np.array([[0.9, 0.1], [0.1, 0.9], [0.2, 0.8], [0.5, 0.5]])
        other = np.array([0.0, 0.0, 1.0, 1.0])
        less = sure + np.array([[0, 0], [0, 0.021], [0.019, 0], [0, 0]])
        found = export.compare((other, less), (labels, sure), 1)
        assert found == {"labels": 0.25, "probabilities": 0.25}, "the last row is a tie"
        assert export.compare((labels, None), (labels, None), 1) == {"labels": 0}
        # Like SGDClassifier: labels come from its decision function, so no row is a tie.
        flat = np.full((4, 2), 0.5)
        assert export.compare((other, flat), (labels, flat), 1)["labels"] == 0.5
    else:
        other = labels + np.array([0, 1e-7, 0.021, 0.019])
        assert export.compare((other, None), (labels, None), 2) == {"values": 0.25}
        assert export.compare((labels, None), (labels, None), 2) == {"values": 0}
        far = labels + 1e8
        assert export.compare((far + 0.05, None), (far, None), 2) == {"values": 1}
        constant = np.full(4, 153.2)
        assert export.compare((constant.astype(np.float32), None), (constant, None), 0) == {
            "values": 0
        }
    lost = np.where(labels > 0, labels, np.nan)
    assert max(export.compare((lost, None), (labels, None), 2).values()) == 0.5


def test_the_self_test_holds_answers_to_missing_values(
    with_gaps, exportable, matrix, tmp_path, config
):
    save(exportable, tmp_path / "m", matrix, config)
    served = open_model(tmp_path / "m")
    assert np.isnan(served.metadata["self_test"]["rows"]).any()
    self_test(served)


def test_the_self_test_sees_another_probability(exportable, matrix, tmp_path, config):
    save(exportable, tmp_path / "m", matrix, config)
    served = open_model(tmp_path / "m")
    known = served.metadata["self_test"]
    if known["probabilities"] is None:
        known["labels"][0] += 1
    else:
        known["probabilities"][0][0] += 0.03
    with pytest.raises(ProjectError, match="self-test"):
        self_test(served)


def test_a_class_of_the_users_is_served_from_skops(in_model, fitted, matrix, tmp_path, config):
    estimator = behind(Doubled(), fitted, matrix)
    metadata = save(estimator, tmp_path / "m", matrix, config)
    assert metadata["artifact"] == "model.skops"
    assert "cannot be exported" in metadata["fallback"]
    served = open_model(tmp_path / "m")
    np.testing.assert_array_equal(served.run(matrix)[0], estimator.predict(matrix))


def test_a_class_from_elsewhere_is_not_served(fitted, matrix, tmp_path, config, caplog):
    estimator = behind(Doubled(), fitted, matrix)
    with pytest.raises(ProjectError, match=r"a name in model\.py"):
        save(estimator, tmp_path / "m", matrix, config)
    assert "not trusted: test_export.Doubled" in caplog.text


def test_an_exporter_that_fails_without_a_word_is_no_obstacle(
    fitted, matrix, tmp_path, config, monkeypatch
):
    def fail(*_):
        raise NotImplementedError

    monkeypatch.setattr(export, "_to_onnx", fail)
    metadata = save(fitted, tmp_path / "m", matrix, config)
    assert metadata["artifact"] == "model.skops"
    served = open_model(tmp_path / "m")
    np.testing.assert_array_equal(served.run(matrix)[0], codes(fitted, matrix))


def test_pickle_only_where_the_settings_allow_it(fitted, matrix, tmp_path, config, caplog):
    estimator = behind(FunctionTransformer(lambda rows: rows * 2), fitted, matrix)
    with pytest.raises(ProjectError, match="allow_pickle"):
        save(estimator, tmp_path / "m", matrix, config)
    models = config.models.model_copy(update={"allow_pickle": True})
    allowed = config.model_copy(update={"models": models})
    metadata = save(estimator, tmp_path / "m", matrix, allowed)
    assert metadata["artifact"] == "model.pkl"
    assert "cloudpickle" in caplog.text
    with pytest.raises(ProjectError, match="allow_pickle"):
        open_model(tmp_path / "m")
    served = open_model(tmp_path / "m", allow_pickle=True)
    np.testing.assert_array_equal(served.run(matrix)[0], estimator.predict(matrix))
