"""Manifests of models that read texts."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from engine.errors import ManifestError
from engine.manifest.fields import Base, Common, FileName, Label, ModelName, Text

__all__ = ["ClassificationManifest", "EmbeddingManifest", "Example"]


class EmbeddingManifest(Common, frozen=True, tag="text-embedding"):
    """A text encoder: `text` BYTES [n] in, `embedding` FP32 [n, d] out.

    Attributes:
        file: the ONNX file, without it the only one there is; it takes `input_ids` and `attention_mask` and gives
            [batch, sequence, d] or [batch, d].
        tokenizer: the tokenizer, in the format of Hugging Face's `tokenizers`.
        max_tokens: longer texts are cut, special tokens included.
        pooling: `mean` over the tokens, or the first one (`cls`).
        normalise: scale every vector to length 1.
    """

    file: FileName | None = None
    tokenizer: FileName = "tokenizer.json"
    max_tokens: Annotated[int, msgspec.Meta(ge=3, le=8192)] = 256
    pooling: Literal["mean", "cls"] = "mean"
    normalise: bool = True


class Example(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A text and the label that it shall get."""

    text: Text
    label: Label


class ClassificationManifest(Common, frozen=True, tag="text-classification"):
    """A head on a text encoder: `text` BYTES [n] in, `label` BYTES [n] and `score` FP32 [n] out.

    Attributes:
        backbone: the text-embedding model it stands on; the tenant's own first, then `system`.
        examples: labelled texts; the nearest decide. How the score is made is told in `engine.servables.head`.
        others: texts that belong to no label, such as small talk; a text near them gets a low score.
        floor: a score below it gets the label `fallback`.
        fallback: see `floor`.
    """

    backbone: ModelName
    examples: Annotated[tuple[Example, ...], msgspec.Meta(min_length=2, max_length=4096)]
    others: Annotated[tuple[Text, ...], msgspec.Meta(max_length=4096)] = ()
    floor: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    fallback: Label = "unknown"

    @property
    def stands_on(self) -> tuple[Base, ...]:
        """The backbone."""
        return (Base(self.backbone),)

    def check(self) -> None:
        """Examples of at least two labels.

        Raises:
            ManifestError: all have the same.
        """
        if len({example.label for example in self.examples}) < 2:
            raise ManifestError("examples: all have the same label; add a line with another, `- {text: …, label: …}`")
