"""A saved model is verified before anything of it is deserialized, and predicts by contract."""

import gzip
import hashlib
import io
import json
import re
import shutil
import zipfile
from functools import partial

import numpy as np
import pytest
import skops.io
from sklearn.base import BaseEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.errors import ProjectError
from iris_flower_prediction.models import artifact, predict


@pytest.fixture
def model_folder(saved, tmp_path):
    """A copy of the saved model that a test may damage."""
    return shutil.copytree(saved, tmp_path / "model")


@pytest.fixture
def nothing_deserialized(monkeypatch):
    def refuse(content):
        raise AssertionError("deserialized before it was verified")

    monkeypatch.setattr(artifact, "_pickle", refuse)
    for name in artifact.LOADERS:
        monkeypatch.setitem(artifact.LOADERS, name, refuse)


def artifact_file(folder):
    return folder / json.loads((folder / artifact.METADATA).read_text("utf-8"))["artifact"]


def change(folder, **values):
    file = folder / artifact.METADATA
    metadata = json.loads(file.read_text("utf-8")) | values
    kept = {name: value for name, value in metadata.items() if value is not ...}
    file.write_text(json.dumps(kept), "utf-8")


def test_the_saved_model_opens(model_folder):
    metadata = artifact.open_model(model_folder).metadata
    content = (model_folder / metadata["artifact"]).read_bytes()
    assert metadata["sha256"] == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: b"",
        lambda content: content + b"\0",
        lambda content: content[:99] + bytes([content[99] ^ 1]) + content[100:],
    ],
    ids=["cut", "emptied", "longer", "one bit"],
)
def test_a_changed_artifact_is_refused(model_folder, nothing_deserialized, damage):
    file = artifact_file(model_folder)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ProjectError, match="not the file that was saved"):
        artifact.open_model(model_folder)


def test_a_missing_artifact_is_refused(model_folder, nothing_deserialized):
    artifact_file(model_folder).unlink()
    with pytest.raises(ProjectError, match="models:/it/3 has lost its model"):
        artifact.open_model(model_folder, called="models:/it/3")


def test_artifact_and_metadata_changed_together_fail_against_the_registry(
    model_folder, nothing_deserialized
):
    recorded = json.loads((model_folder / artifact.METADATA).read_text("utf-8"))["sha256"]
    artifact_file(model_folder).write_bytes(b"something else")
    change(model_folder, sha256=hashlib.sha256(b"something else").hexdigest())
    with pytest.raises(ProjectError, match="not the file that was saved"):
        artifact.open_model(model_folder, expected=recorded)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '"model"', "\xff"])
def test_damaged_metadata_is_refused(model_folder, nothing_deserialized, text):
    (model_folder / artifact.METADATA).write_text(text, "latin-1")
    with pytest.raises(ProjectError, match="damaged"):
        artifact.open_model(model_folder)


@pytest.mark.parametrize("name", ["name", "artifact", "sha256", "probabilities", "numeric_form"])
def test_incomplete_metadata_is_refused(model_folder, nothing_deserialized, name):
    change(model_folder, **{name: ...})
    with pytest.raises(ProjectError, match="damaged"):
        artifact.open_model(model_folder)


@pytest.mark.parametrize("name", [5, None, "metadata.json", "../model/model.onnx", "model.txt"])
def test_an_artifact_of_another_kind_or_place_is_refused(model_folder, nothing_deserialized, name):
    content = artifact_file(model_folder).read_bytes()
    for copy in ("model.txt", "model.onnx"):
        (model_folder / copy).write_bytes(content)
    change(model_folder, artifact=name)
    with pytest.raises(ProjectError):
        artifact.open_model(model_folder)


def test_a_model_of_another_contract_is_refused(model_folder, nothing_deserialized):
    form = [["SOMETHING", "float", []], *CONTRACT.numeric_form[1:]]
    change(model_folder, numeric_form=form, contract="0.0.1")
    with pytest.raises(ProjectError, match=r"contract 0\.0\.1.*train again"):
        artifact.open_model(model_folder)


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(ProjectError, match="holds no model"):
        artifact.open_model(tmp_path)


def test_a_pickle_is_not_opened_unless_allowed(model_folder, nothing_deserialized):
    (model_folder / "model.pkl").write_bytes(b"boom")
    change(model_folder, artifact="model.pkl", sha256=hashlib.sha256(b"boom").hexdigest())
    with pytest.raises(ProjectError, match="allow_pickle"):
        artifact.open_model(model_folder)


class Foreign(BaseEstimator):
    """A class that is neither scikit-learn's nor this project's."""


def test_a_skops_file_with_foreign_types_is_refused(model_folder):
    content = skops.io.dumps(Foreign())
    (model_folder / "model.skops").write_bytes(content)
    change(model_folder, artifact="model.skops", sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(ProjectError, match=r"not trusted.*Foreign"):
        artifact.open_model(model_folder)


def test_predictions_are_a_list_of_the_targets_own_values(saved, examples, matrix):
    model = artifact.open_model(saved)
    predictions = predict.make_predictions(model, examples)
    assert isinstance(predictions, list)
    codes, _ = model.run(matrix)
    assert predictions == CONTRACT.target.decode(codes).tolist()
    assert predictions == model.predict(None, examples)


def test_one_row_is_predicted_as_in_a_batch(saved, examples):
    model = artifact.open_model(saved)
    together = predict.make_predictions(model, examples)
    for row in (0, len(examples) // 2, len(examples) - 1):
        columns = examples[CONTRACT.names].iloc[[row]].to_dict("list")
        alone = predict.make_predictions(model, columns)
        assert alone == pytest.approx([together[row]])


def test_no_rows_give_no_predictions(saved):
    columns = {name: [] for name in CONTRACT.names}
    assert predict.make_predictions(artifact.open_model(saved), columns) == []


def test_a_row_that_breaks_the_contract_is_an_error(saved, examples):
    columns = examples[CONTRACT.names].iloc[[0]].to_dict("list")
    first, last = CONTRACT.names[0], CONTRACT.names[-1]
    broken = columns | {first: ["not a value"]}
    with pytest.raises(ProjectError, match=rf"row 0, column {re.escape(first)}: not a value"):
        predict.make_predictions(artifact.open_model(saved), broken)
    del columns[last]
    with pytest.raises(ProjectError, match=f"{re.escape(last)} is missing"):
        predict.make_predictions(artifact.open_model(saved), columns)


def test_the_probability_is_that_of_the_prediction(saved, matrix):
    model = artifact.open_model(saved)
    labels, probabilities = model.run(matrix)
    found = model.score(matrix).probability
    assert (found is None) == (not model.metadata["probabilities"])
    if found is not None:
        expected = [row[int(label)] for row, label in zip(probabilities, labels, strict=True)]
        np.testing.assert_array_equal(found, expected)


def test_by_a_threshold_of_its_own_the_probability_may_be_the_smaller_one():
    chances = np.array([[0.7, 0.3], [np.nan, np.nan]], np.float32)
    model = predict.Model({}, lambda _: (np.array([1, 0]), chances))
    codes, probability, _ = model.score(np.zeros((2, 1), np.float32))
    np.testing.assert_array_equal(probability, np.float32([0.3, np.nan]))
    np.testing.assert_array_equal(codes, [1, np.nan])


def test_a_model_of_another_major_version_of_the_contract_is_refused(model_folder):
    change(model_folder, contract=f"{int(CONTRACT.version.partition('.')[0]) + 1}.0.0")
    with pytest.raises(artifact.ContractChangedError, match="train again"):
        artifact.open_model(model_folder)


def test_without_probabilities_only_labels_are_given(model_folder, matrix):
    change(model_folder, probabilities=False)
    assert artifact.open_model(model_folder).run(matrix)[1] is None


def test_a_model_outside_a_registry_is_named_by_its_digest(saved):
    model = artifact.open_model(saved)
    assert model.version == model.metadata["sha256"][:12]


def test_functions_in_a_skops_file_are_not_run(tmp_path, model_folder):
    """Two functions that look harmless, but together would run a text in the file as code."""
    code = f"open({str(tmp_path / 'ran')!r}, 'w')"
    text = {"fill_value": code, "dtype": f"S{len(code)}", "shape": [1]}
    steps = [
        FunctionTransformer(np.full_like, kw_args=text),
        FunctionTransformer(np.testing.measure, kw_args={"times": 1}),
    ]
    content = skops.io.dumps(make_pipeline(*steps))
    folder = model_folder
    (folder / "model.skops").write_bytes(content)
    metadata = json.loads((folder / artifact.METADATA).read_text("utf-8"))
    metadata |= {"artifact": "model.skops", "sha256": hashlib.sha256(content).hexdigest()}
    (folder / artifact.METADATA).write_text(json.dumps(metadata), "utf-8")
    with pytest.raises(ProjectError, match=r"not trusted: .*measure"):
        artifact.open_model(folder)
    assert not (tmp_path / "ran").exists()


def test_a_class_that_a_module_of_scikit_learn_imports_is_not_its_own(tmp_path, model_folder):
    victim = tmp_path / "victim"
    victim.write_text("precious", "utf-8")
    step = FunctionTransformer(partial(gzip.GzipFile, str(victim), "wb"))
    content = skops.io.dumps(step)
    # The class under the name of a scikit-learn module that imports it.
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        schema = archive.read("schema.json").replace(
            b'"__module__": "gzip"', b'"__module__": "sklearn.datasets._covtype"'
        )
    with zipfile.ZipFile(made := io.BytesIO(), "w") as archive:
        archive.writestr("schema.json", schema)
    content = made.getvalue()
    (model_folder / "model.skops").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    change(model_folder, artifact="model.skops", sha256=sha256)
    with pytest.raises(ProjectError, match=r"not trusted: sklearn\.datasets\._covtype\.GzipFile"):
        artifact.self_test(artifact.open_model(model_folder))
    assert victim.read_text("utf-8") == "precious"
