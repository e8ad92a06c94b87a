"""`model.yaml` read: which kind it is, every key known and there, every value of its type."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeAlias, cast

import msgspec
from msgspec import inspect

from engine.errors import ManifestError
from engine.manifest.ensembles import EnsembleManifest
from engine.manifest.generation import GenerationManifest
from engine.manifest.images import ImageClassificationManifest, ObjectDetectionManifest
from engine.manifest.tables import TabularManifest
from engine.manifest.tensors import OnnxManifest
from engine.manifest.texts import (
    ClassificationManifest,
    EmbeddingManifest,
    EntailmentManifest,
    TextGraphManifest,
    TokenClassificationManifest,
    ZeroShotManifest,
)
from engine.manifest.values import fault_of_value
from engine.manifest.words import alternatives, bare, key_shown, shown
from mesh.strict_yaml import StrictYamlError, parse_yaml

__all__ = ["MANIFEST_FILE", "Manifest", "parse_manifest"]

MANIFEST_FILE = "model.yaml"

Manifest: TypeAlias = (
    OnnxManifest
    | EmbeddingManifest
    | ClassificationManifest
    | TextGraphManifest
    | ZeroShotManifest
    | EntailmentManifest
    | TokenClassificationManifest
    | ImageClassificationManifest
    | EnsembleManifest
    | GenerationManifest
    | ObjectDetectionManifest
    | TabularManifest
)

_KINDS: Mapping[str, type[Manifest]] = {
    "onnx": OnnxManifest,
    "text-embedding": EmbeddingManifest,
    "text-classification": TextGraphManifest,
    "zero-shot-classification": EntailmentManifest,
    "token-classification": TokenClassificationManifest,
    "image-classification": ImageClassificationManifest,
    "ensemble": EnsembleManifest,
    "text-generation": GenerationManifest,
    "object-detection": ObjectDetectionManifest,
    "tabular": TabularManifest,
}
_HEADS: Mapping[str, type[Manifest]] = {
    "text-classification": ClassificationManifest,
    "zero-shot-classification": ZeroShotManifest,
}
"""Kinds that stand on an encoder instead, where the manifest has one of `_HEAD_KEYS`."""
_HEAD_KEYS = frozenset({"backbone", "examples"})

_LINES: Mapping[str, str] = {
    "name": "name: my-model",
    "axes": "axes: {input_ids: 1}",
    "backbone": "backbone: all-minilm-l6-v2",
    "examples": "examples: [{text: I was charged twice, label: billing}, {text: The app crashes, label: bug}]",
    "text": "text: I was charged twice",
    "label": "label: billing",
    "steps": "steps: [{model: my-model, inputs: {x: x}}]",
    "model": "model: my-model",
    "inputs": "inputs: {x: x}",
    "outputs": "outputs: {y: my-model.y}",
    "datatype": "datatype: FP32",
    "states": "states: [{input: state_in, output: state_out}]",
    "input": "input: state_in",
    "output": "output: state_out",
    "signal": "signal: start",
    "shape": "shape: [-1, 4]",
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
    form = cast("inspect.StructType", inspect.type_info(kind))
    _check_keys(tree, form)
    if isinstance(tree.get("batching"), bool):  # YAML reads `on` and `off` without quotes as true and false
        tree = {**tree, "batching": "on" if tree["batching"] else "off"}
    try:
        manifest = msgspec.convert(tree, kind)
    except msgspec.ValidationError as error:
        raise ManifestError(fault_of_value(tree, form) or str(error)[:512]) from None
    if manifest.name != model:
        raise ManifestError(f"is for `{manifest.name}`, pushed as `{model}`; write the line `name: {model}`")
    for index, asked in enumerate(manifest.warm_up or ()):
        asked.check(f"warm_up[{index}]")
    manifest.check()
    return manifest


def _kind_of(tree: Mapping[object, object]) -> type[Manifest]:
    if "kind" not in tree:
        raise ManifestError(f"add the line `kind: onnx` (or {', '.join(name for name in _KINDS if name != 'onnx')})")
    word = tree["kind"]
    kinds = {**_KINDS, **_HEADS} if _HEAD_KEYS & tree.keys() else _KINDS
    kind = kinds.get(word) if isinstance(word, str) else None
    if kind is None:
        raise ManifestError(f"kind: is {shown(word)}; must be one of {', '.join(_KINDS)}")
    return kind


def _check_keys(tree: Mapping[object, object], kind: inspect.StructType, path: str = "") -> None:
    """Name every unknown key with the nearest known one, and every missing key with the line to add."""
    fields = {field.encode_name: field for field in kind.fields}
    known = [*fields, "kind"] if not path else list(fields)
    for key in tree:
        if key not in known:
            name = key_shown(key)
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(sorted(known))}"
            raise ManifestError(f"unknown key `{path}{name}`; {hint}")
    for name, field in fields.items():
        if field.required and name not in tree:
            raise ManifestError(f"`{path}{name}` is missing; add the line `{_LINES[name]}`")
        _check_below(tree.get(name), field.type, f"{path}{name}")


def _check_below(value: object, kind: inspect.Type, path: str) -> None:
    """The same for sections, and lists of them."""
    for each in map(bare, alternatives(kind)):
        if isinstance(each, inspect.StructType) and isinstance(value, Mapping):
            _check_keys(value, each, f"{path}.")
        elif isinstance(each, inspect.VarTupleType) and isinstance(value, list):
            for index, item in enumerate(value):
                _check_below(item, each.item_type, f"{path}[{index}]")
