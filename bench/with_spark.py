"""Peer (c): the same MLflow model as a user-defined function of local Spark, on all cores."""

import os
import sys
from pathlib import Path

import mlflow
from clock import work
from pyspark.sql import SparkSession
from pyspark.sql.functions import struct

source, target, model, store = sys.argv[1:]
os.environ["PYSPARK_PYTHON"] = sys.executable
mlflow.set_tracking_uri(store)
spark = SparkSession.builder.master("local[*]").config("spark.ui.enabled", "false").getOrCreate()
spark.sparkContext.setLogLevel("ERROR")
predict = mlflow.pyfunc.spark_udf(
    spark, f"models:/{Path(model).name}/1", result_type="long", env_manager="local"
)

with work():
    table = spark.read.parquet(source)
    scored = table.withColumn("prediction", predict(struct(*table.columns)))
    scored.write.mode("overwrite").parquet(target)
spark.stop()
