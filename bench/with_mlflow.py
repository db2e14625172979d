"""Peer (b): MLflow's pyfunc model, in chunks; writes only the predictions."""

import sys
from pathlib import Path

import mlflow
import pyarrow as pa
import pyarrow.parquet as pq
from clock import work

CHUNK_ROWS = 500_000
source, target, model, store = sys.argv[1:]
mlflow.set_tracking_uri(store)
loaded = mlflow.pyfunc.load_model(f"models:/{Path(model).name}/1")
schema = pa.schema([("prediction", pa.int64())])

with work(), pq.ParquetFile(source) as file, pq.ParquetWriter(target, schema) as out:
    for batch in file.iter_batches(CHUNK_ROWS):
        predictions = loaded.predict(batch.to_pandas())
        out.write_batch(pa.record_batch([pa.array(predictions, pa.int64())], schema=schema))
