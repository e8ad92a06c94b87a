"""Manifests of graphs that take and give tensors."""

from __future__ import annotations

from typing import Literal

from engine.manifest.fields import FileName, Labels
from engine.manifest.scheduling import GraphManifest

__all__ = ["OnnxManifest"]


class OnnxManifest(GraphManifest, frozen=True, tag="onnx"):
    """A model that takes and gives tensors as its ONNX file says.

    Attributes:
        file: the ONNX file; without it the only one there is.
        batching: whether requests may share a run along axis 0. `auto` tries at load whether two rows in one run
            give what they give alone.
        label: the output that holds the chosen class; without it the only one of whole numbers or texts.
        probabilities: the output with a column a class; without it the only one of fractions beside a label.
        labels: what the columns are called; without it the classes that are written in the file.
    """

    file: FileName | None = None
    batching: Literal["auto", "on", "off"] = "auto"
    label: str = ""
    probabilities: str = ""
    labels: Labels = ()
