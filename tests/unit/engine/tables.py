"""Small tables and scikit-learn's pipelines on them, exported as users export them."""

from __future__ import annotations

import warnings

import numpy as np

TOWNS = ("Bern", "Basel", "Chur")


def exported(model, kinds) -> bytes:
    from skl2onnx import to_onnx

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return to_onnx(model, initial_types=kinds, target_opset=18).SerializeToString()


def houses(count: int = 200):
    """Areas and towns, and prices that follow from them."""
    random = np.random.default_rng(3)
    areas, towns = random.uniform(30, 200, count), random.integers(0, 3, count)
    return areas.astype(np.float32), np.array(TOWNS, object)[towns], 1000 * areas + 50_000 * towns


def mixed_pipeline(last, truths) -> bytes:
    """A number, scaled, and a text, one column a value of it, before any model."""
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    areas, towns, _ = houses()
    table = np.stack([areas.astype(object), towns], 1)
    parts = [("n", StandardScaler(), [0]), ("t", OneHotEncoder(handle_unknown="ignore"), [1])]
    kinds = [("area", FloatTensorType([None, 1])), ("town", StringTensorType([None, 1]))]
    return exported(make_pipeline(ColumnTransformer(parts), last).fit(table, truths), kinds)


def price_pipeline() -> bytes:
    """Prices of houses."""
    from sklearn.linear_model import LinearRegression

    return mixed_pipeline(LinearRegression(), houses()[2])
