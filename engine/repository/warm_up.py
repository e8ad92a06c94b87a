"""What a version is asked before it answers anybody: what its manifest says, or something small that is made up."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import numpy as np

from engine.errors import EngineError, WarmUpError
from engine.manifest import EntailmentManifest, Manifest, ZeroShotManifest
from engine.manifest.fields import WarmUp
from engine.runtime.samples import sample
from engine.scheduler.terms import SequenceTerms, Terms
from engine.servables import Servable
from engine.servables.base import Tensors
from engine.servables.graph import MAX_ELEMENTS
from engine.tensor import DATATYPES, Tensor, TensorSpec

__all__ = ["warm_up"]

_TERMS = Terms(sequence=SequenceTerms("warm-up", starts=True, ends=True))
"""A model that remembers has each request as a sequence of its own; all others take no notice of it."""
_LIMIT_S = 60.0
"""How long all of it may take; nobody else's models change meanwhile."""


async def warm_up(servable: Servable, manifest: Manifest) -> None:
    """Ask a version that was just opened what its manifest says.

    Where the manifest says nothing, a model that reads texts is asked a few words, unless it has no labels of its own
    and each request brings them. All others were tried when they were opened, see `engine.servables.graph`, as far as
    values without meaning can try them.

    Raises:
        WarmUpError: it fails.
    """
    asked = manifest.warm_up
    if asked is None:
        asked = (WarmUp(texts=("a few words",)),) if _takes_words(servable, manifest) else ()
    try:
        async with asyncio.timeout(_LIMIT_S):
            for index, entry in enumerate(asked):
                await _ask(servable, entry, index)
    except TimeoutError:
        raise WarmUpError(f"warm_up: takes longer than {_LIMIT_S:g} s; write fewer or smaller entries") from None


async def _ask(servable: Servable, entry: WarmUp, index: int) -> None:
    try:
        tensors = await asyncio.to_thread(_tensors, servable, entry)
        for _ in range(entry.runs):
            await servable.infer(tensors, _TERMS)
    except EngineError as error:
        raise WarmUpError(f"warm_up[{index}]: {error.message}", index=index) from None


def _takes_words(servable: Servable, manifest: Manifest) -> bool:
    """Whether a text alone is a request; where the labels come with it, none is."""
    if isinstance(manifest, EntailmentManifest | ZeroShotManifest) and not manifest.candidates:
        return False
    return _texts_input(servable) == "text"


def _texts_input(servable: Servable) -> str:
    """The name of the only input, where it takes texts."""
    specs = servable.inputs
    return specs[0].name if len(specs) == 1 and specs[0].datatype == "BYTES" else ""


def _tensors(servable: Servable, entry: WarmUp) -> Tensors:
    """The inputs of one request.

    Raises:
        WarmUpError: the entry does not fit the model's inputs.
    """
    if entry.texts:
        name = _texts_input(servable)
        if not name:
            raise WarmUpError(f"texts: the model takes {_names(servable)}; write `shapes` or `values`")
        texts = np.empty(len(entry.texts), object)
        texts[:] = [text.encode() for text in entry.texts]
        rank = len(servable.inputs[0].shape)
        return {name: texts.reshape(-1, 1) if rank == 2 else texts}
    specs = {spec.name: spec for spec in servable.inputs}
    for name in (*entry.shapes, *entry.values):
        if name not in specs:
            raise WarmUpError(f"{name[:64]}: the model takes {_names(servable)}")
    return {name: _tensor(spec, entry) for name, spec in specs.items()}


def _names(servable: Servable) -> str:
    return ", ".join(spec.name for spec in servable.inputs)


def _tensor(spec: TensorSpec, entry: WarmUp) -> Tensor:
    if spec.name in entry.values:
        return _given(spec, entry.values)
    shape = entry.shapes.get(spec.name)
    if shape is None:
        return sample(spec, np.random.default_rng(7))
    if int(np.prod(shape, dtype=np.float64)) > MAX_ELEMENTS:
        raise WarmUpError(f"{spec.name}: {list(shape)} is more than the {MAX_ELEMENTS} values allowed")
    return sample(TensorSpec(spec.name, spec.datatype, (1, *shape)), np.random.default_rng(7)).reshape(shape)


def _given(spec: TensorSpec, values: Mapping[str, list[object]]) -> Tensor:
    """Values that the manifest writes down."""
    try:
        if spec.datatype == "BYTES":
            texts = np.array(values[spec.name], dtype=object)
            made = np.empty(texts.shape, object)
            made.ravel()[:] = [str(text).encode() for text in texts.ravel()]
            return made
        return np.array(values[spec.name], DATATYPES[spec.datatype])
    except (ValueError, TypeError, OverflowError):
        raise WarmUpError(f"{spec.name}: the values are not {spec.datatype} in rows of one length") from None
