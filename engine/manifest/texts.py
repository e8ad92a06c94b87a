"""Manifests of models that read texts."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from engine.errors import ManifestError
from engine.manifest.fields import Base, Common, FileName, Label, Labels, ModelName, Text
from engine.manifest.scheduling import GraphManifest

__all__ = [
    "Candidate",
    "ClassificationManifest",
    "EmbeddingManifest",
    "EntailmentManifest",
    "Example",
    "TextGraphManifest",
    "TokenClassificationManifest",
    "TokenGraphManifest",
    "ZeroShotManifest",
]


class EmbeddingManifest(GraphManifest, frozen=True, tag="text-embedding"):
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


class TokenGraphManifest(GraphManifest, frozen=True):
    """What every graph that reads tokens says.

    Attributes:
        file: the ONNX file, without it the only one there is; it takes `input_ids`, `attention_mask` and perhaps
            `token_type_ids`.
        tokenizer: the tokenizer, in the format of Hugging Face's `tokenizers`.
        max_tokens: what the graph reads at once, special tokens included.
        output: the output that is read; without it the first one.
    """

    file: FileName | None = None
    tokenizer: FileName = "tokenizer.json"
    max_tokens: Annotated[int, msgspec.Meta(ge=8, le=8192)] = 512
    output: str = ""


class TextGraphManifest(TokenGraphManifest, frozen=True, tag="text-classification"):
    """A graph trained to label texts: `text` BYTES [n] in, `label` BYTES [n] and `score` FP32 [n] out.

    Attributes:
        scores: whether its numbers, [batch, labels], are probabilities, or logits; tried at load.
        multi_label: whether each label is true or false by itself; logits then get a sigmoid instead of a softmax.
        labels: what the columns are called; without it `id2label` in config.json beside the graph.
    """

    scores: Literal["probabilities", "logits"] | None = None
    multi_label: bool = False
    labels: Labels = ()


class TokenClassificationManifest(TokenGraphManifest, frozen=True, tag="token-classification"):
    """A graph that tags tokens: `text` BYTES [n] in, `entities` BYTES [n], a JSON list for each, out.

    Attributes:
        scores: whether its numbers, [batch, sequence, labels], are probabilities, or logits; tried at load.
        labels: what the columns are called, `B-PER` for instance; without it `id2label` in config.json.
        outside: the label of what is no entity.
        aggregation: how the tokens of a word are made one: its `first` token decides, the surest (`max`), their
            `average`, or each for itself (`simple`).
        overlap: tokens that two windows of a text longer than `max_tokens` share.
        min_score: entities less sure are left out.
    """

    scores: Literal["probabilities", "logits"] | None = None
    labels: Labels = ()
    outside: Label = "O"
    aggregation: Literal["simple", "first", "average", "max"] = "first"
    overlap: Annotated[int, msgspec.Meta(ge=0, le=4096)] = 64
    min_score: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0

    def check(self) -> None:
        """Windows that go on.

        Raises:
            ManifestError: more of a window is shared than is new.
        """
        if self.overlap * 2 > self.max_tokens:
            raise ManifestError(f"overlap: {self.overlap} is more than half of max_tokens, {self.max_tokens}")


class Candidate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A label that a text may get, and what it stands for in words.

    Attributes:
        label: what it is called.
        description: what is compared with the text; without it the template with the label in it.
    """

    label: Label
    description: Annotated[str, msgspec.Meta(max_length=2048)] = ""


_Candidates: TypeAlias = Annotated[tuple[Label | Candidate, ...], msgspec.Meta(max_length=256)]
_Template: TypeAlias = Annotated[str, msgspec.Meta(min_length=2, max_length=512)]


def _with_descriptions(labels: tuple[Label | Candidate, ...]) -> tuple[Candidate, ...]:
    return tuple(each if isinstance(each, Candidate) else Candidate(each) for each in labels)


def _check_labels(candidates: tuple[Candidate, ...], key: str, template: str) -> None:
    """A template with one place for the label, and each label once."""
    if template.count("{}") != 1:
        raise ManifestError(f"{key}: must hold `{{}}` once, where the label goes, and {template!r} does not")
    names = [each.label for each in candidates]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ManifestError(f"labels: `{twice}` is there twice")


class ZeroShotManifest(Common, frozen=True, tag="zero-shot-classification"):
    """A text encoder that compares texts with labels: `text` BYTES [n] in, `label` and `score` [n] out.

    Attributes:
        backbone: the text-embedding model it stands on; the tenant's own first, then `system`.
        labels: what a text may be where the request does not say; a name, or `{label: …, description: …}`.
        multi_label: whether each label is true or false by itself.
        template: what a label without a description is put into.
        examples: labelled texts that the scores are fitted to; without them they suit all-minilm-l6-v2.
    """

    backbone: ModelName
    labels: _Candidates = ()
    multi_label: bool = False
    template: _Template = "{}"
    examples: Annotated[tuple[Example, ...], msgspec.Meta(max_length=4096)] = ()

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The labels, each with a description or an empty one."""
        return _with_descriptions(self.labels)

    @property
    def stands_on(self) -> tuple[Base, ...]:
        """The encoder."""
        return (Base(self.backbone),)

    def check(self) -> None:
        """A template with a place for the label; examples of labels there are.

        Raises:
            ManifestError: it does not hold.
        """
        _check_labels(self.candidates, "template", self.template)
        known = {each.label for each in self.candidates}
        for at, example in enumerate(self.examples):
            if example.label not in known:
                raise ManifestError(f"examples[{at}].label: `{example.label}` is none of `labels`")


class EntailmentManifest(TokenGraphManifest, frozen=True, tag="zero-shot-classification"):
    """A graph that says whether one text follows from another: a text gets the label whose statement follows from it.

    Attributes:
        labels: what a text may be where the request does not say; a name, or `{label: …, description: …}`.
        multi_label: whether each label is true or false by itself.
        hypothesis: the statement about a label without a description.
        entailment: the column of the logits that says that it follows; without it `id2label` in config.json tells.
        contradiction: the column that says that the contrary does; as above.
    """

    labels: _Candidates = ()
    multi_label: bool = False
    hypothesis: _Template = "This example is {}."
    entailment: Annotated[int, msgspec.Meta(ge=0, le=63)] | None = None
    contradiction: Annotated[int, msgspec.Meta(ge=0, le=63)] | None = None

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The labels, each with a description or an empty one."""
        return _with_descriptions(self.labels)

    def check(self) -> None:
        """A hypothesis with a place for the label.

        Raises:
            ManifestError: there is none, or both columns are the same.
        """
        _check_labels(self.candidates, "hypothesis", self.hypothesis)
        if self.entailment is not None and self.entailment == self.contradiction:
            raise ManifestError("contradiction: is the same column as `entailment`")
