"""Manifests of graphs that take and give tensors."""

from __future__ import annotations

from typing import Literal

from engine.errors import ManifestError
from engine.manifest.fields import FileName, Labels
from engine.manifest.padding import PaddingSection
from engine.manifest.scheduling import GraphManifest
from engine.manifest.sequences import SequenceSection

__all__ = ["OnnxManifest"]


class OnnxManifest(GraphManifest, frozen=True, tag="onnx"):
    """A model that takes and gives tensors as its ONNX file says.

    Attributes:
        file: the ONNX file; without it the only one there is.
        batching: whether requests may share a run along axis 0. `auto` tries at load whether two rows in one run
            give what they give alone.
        padding: how rows of different length share a run; without it they do not.
        label: the output that holds the chosen class; without it the only one of whole numbers or texts.
        probabilities: the output with a column a class; without it the only one of fractions beside a label.
        labels: what the columns are called; without it the classes that are written in the file.
        sequence: what it remembers from one request of a sequence to the next; without it nothing.
    """

    file: FileName | None = None
    batching: Literal["auto", "on", "off"] = "auto"
    padding: PaddingSection | None = None
    label: str = ""
    probabilities: str = ""
    labels: Labels = ()
    sequence: SequenceSection | None = None

    def check(self) -> None:
        """A model that remembers has no answers to keep, and its rows are not filled up.

        Raises:
            ManifestError: it shall.
        """
        super().check()
        if self.sequence is not None and self.response_cache:
            raise ManifestError("response_cache: a step's answer is another one each time; remove the line")
        if self.sequence is not None and self.padding is not None:
            raise ManifestError("padding: a model with a `sequence` has states of one length; remove the section")
