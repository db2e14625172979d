"""What is served gives the probabilities of the estimator, also where its export does not."""

import numpy as np
import pandas as pd
import pytest
import skops.io
from churn_project import customers
from mirror_project import model_of

pytestmark = pytest.mark.slow


def numeric_form(table: pd.DataFrame) -> np.ndarray:
    """The features as docs/contract.md says that an estimator gets them."""
    plans = table["PLAN"].map({"basic": 0, "family": 1, "business": 2})
    days = (table["SINCE"] - pd.Timestamp("1970-01-01")).dt.days
    columns = [plans, days, table["AGE"].astype("float32")]
    return np.column_stack([np.asarray(each, "float32") for each in columns])


def test_an_export_with_other_probabilities_is_refused_and_the_estimator_served(churn):
    table = customers()
    table.to_csv(churn.table, index=False)
    model = model_of(churn)
    assert "served from model.skops" in churn.training.stdout
    assert "other probabilities" in churn.training.stdout
    output = churn.folder / "out.csv"
    done = churn.run("score", "--model", model, "--input", churn.table, "--output", output)
    assert done.returncode == 0, done.stderr

    scored = pd.read_csv(output, dtype={"CUSTOMER": str})
    assert scored["CUSTOMER"].tolist() == table["CUSTOMER"].tolist()
    file = model / "model.skops"
    estimator = skops.io.load(file, trusted=skops.io.get_untrusted_types(file=file))
    expected = estimator.predict_proba(numeric_form(table))
    names = np.array(["stays", "leaves"])[expected.argmax(axis=1)]
    assert scored["prediction"].tolist() == names.tolist()
    np.testing.assert_allclose(scored["probability"], expected.max(axis=1), atol=1e-5)
    # What the export has lost: customers without an age leave more often.
    leaving = np.where(names == "leaves", scored["probability"], 1 - scored["probability"])
    assert leaving[table["AGE"].isna()].mean() == pytest.approx(0.35, abs=0.08)
    assert leaving[table["AGE"].notna()].mean() == pytest.approx(0.04, abs=0.02)
