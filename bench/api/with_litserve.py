"""The model behind LitServe: ``with_litserve.py PORT WORKERS``."""

import os
import sys

import joblib
import litserve
import numpy as np


class Iris(litserve.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's signature
        self.model = joblib.load(os.environ["MODEL"])

    def decode_request(self, request: dict) -> np.ndarray:
        return np.array(request["rows"])

    def predict(self, rows: np.ndarray) -> np.ndarray:
        return self.model.predict(rows)

    def encode_response(self, labels: np.ndarray) -> dict:
        return {"predictions": labels.tolist()}


if __name__ == "__main__":
    port, workers = map(int, sys.argv[1:])
    server = litserve.LitServer(Iris(), accelerator="cpu", workers_per_device=workers)
    server.run(
        host="127.0.0.1",
        port=port,
        num_api_servers=workers,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )
