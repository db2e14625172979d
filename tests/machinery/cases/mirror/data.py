"""Rows whose target is the sum of place times numeric form, over the columns of the contract."""

import numpy as np
import pandas as pd

# What the pipeline in model.py puts in the place of a missing value.
MISSING = -7.0
ROWS = 400


def load(_: str) -> pd.DataFrame:
    random = np.random.default_rng(0)
    cities, grades = np.array(["Malmö", "São Paulo", "01", "1"]), np.array([20, 1, -1])
    codes = {
        "PRICE": random.uniform(-5, 5, ROWS),
        "AMOUNT": random.uniform(-5, 5, ROWS),
        "AGE": random.integers(-5, 6, ROWS),
        "COUNT": random.integers(-5, 6, ROWS),
        "MEMBER": random.integers(0, 2, ROWS),
        "PAID": random.integers(0, 2, ROWS),
        "CITY": random.integers(0, 4, ROWS),
        "GRADE": random.integers(0, 3, ROWS),
        "SINCE": random.integers(-5, 6, ROWS),
        "UNTIL": random.integers(-5, 6, ROWS),
    }
    gaps = {
        name: random.random(ROWS) < 0.1 for name in ("AMOUNT", "COUNT", "PAID", "GRADE", "UNTIL")
    }
    seen = {name: np.where(gaps.get(name, False), MISSING, each) for name, each in codes.items()}
    total = sum((place + 1) * each for place, each in enumerate(seen.values()))
    days = {
        name: pd.Timestamp("1970-01-01") + pd.to_timedelta(codes[name], "D")
        for name in ("SINCE", "UNTIL")
    }
    flags = {name: codes[name].astype(bool) for name in ("MEMBER", "PAID")}
    names = {"CITY": cities[codes["CITY"]], "GRADE": grades[codes["GRADE"]]}
    table = pd.DataFrame(codes | days | flags | names)
    for name, rows in gaps.items():
        table[name] = table[name].astype(object).mask(rows, None)
    return table.assign(ID=[f"row {number}" for number in range(ROWS)], TOTAL=total)


def prepare(table: pd.DataFrame) -> pd.DataFrame:
    return table
