"""Sales that fall with the price and rise at the weekend."""

import numpy as np
import pandas as pd


def load(_: str) -> pd.DataFrame:
    """Eight hundred days."""
    random, rows = np.random.default_rng(1), 800
    price, day = random.uniform(1, 20, rows).round(2), random.integers(0, 7, rows)
    holiday = random.random(rows) < 0.1
    sold = (400 - 15 * price + 60 * (day > 4)) * ~holiday + random.normal(0, 5, rows)
    return pd.DataFrame(
        {
            "PRICE": price,
            "WEEKDAY": day,
            "HOLIDAY": pd.Series(holiday).astype(object).mask(random.random(rows) < 0.05),
            "SOLD": sold.clip(0).round().astype(int),
        }
    )


def prepare(table: pd.DataFrame) -> pd.DataFrame:
    return table
