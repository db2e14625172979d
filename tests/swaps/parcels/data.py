"""Parcels of every depot: the distance gives it away."""

import numpy as np
import pandas as pd

from .contract import DEPOTS


def load(_: str) -> pd.DataFrame:
    """Six hundred parcels."""
    random, rows = np.random.default_rng(0), 600
    depot, days = random.integers(0, len(DEPOTS), rows), random.integers(0, 900, rows)
    return pd.DataFrame(
        {
            "PARCEL": 9_000_000_000_000_000 + np.arange(rows),
            "SENT": pd.Timestamp("2024-01-01") + pd.to_timedelta(days, "D"),
            "EXPRESS": random.random(rows) < 0.3,
            "ZONE": random.choice([3, 7, 11], rows),
            "WEIGHT": pd.Series(random.uniform(0, 50, rows)).mask(random.random(rows) < 0.2),
            "DISTANCE": 100 * depot + random.normal(0, 5, rows),
            "SIZE": pd.Series(random.choice(["S", "M", "L"], rows)).mask(random.random(rows) < 0.1),
            "DEPOT": np.array(DEPOTS)[depot],
            "REMARK": "nobody needs it",
        }
    )


def prepare(table: pd.DataFrame) -> pd.DataFrame:
    return table
