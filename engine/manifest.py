"""`model.yaml`: what a model's files are and how a request runs through them.

Running it lives in `engine.servables`; where the files lie lives in `engine.repository.repository`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Literal

import msgspec

from engine.errors import ManifestError
from mesh.strict_yaml import StrictYamlError, parse_yaml

__all__ = [
    "MANIFEST_FILE",
    "ClassificationManifest",
    "EmbeddingManifest",
    "Example",
    "ImageClassificationManifest",
    "Manifest",
    "OnnxManifest",
    "parse_manifest",
]

MANIFEST_FILE = "model.yaml"

_FileName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")]
_Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=8192)]
_Label = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_Labels = Annotated[tuple[_Label, ...], msgspec.Meta(max_length=65536)]
_Length = Annotated[int, msgspec.Meta(ge=1, le=4096)]


class OnnxManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="onnx"):
    """A model that takes and gives tensors as its ONNX file says.

    Attributes:
        name: the model's id.
        file: the ONNX file; without it the only one there is.
        batching: whether requests may share a run along axis 0. `auto` tries at load whether two rows in one run
            give what they give alone.
        label: the output that holds the chosen class; without it the only one of whole numbers or texts.
        probabilities: the output with a column a class; without it the only one of fractions beside a label.
        labels: what the columns are called; without it the classes that are written in the file.
    """

    name: _Name
    file: _FileName | None = None
    batching: Literal["auto", "on", "off"] = "auto"
    label: str = ""
    probabilities: str = ""
    labels: _Labels = ()


class EmbeddingManifest(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="text-embedding"
):
    """A text encoder: `text` BYTES [n] in, `embedding` FP32 [n, d] out.

    Attributes:
        name: the model's id.
        file: the ONNX file, without it the only one there is; it takes `input_ids` and `attention_mask` and gives
            [batch, sequence, d] or [batch, d].
        tokenizer: the tokenizer, in the format of Hugging Face's `tokenizers`.
        max_tokens: longer texts are cut, special tokens included.
        pooling: `mean` over the tokens, or the first one (`cls`).
        normalise: scale every vector to length 1.
    """

    name: _Name
    file: _FileName | None = None
    tokenizer: _FileName = "tokenizer.json"
    max_tokens: Annotated[int, msgspec.Meta(ge=3, le=8192)] = 256
    pooling: Literal["mean", "cls"] = "mean"
    normalise: bool = True


class Example(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A text and the label that it shall get."""

    text: _Text
    label: _Label


class ClassificationManifest(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="text-classification"
):
    """A head on a text encoder: `text` BYTES [n] in, `label` BYTES [n] and `score` FP32 [n] out.

    Attributes:
        name: the model's id.
        backbone: the text-embedding model it stands on; the tenant's own first, then `system`.
        examples: labelled texts; the nearest decide. How the score is made is told in `engine.servables.head`.
        others: texts that belong to no label, such as small talk; a text near them gets a low score.
        floor: a score below it gets the label `fallback`.
        fallback: see `floor`.
    """

    name: _Name
    backbone: _Name
    examples: Annotated[tuple[Example, ...], msgspec.Meta(min_length=2, max_length=4096)]
    others: Annotated[tuple[_Text, ...], msgspec.Meta(max_length=4096)] = ()
    floor: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    fallback: _Label = "unknown"


class ImageClassificationManifest(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="image-classification"
):
    """A graph that takes an image: `image` BYTES [n] in, `label` INT64 [n] and `probabilities` FP32 [n, classes] out.

    What is left out is read from the graph; what cannot be seen there is asked for when the model is pushed.

    Attributes:
        name: the model's id.
        file: the ONNX file; without it the only one there is.
        size: height and width of the pixels that the graph takes.
        channels: `grey` or `rgb`.
        layout: the order of the input's axes.
        scale: what black and white are for the graph, `[0, 1]`.
        mean: taken from the scaled values, one number or one a channel.
        std: what they are divided by then.
        invert: whether dark and bright change places; `auto` where the ground is brighter than what is on it.
        contrast: whether the ground becomes black and the brightest becomes white.
        trim: whether the ground around what is drawn is cut off.
        fit: how an image of another shape is met: `stretch`, `crop` at the sides, or `pad` with black.
        output: the output with a column a class.
        scores: whether its numbers are probabilities, or logits that a softmax makes probabilities of.
        labels: what the columns are called; without it their numbers, or the classes that are written in the file.
    """

    name: _Name
    file: _FileName | None = None
    size: tuple[_Length, _Length] | None = None
    channels: Literal["grey", "rgb"] | None = None
    layout: Literal["channels-first", "channels-last", "grey", "flat"] | None = None
    scale: tuple[float, float] | None = None
    mean: Annotated[tuple[float, ...], msgspec.Meta(max_length=3)] = ()
    std: Annotated[tuple[float, ...], msgspec.Meta(max_length=3)] = ()
    invert: Literal["never", "always", "auto"] = "never"
    contrast: bool = False
    trim: bool = False
    fit: Literal["stretch", "crop", "pad"] = "stretch"
    output: str = ""
    scores: Literal["probabilities", "logits"] | None = None
    labels: _Labels = ()


Manifest = OnnxManifest | EmbeddingManifest | ClassificationManifest | ImageClassificationManifest

_KINDS: Mapping[str, type[Manifest]] = {
    "onnx": OnnxManifest,
    "text-embedding": EmbeddingManifest,
    "text-classification": ClassificationManifest,
    "image-classification": ImageClassificationManifest,
}

_LINES: Mapping[str, str] = {
    "name": "name: my-model",
    "backbone": "backbone: all-minilm-l6-v2",
    "examples": "examples: [{text: I was charged twice, label: billing}, {text: The app crashes, label: bug}]",
    "text": "text: I was charged twice",
    "label": "label: billing",
}


def parse_manifest(data: bytes, *, model: str) -> Manifest:
    """Read `model.yaml`.

    Args:
        data: its bytes.
        model: the id of the model that it must name.

    Raises:
        ManifestError: it is not a manifest; the message names the key and the line to write.
    """
    try:
        tree = parse_yaml(data)
    except StrictYamlError as error:
        raise ManifestError(str(error)) from None
    if not isinstance(tree, dict):
        raise ManifestError("must hold `key: value` lines; begin with the line `kind: onnx`")
    kind = _kind_of(tree)
    _check_keys(tree, kind)
    if isinstance(tree.get("batching"), bool):  # YAML reads `on` and `off` without quotes as true and false
        tree = {**tree, "batching": "on" if tree["batching"] else "off"}
    try:
        manifest = msgspec.convert(tree, kind)
    except msgspec.ValidationError as error:
        raise ManifestError(str(error).replace("`$.", "`").replace("`$", "`model.yaml")) from None
    if manifest.name != model:
        raise ManifestError(f"is for `{manifest.name}`, pushed as `{model}`; write the line `name: {model}`")
    if isinstance(manifest, ClassificationManifest) and len({example.label for example in manifest.examples}) < 2:
        raise ManifestError("examples: all have the same label; add a line with another, `- {text: …, label: …}`")
    return manifest


def _kind_of(tree: Mapping[object, object]) -> type[Manifest]:
    if "kind" not in tree:
        raise ManifestError(f"add the line `kind: onnx` (or {', '.join(name for name in _KINDS if name != 'onnx')})")
    kind = _KINDS.get(str(tree["kind"]))
    if kind is None:
        raise ManifestError(f"kind: {str(tree['kind'])[:64]!r} is not known; known are {', '.join(_KINDS)}")
    return kind


def _check_keys(tree: Mapping[object, object], kind: type[msgspec.Struct], path: str = "") -> None:
    """Name every unknown key with the nearest known one, and every missing key with the line to add."""
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    known = [*fields, "kind"] if not path else list(fields)
    for key in tree:
        if key not in known:
            near = get_close_matches(str(key), known, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(sorted(known))}"
            raise ManifestError(f"unknown key `{path}{str(key)[:64]}`; {hint}")
    for name, field in fields.items():
        if field.required and name not in tree:
            raise ManifestError(f"`{path}{name}` is missing; add the line `{_LINES[name]}`")
    examples = tree.get("examples")
    if kind is ClassificationManifest and isinstance(examples, Sequence):
        for index, example in enumerate(examples):
            if isinstance(example, Mapping):
                _check_keys(example, Example, f"examples[{index}].")
