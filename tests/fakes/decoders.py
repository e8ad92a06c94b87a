"""Small decoders with weights of no meaning: they compute as real ones do, in a fraction of a millisecond."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from prometheus_client import CollectorRegistry
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from engine.export.decoder import DecoderConfig, export_decoder
from engine.generation.figures import GenerationMetrics
from engine.manifest import GenerationManifest, parse_manifest
from engine.runtime.sessions import SessionSettings
from engine.scheduler.policy import BatchPolicy
from engine.servables import TextGenerator
from mesh.sandbox import SandboxPool
from tools.models.writer_network import fresh_weights

SPECIAL = ("<|begin|>", "<|end|>", "<tool_call>", "</tool_call>")
CONFIG = DecoderConfig(vocab_size=260, hidden_size=16, layers=2, heads=4, kv_heads=2, head_dim=8, ff_size=24)
CONTEXT = 256
MANIFEST = f"name: tiny\nkind: text-generation\ncontext: {CONTEXT}\neos: ['<|end|>']\nbos: '<|begin|>'\n"


def byte_tokenizer() -> Tokenizer:
    """A token a byte, and four more."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: at for at, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL[:2]))
    tokenizer.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in SPECIAL[2:]])
    return tokenizer


def decoder_graph(*, seed: int = 3, positions: int = CONTEXT, loud: float = 40.0) -> onnx.ModelProto:
    """A decoder; `loud` makes its choices clear, so that rounding never decides. It hardly ever ends by itself."""
    weights = fresh_weights(CONFIG, np.random.default_rng(seed))
    weights["embedding"][256:] = 0
    weights["norm"] = weights["norm"] * np.float32(loud)
    return export_decoder(weights, CONFIG, positions=positions)


def decoder_folder(
    folder: Path, *, manifest: str = MANIFEST, change: Callable[[onnx.ModelProto], None] | None = None
) -> Path:
    """A model's folder; `change` is done to the graph before it is written."""
    folder.mkdir(parents=True, exist_ok=True)
    graph = decoder_graph()
    if change is not None:
        change(graph)
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "model.yaml").write_text(manifest)
    return folder


def open_generator(folder: Path, *, renderer: Any = None, waiting: int = 64, more: str = "") -> TextGenerator:
    """The servable of a model's folder; `more` is added to its manifest."""
    name = next(line[6:] for line in (folder / "model.yaml").read_text().splitlines() if line.startswith("name: "))
    manifest = parse_manifest((folder / "model.yaml").read_bytes() + more.encode(), model=name)
    assert isinstance(manifest, GenerationManifest)
    figures = GenerationMetrics(CollectorRegistry()).of("tenants/t/models/m", 1)
    return TextGenerator(
        folder, manifest, SessionSettings(), BatchPolicy(8, waiting), figures, renderer or SandboxPool()
    )
