"""The champion loads from the registry and from a folder; a changed artifact is refused."""

import json
import shutil

import pytest
from conftest import PACKAGE, SECONDS

from {{ cookiecutter.__package_name }} import settings
from {{ cookiecutter.__package_name }}.contract import CONTRACT
from {{ cookiecutter.__package_name }}.errors import ProjectError
from {{ cookiecutter.__package_name }}.models import stores
from {{ cookiecutter.__package_name }}.models.predict import make_predictions

# The script of a user who knows MLflow but not this project.
PLAIN = """
import json, sys
import mlflow, pandas

mlflow.set_tracking_uri("sqlite:///mlflow.db")
model = mlflow.pyfunc.load_model(sys.argv[1])
print(json.dumps(list(model.predict(pandas.read_parquet("rows.parquet"))), default=str))
"""
# MLflow accepts these types only.
TYPES = {"float": "float64", "integer": "int64", "boolean": "bool", "date": "datetime64[ns]"}


def test_the_champion_says_what_it_is(loaded_model):
    assert (loaded_model.name, loaded_model.version) == (PACKAGE, "1")


def test_plain_mlflow_loads_it_from_the_registry(trained, loaded_model, rows):
    table = rows[CONTRACT.names].head(100).copy()
    for column in CONTRACT.columns:
        kind = "int64" if column.numbered else TYPES.get(column.type)
        if kind and table[column.name].notna().all():
            table[column.name] = table[column.name].astype(kind)
    table.to_parquet(trained.folder / "rows.parquet")
    process = trained.start("-c", PLAIN, f"models:/{PACKAGE}@champion")
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err
    ours = json.dumps(make_predictions(loaded_model, table), default=str)
    assert json.loads(out.splitlines()[-1]) == json.loads(ours)


def test_a_changed_artifact_is_refused(champion, tmp_path):
    shutil.copytree(champion, tmp_path / "model")
    artifact = next((tmp_path / "model").glob("model.*"))
    artifact.write_bytes(artifact.read_bytes() + b" ")
    with pytest.raises(ProjectError, match="is not the file that was saved"):
        stores.load_model(str(tmp_path / "model"), settings.load())
