"""The model in the registry loads as MLflow's own kind of model, here and in another process."""

import json
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pytest
from conftest import use

from iris_flower_prediction import settings
from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.errors import ProjectError
from iris_flower_prediction.models import stores
from iris_flower_prediction.models.predict import make_predictions

CHAMPION = f"models:/{settings.PACKAGE}@champion"
# What somebody writes who knows MLflow and not this project.
PLAIN = """
import json, sys
import mlflow, pyarrow.parquet

mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
rows = pyarrow.parquet.read_table(sys.argv[3]).to_pandas()
print(json.dumps(list(model.predict(rows)), default=str))
"""


ALONE = """
import importlib, sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
for name in ("models.mlflow_model", "schema.arrow", "model"):
    module = importlib.import_module("{package}." + name)
print(Path(module.__file__).parents[1])
"""


def typed(examples):
    """The examples in the types of the contract, which MLflow insists on."""
    kinds = {"float": "float64", "integer": "int64", "boolean": "bool", "date": "datetime64[ns]"}
    table = examples[CONTRACT.names].copy()
    for column in CONTRACT.columns:
        kind = "int64" if column.numbered else kinds.get(column.type)
        if kind and table[column.name].notna().all():
            table[column.name] = table[column.name].astype(kind)
    return table


def test_the_champion_is_a_python_model(untouched):
    model = stores.load_model(CHAMPION, settings.load())
    assert isinstance(model, mlflow.pyfunc.PythonModel)
    assert model.name == settings.PACKAGE
    assert model.version == "1"


def test_plain_mlflow_loads_it_in_another_process(copied, examples):
    rows = copied.folder / "rows.parquet"
    table = typed(examples)
    table.to_parquet(rows)
    script = copied.folder / "plain.py"
    script.write_text(PLAIN, "utf-8")
    done = copied.run(script, f"sqlite:///{copied.folder / 'mlflow.db'}", CHAMPION, rows)
    assert done.returncode == 0, done.stderr
    predictions = json.loads(done.stdout.splitlines()[-1])
    ours = make_predictions(stores.load_model(CHAMPION, settings.load()), table)
    assert predictions == json.loads(json.dumps(ours, default=str))


def test_the_code_that_is_kept_with_a_model_loads_it_without_the_project(copied, tmp_path):
    [code] = copied.folder.glob("mlartifacts/models/*/artifacts/code")
    names = {path.name for path in (code / settings.PACKAGE).iterdir()}
    assert {"contract.py", "model.py"} <= names
    assert list(code.rglob("__pycache__")) == []
    script = tmp_path / "alone.py"
    script.write_text(ALONE.format(package=settings.PACKAGE), "utf-8")
    done = copied.run(script, code)
    assert (done.returncode, done.stdout.strip()) == (0, str(code)), done.stderr


def test_a_version_number_names_it_too(untouched, examples):
    config = settings.load()
    numbered = stores.load_model(f"models:/{settings.PACKAGE}/1", config)
    champion = stores.load_model(CHAMPION, config)
    assert make_predictions(numbered, examples) == make_predictions(champion, examples)


def test_a_copy_in_a_folder_needs_no_registry_and_answers_the_same(copied, examples, tmp_path):
    config = settings.load()
    folder = Path(stores.copy(CHAMPION, str(tmp_path / "model"), config))
    shutil.move(copied.folder / "mlflow.db", tmp_path / "gone.db")
    ours = stores.load_model(folder.as_uri(), config)
    assert ours.version == "1"
    expected = make_predictions(stores.load_model(str(folder), config), examples)
    assert make_predictions(ours, examples) == expected
    assert stores.copy(str(folder), str(folder), config) == str(folder)


def test_a_moved_project_still_loads_its_models(copied, tmp_path, monkeypatch, matrix):
    before = stores.load_model(CHAMPION, settings.load()).run(matrix)[0]
    moved = copied.folder.rename(tmp_path / "moved here")
    use(moved, monkeypatch)
    after = stores.load_model(CHAMPION, settings.load()).run(matrix)[0]
    np.testing.assert_array_equal(before, after)


def test_a_changed_artifact_in_the_registry_is_refused(copied):
    """In a copied project, which proves too that the original's artifact is not read."""
    [artifact] = copied.folder.glob("mlartifacts/models/*/artifacts/artifacts/model/model.*")
    artifact.write_bytes(artifact.read_bytes()[:-1])
    with pytest.raises(ProjectError, match="not the file that was saved"):
        stores.load_model(CHAMPION, settings.load())


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("models:/nobody@champion", "no such model"),
        (f"models:/{settings.PACKAGE}@nobody", "no such model"),
        (f"models:/{settings.PACKAGE}/99", "no such model"),
        (f"models:/{settings.PACKAGE}@", "no such model"),
        ("models:/", "no such model"),
        ("gopher://model", "no model store"),
        ("nowhere/model", "holds no model"),
    ],
)
def test_a_model_that_is_not_there_is_named(untouched, uri, sentence):
    with pytest.raises(ProjectError, match=sentence):
        stores.load_model(uri, settings.load())


def test_files_that_are_gone_are_named(copied):
    shutil.rmtree(copied.folder / "mlartifacts")
    with pytest.raises(ProjectError, match="files are gone"):
        stores.load_model(CHAMPION, settings.load())
