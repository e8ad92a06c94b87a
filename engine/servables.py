"""Models in memory, ready to answer: what each kind of manifest becomes.

Where their files come from is `engine.repository`; who may ask is decided before a request gets here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from engine.batcher import Batcher, BatchObserver
from engine.errors import BackboneError, ModelFileError, TensorError
from engine.head import Head
from engine.manifest import ClassificationManifest, EmbeddingManifest, OnnxManifest
from engine.sessions import SessionSettings, open_session, release_memory
from engine.tensor import DATATYPES, Tensor, TensorSpec, check_tensor

__all__ = ["BatchLimits", "Classifier", "Embedder", "OnnxModel", "Servable"]

_TEXT = TensorSpec("text", "BYTES", (-1,))
_TOKENS = (TensorSpec("input_ids", "INT64", (-1, -1)), TensorSpec("attention_mask", "INT64", (-1, -1)))
_BUCKETS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
_MAX_TEXT_BYTES = 64 * 1024

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How much a model takes on: rows in a batch, requests that wait."""

    max_rows: int
    max_waiting: int


class Servable(Protocol):
    """A model in memory."""

    @property
    def platform(self) -> str:
        """What computes it."""

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """What it takes."""

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """What it gives."""

    async def infer(self, tensors: Tensors) -> dict[str, Tensor]:
        """Every output for these inputs.

        Raises:
            EngineError: the inputs do not fit, or the model failed.
        """

    @property
    def waiting(self) -> int:
        """How many requests wait."""

    def close(self) -> None:
        """Give its memory back, after what it was asked is answered. Blocks."""


def _checked(specs: Sequence[TensorSpec], tensors: Tensors) -> None:
    """Exactly these inputs, each as its spec says.

    Raises:
        TensorError: naming the first input that is missing, too many, or wrong.
    """
    known = {spec.name: spec for spec in specs}
    for name in tensors:
        if name not in known:
            raise TensorError(name, f"the model has no such input; it takes {', '.join(known)}")
    for spec in specs:
        if spec.name not in tensors:
            raise TensorError(spec.name, f"is missing; the model takes {', '.join(known)}")
        check_tensor(spec, tensors[spec.name])


class OnnxModel:
    """A plain ONNX graph."""

    platform = "onnxruntime"

    def __init__(
        self,
        folder: Path,
        manifest: OnnxManifest,
        settings: SessionSettings,
        limits: BatchLimits,
        observer: BatchObserver,
    ) -> None:
        self._session = open_session(folder / manifest.file, settings)
        self.inputs, self.outputs = self._session.inputs, self._session.outputs
        self._batches = manifest.batching == "on" or (manifest.batching == "auto" and self._rows_are_apart())
        self._batcher: Batcher[Tensors, dict[str, Tensor]] = Batcher(
            self._run, name=manifest.name, max_rows=limits.max_rows, max_waiting=limits.max_waiting, observer=observer
        )

    async def infer(self, tensors: Tensors) -> dict[str, Tensor]:
        """Every output."""
        _checked(self.inputs, tensors)
        if not self._batches:
            return await self._batcher.submit(tensors, rows=1, key=object())
        rows = {len(tensor) for tensor in tensors.values()}
        if len(rows) != 1:
            raise TensorError(self.inputs[0].name, "all inputs must have the same length along axis 0")
        key = tuple((name, tensor.shape[1:]) for name, tensor in sorted(tensors.items()))
        return await self._batcher.submit(tensors, rows=rows.pop(), key=key)

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return self._batcher.waiting

    def close(self) -> None:
        """Give its memory back."""
        self._batcher.close()
        self._session.close()
        release_memory()

    def _run(self, requests: Sequence[Tensors]) -> list[dict[str, Tensor]]:
        if len(requests) == 1:
            return [self._session.run(requests[0])]
        joined = {name: np.concatenate([request[name] for request in requests]) for name in requests[0]}
        return _parted(self._session.run(joined), [len(next(iter(request.values()))) for request in requests])

    def _rows_are_apart(self) -> bool:
        """Whether two rows in one run give what they give alone: tried once, with numbers of no meaning."""
        if not self.inputs or any(
            not spec.shape or spec.shape[0] != -1 or spec.datatype == "BYTES" for spec in self.inputs
        ):
            return False
        if any(not spec.shape or spec.shape[0] != -1 for spec in self.outputs):
            return False
        random = np.random.default_rng(7)
        one, two = ({spec.name: _sample(spec, random) for spec in self.inputs} for _ in range(2))
        try:
            alone = [self._session.run(feeds) for feeds in (one, two)]
            together = self._session.run({name: np.concatenate([one[name], two[name]]) for name in one})
        except Exception:  # noqa: BLE001 -- a graph that cannot take our sample is not batched
            return False
        return all(
            value.shape[0] == 2
            and np.allclose(
                value, np.concatenate([answer[name] for answer in alone]), rtol=1e-3, atol=1e-4, equal_nan=True
            )
            for name, value in together.items()
            if value.dtype != object
        )


def _sample(spec: TensorSpec, random: np.random.Generator) -> Tensor:
    shape = tuple(1 if axis == 0 or length == -1 else length for axis, length in enumerate(spec.shape))
    dtype = DATATYPES[spec.datatype]
    return random.random(shape).astype(dtype) if dtype.kind == "f" else np.ones(shape, dtype)


def _parted(joined: Mapping[str, Tensor], rows: Sequence[int]) -> list[dict[str, Tensor]]:
    """Outputs of a batch, parted again by request."""
    ends = np.cumsum(rows)
    return [
        {name: value[end - count : end] for name, value in joined.items()}
        for end, count in zip(ends, rows, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Tokens:
    """Token ids and mask, int64 (n, s)."""

    ids: NDArray[np.int64]
    mask: NDArray[np.int64]


class Embedder:
    """A text encoder: `text` BYTES [n], or token ids, to `embedding` FP32 [n, d]."""

    platform = "onnxruntime"
    inputs = (_TEXT,)

    def __init__(
        self,
        folder: Path,
        manifest: EmbeddingManifest,
        settings: SessionSettings,
        limits: BatchLimits,
        observer: BatchObserver,
    ) -> None:
        self._manifest = manifest
        self._session = open_session(folder / manifest.file, settings)
        names = {spec.name for spec in self._session.inputs}
        if not {"input_ids", "attention_mask"} <= names or names - {"input_ids", "attention_mask", "token_type_ids"}:
            raise ModelFileError(
                f"{manifest.file}: a text encoder takes input_ids and attention_mask", file=manifest.file
            )
        self._typed = "token_type_ids" in names
        self._tokenizer = _open_tokenizer(folder / manifest.tokenizer, manifest.max_tokens)
        self._limits = limits
        width = self._session.outputs[0].shape[-1]
        self.outputs = (TensorSpec("embedding", "FP32", (-1, width)),)
        self._batcher: Batcher[_Tokens, NDArray[np.float32]] = Batcher(
            self._run, name=manifest.name, max_rows=limits.max_rows, max_waiting=limits.max_waiting, observer=observer
        )

    async def infer(self, tensors: Tensors) -> dict[str, Tensor]:
        """The embeddings."""
        if "text" in tensors or not tensors or not set(tensors) <= {"input_ids", "attention_mask"}:
            _checked(self.inputs, tensors)
            return {"embedding": await self.embed([_text(value) for value in tensors["text"]])}
        _checked(_TOKENS, tensors)
        tokens = _Tokens(tensors["input_ids"], tensors["attention_mask"])
        if tokens.ids.shape != tokens.mask.shape or tokens.ids.shape[1] > self._manifest.max_tokens:
            raise TensorError("input_ids", f"must have the mask's shape and at most {self._manifest.max_tokens} tokens")
        return {"embedding": await self._submit(tokens)}

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of texts, float32 (n, d)."""
        if not texts:
            return np.zeros((0, self.outputs[0].shape[1]), np.float32)
        if len(texts) > 8:  # a few are done sooner than a thread is woken
            tokens = await asyncio.to_thread(self._tokens, texts)
        else:
            tokens = self._tokens(texts)
        return await self._submit(tokens)

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return self._batcher.waiting

    def close(self) -> None:
        """Give its memory back."""
        self._batcher.close()
        self._session.close()
        release_memory()

    async def _submit(self, tokens: _Tokens) -> NDArray[np.float32]:
        """Compute, in pieces of at most a batch; requests of like length share one."""
        length = tokens.ids.shape[1]
        key = next((bucket for bucket in _BUCKETS if length <= bucket), length)
        size = self._limits.max_rows
        pieces = [
            self._batcher.submit(
                _Tokens(tokens.ids[at : at + size], tokens.mask[at : at + size]),
                rows=min(size, len(tokens.ids) - at),
                key=key,
            )
            for at in range(0, len(tokens.ids), size)
        ]
        if len(pieces) == 1:
            return await pieces[0]
        return (
            np.concatenate(await asyncio.gather(*pieces))
            if pieces
            else np.zeros((0, self.outputs[0].shape[1]), np.float32)
        )

    def _tokens(self, texts: Sequence[str]) -> _Tokens:
        encoded = self._tokenizer.encode_batch(list(texts))
        width = max(len(each.ids) for each in encoded)
        ids = np.zeros((len(encoded), width), np.int64)
        mask = np.zeros((len(encoded), width), np.int64)
        for row, each in enumerate(encoded):
            ids[row, : len(each.ids)] = each.ids
            mask[row, : len(each.ids)] = 1
        return _Tokens(ids, mask)

    def _run(self, requests: Sequence[_Tokens]) -> list[NDArray[np.float32]]:
        """One batch, padded to its longest request."""
        width = max(request.ids.shape[1] for request in requests)
        rows = [len(request.ids) for request in requests]
        ids, mask = np.zeros((sum(rows), width), np.int64), np.zeros((sum(rows), width), np.int64)
        at = 0
        for request, count in zip(requests, rows, strict=True):
            ids[at : at + count, : request.ids.shape[1]] = request.ids
            mask[at : at + count, : request.mask.shape[1]] = request.mask
            at += count
        feeds: dict[str, Tensor] = {"input_ids": ids, "attention_mask": mask}
        if self._typed:
            feeds["token_type_ids"] = np.zeros_like(ids)
        output = self._session.outputs[0].name
        vectors = self._pooled(self._session.run(feeds, [output])[output], mask)
        return [part["v"] for part in _parted({"v": vectors}, rows)]

    def _pooled(self, tokens: Tensor, mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """One vector a row, float32 (n, d), from float32 (n, s, d)."""
        vectors = tokens
        if tokens.ndim == 3 and self._manifest.pooling == "cls":
            vectors = tokens[:, 0]
        elif tokens.ndim == 3:
            weights = mask[:, :, None].astype(np.float32)
            vectors = (tokens * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-9)
        if self._manifest.normalise:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return np.ascontiguousarray(vectors, np.float32)


class Classifier:
    """A head on an embedder: `text` BYTES [n] to `label` BYTES [n] and `score` FP32 [n]."""

    platform = "tiation-head"
    inputs = (_TEXT,)
    outputs = (TensorSpec("label", "BYTES", (-1,)), TensorSpec("score", "FP32", (-1,)))

    def __init__(self, backbone: Callable[[], Servable], head: Head) -> None:
        self._backbone = backbone
        self._head = head

    @staticmethod
    async def build(manifest: ClassificationManifest, backbone: Callable[[], Servable]) -> Classifier:
        """Compute the vectors of the examples and make the head.

        Args:
            manifest: with the examples.
            backbone: gives the embedder as it is loaded now.

        Raises:
            BackboneError: the backbone is no text encoder.
        """
        embedder = backbone()
        if not isinstance(embedder, Embedder):
            raise BackboneError(f"backbone: `{manifest.backbone}` is no text encoder", backbone=manifest.backbone)
        examples = await embedder.embed([example.text for example in manifest.examples])
        others = await embedder.embed(list(manifest.others))
        return Classifier(backbone, Head(manifest, examples, others))

    async def infer(self, tensors: Tensors) -> dict[str, Tensor]:
        """Labels and scores."""
        _checked(self.inputs, tensors)
        embedder = self._backbone()
        if not isinstance(embedder, Embedder):
            raise BackboneError("the backbone is no text encoder any more")
        labels, scores = self._head.classify(await embedder.embed([_text(value) for value in tensors["text"]]))
        encoded = np.empty(len(labels), object)
        encoded[:] = [label.encode() for label in labels]
        return {"label": encoded, "score": scores}

    @property
    def waiting(self) -> int:
        """Nothing waits here; the backbone has the queue."""
        return 0

    def close(self) -> None:
        """Nothing to give back; the backbone stays."""


def _text(value: bytes) -> str:
    """One text of an input.

    Raises:
        TensorError: it is not UTF-8, or far longer than any model reads.
    """
    if len(value) > _MAX_TEXT_BYTES:
        raise TensorError("text", f"a text is {len(value)} bytes; at most {_MAX_TEXT_BYTES} are read")
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise TensorError("text", "holds bytes that are not UTF-8") from None


def _open_tokenizer(path: Path, max_tokens: int) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 -- the library raises plain Exception
        raise ModelFileError(f"{path.name}: is no tokenizer ({str(error)[:200]})", file=path.name) from None
    tokenizer.enable_truncation(max_tokens)
    tokenizer.no_padding()
    return tokenizer
