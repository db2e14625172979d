"""A registered model in Spark, by the lines that MLflow's own documentation has."""

import sys

import mlflow
import pytest
from conftest import PACKAGE

from iris_flower_prediction import settings
from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.models import stores
from iris_flower_prediction.models.predict import make_predictions

pyspark_sql = pytest.importorskip("pyspark.sql", reason="no Spark: make setup-spark")


@pytest.fixture
def spark(monkeypatch):
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    session = pyspark_sql.SparkSession.builder.master("local[2]").getOrCreate()
    yield session
    session.stop()


def test_a_run_of_mlflow_predicts_in_spark_as_here(untouched, spark, rows, monkeypatch):
    config = settings.load()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", config.models.tracking_uri)
    champion = mlflow.MlflowClient().get_model_version_by_alias(PACKAGE, "champion")
    df = spark.createDataFrame(rows(100).to_pandas())

    loaded_model = mlflow.pyfunc.spark_udf(spark, model_uri=f"runs:/{champion.run_id}/model")
    df = df.withColumn("predictions", loaded_model(*CONTRACT.names))

    found = [row["predictions"] for row in df.collect()]
    model = stores.load_model(f"runs:/{champion.run_id}/model", config)
    assert found == make_predictions(model, rows(100))
    assert len(set(found)) > 1
