"""How similarities become scores: fitted to labelled texts where the owner has some.

A softmax over the labels, where one of them is true, has a temperature; a sigmoid for each label, where each is true or
false by itself, has a midpoint and a width. All are fitted by maximum likelihood, as in Guo et al., "On Calibration of
Modern Neural Networks" (2017), and Platt, "Probabilistic Outputs for Support Vector Machines" (1999).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["MINILM", "Calibration", "calibrate"]

_TEMPERATURES = np.geomspace(0.01, 0.5, 80)
_WIDTHS = np.linspace(0.02, 0.2, 37)
_MIDPOINTS = np.linspace(-0.2, 0.8, 101)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Makes scores of cosines.

    Attributes:
        temperature: of the softmax.
        midpoint: the cosine at which a label is as likely true as false.
        width: how far from it the odds change by e.
    """

    temperature: float
    midpoint: float
    width: float

    def scores(self, cosines: NDArray[np.float32], *, multi_label: bool) -> NDArray[np.float32]:
        """Scores from 0 to 1, float32 (n, labels), of cosines of the same shape."""
        if multi_label:
            return np.asarray(0.5 + 0.5 * np.tanh((cosines - self.midpoint) / (2 * self.width)), np.float32)
        weights = np.exp((cosines - cosines.max(axis=1, keepdims=True)) / self.temperature)
        return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


MINILM = Calibration(0.05, 0.15, 0.05)
"""Fitted to the examples of examples/support-triage and to sentences of five topics, with all-minilm-l6-v2."""


def calibrate(cosines: NDArray[np.float32], truths: NDArray[np.int64]) -> Calibration:
    """The calibration under which labelled texts are likeliest.

    Args:
        cosines: of texts to labels, float32 (n, labels).
        truths: the column of each text's own label, int64 (n,).
    """
    rows = np.arange(len(truths))
    exact = cosines.astype(np.float64)
    scaled = exact[:, :, None] / _TEMPERATURES
    top = scaled.max(axis=1)
    lost = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1)) - scaled[rows, truths]
    temperature = _TEMPERATURES[lost.mean(axis=0).argmin()]
    own = exact[rows, truths]
    others = exact[np.arange(exact.shape[1]) != truths[:, None]]
    midpoints, widths = np.meshgrid(_MIDPOINTS, _WIDTHS, indexing="ij")
    losses = np.zeros(midpoints.shape)
    for values, sign in ((own, -1.0), (others, 1.0)):  # both sides weigh the same, however many there are of each
        for at, width in enumerate(_WIDTHS):
            margins = sign * (values[:, None] - _MIDPOINTS) / width
            losses[:, at] += np.logaddexp(0.0, margins).mean(axis=0)
    best = np.unravel_index(losses.argmin(), losses.shape)
    return Calibration(float(temperature), float(midpoints[best]), float(widths[best]))
