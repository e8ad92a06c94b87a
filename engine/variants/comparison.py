"""How near the answers of one model are to those of another one: arithmetic alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from engine.tensor import Tensor
from engine.variants.reports import OutputReport

__all__ = ["compare"]


def compare(source: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> tuple[OutputReport, ...]:
    """What became of each output.

    Args:
        source: the answers that are right, by output; each of n rows.
        own: those that are judged, of the same names. Where a shape is another one, nothing agrees.
    """
    return tuple(_compared(name, source[name], own[name]) for name in source)


def _compared(name: str, source: Tensor, own: Tensor) -> OutputReport:
    if source.dtype == object or source.dtype.kind in "biu":
        same = source.shape == own.shape
        rows = (source == own).reshape(len(source), -1).all(axis=1) if same and source.size else np.array([same])
        return OutputReport(name, agreement=float(rows.mean()))
    if source.shape != own.shape:
        return OutputReport(name, cosine_mean=0.0, cosine_min=0.0, error_mean=1.0, error_max=1.0, agreement=0.0)
    if not source.size:
        return OutputReport(name)
    left, right = _rows(source), _rows(own)
    cosines = _cosines(left, right)
    apart = np.nan_to_num(np.abs(left - right), nan=np.inf)
    largest = float(np.abs(left).max()) or 1.0
    report = OutputReport(
        name,
        cosine_mean=float(cosines.mean()),
        cosine_min=float(cosines.min()),
        error_mean=float(apart.mean()) / largest,
        error_max=float(apart.max()) / largest,
    )
    return _with_agreement(report, left, right) if _are_probabilities(left) else report


def _rows(values: Tensor) -> NDArray[np.float64]:
    return values.astype(np.float64).reshape(len(values) if values.ndim else 1, -1)


def _cosines(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each row; 1 for two rows of nothing but zeros, 0 where one of them has no length or is not finite."""
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (left * right).sum(axis=1) / lengths
    found = np.where((left == right).all(axis=1), 1.0, found)
    clipped: NDArray[np.float64] = np.nan_to_num(np.clip(found, -1.0, 1.0), nan=0.0)
    return clipped


def _are_probabilities(rows: NDArray[np.float64]) -> bool:
    """Whether each row has several shares that make 1 together."""
    if rows.shape[1] < 2 or rows.min() < -1e-6 or rows.max() > 1 + 1e-6:
        return False
    return bool(np.allclose(rows.sum(axis=1), 1.0, atol=1e-3))


def _with_agreement(report: OutputReport, left: NDArray[np.float64], right: NDArray[np.float64]) -> OutputReport:
    agreed = left.argmax(axis=1) == right.argmax(axis=1)
    return OutputReport(
        report.name,
        report.cosine_mean,
        report.cosine_min,
        report.error_mean,
        report.error_max,
        agreement=float(agreed.mean()),
        probability_difference_max=float(np.nan_to_num(np.abs(left - right), nan=1.0).max()),
    )
