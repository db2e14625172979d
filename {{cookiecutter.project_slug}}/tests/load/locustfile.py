"""A load test with Locust, which is not a dependency of this project.

    uvx --with-editable . locust -f tests/load/locustfile.py --host http://127.0.0.1:8000

opens a page where you add users and watch the answers. Without the page:

    locust -f tests/load/locustfile.py --host http://127.0.0.1:8000 --headless -u 20 -r 20 -t 10s

(`pip install locust` puts it into this project's environment.) The variable API_KEY
holds the API key, if there is one. The rows are drawn evenly from what the contract allows: they
cost as much as real ones, but their predictions mean nothing.
"""

# ruff: noqa: S311 - the random values are no secrets
import json
import math
import os
import random
import uuid
from datetime import date, timedelta

from locust import FastHttpUser, constant, task

from {{ cookiecutter.__package_name }}.contract import CONTRACT

# Bodies that are made in advance, so that making them does not reduce the load.
BODIES = 100
MISSING_SHARE = 0.05
# The width of a range for which the contract gives no minimum or no maximum.
WIDTH = 100.0


def value(column):
    """A random value that the contract allows, in its JSON form."""
    if column.nullable and random.random() < MISSING_SHARE:
        return None
    if column.allowed:
        return random.choice(column.allowed)
    if column.type == "boolean":
        return random.random() < 0.5
    if column.type == "text":
        return uuid.uuid4().hex
    low, high = column.drawn_from
    if low is None:
        low = 0.0 if high is None else high - WIDTH
    if high is None:
        high = low + WIDTH
    if column.type == "float":
        return random.uniform(low, high)
    whole = random.randint(math.ceil(low), math.floor(high))
    if column.type == "date":
        return (date(1970, 1, 1) + timedelta(days=whole)).isoformat()
    return whole


def body(rows: int) -> bytes:
    columns = [*([CONTRACT.key] if CONTRACT.key else []), *CONTRACT.columns]
    data = {column.name: [value(column) for _ in range(rows)] for column in columns}
    return json.dumps({"data": data}).encode()


ONE_ROW = [body(1) for _ in range(BODIES)]
HUNDRED_ROWS = [body(100) for _ in range(BODIES)]


class Client(FastHttpUser):
    """Sends a request after each answer; `between(1, 3)` waits like a person at a screen."""

    wait_time = constant(0)

    def on_start(self) -> None:
        self.headers = {"Content-Type": "application/json"}
        if key := os.environ.get("API_KEY"):
            self.headers["X-API-Key"] = key

    @task(9)
    def one_row(self) -> None:
        self.ask(random.choice(ONE_ROW), "1 row")

    @task(1)
    def hundred_rows(self) -> None:
        self.ask(random.choice(HUNDRED_ROWS), "100 rows")

    def ask(self, content: bytes, name: str) -> None:
        """Only 200 is a success; requests that the API sheds are counted under a separate name."""
        with self.client.post(
            "/predict", data=content, headers=self.headers, name=name, catch_response=True
        ) as answer:
            if answer.status_code == 503 and "Retry-After" in (answer.headers or {}):
                answer.request_meta["name"] = f"{name}, shed"
                answer.success()
            elif answer.status_code != 200:
                answer.failure(f"{answer.status_code}: {(answer.text or '')[:200]}")
