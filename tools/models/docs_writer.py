"""docs-writer: a small decoder that learned this repository's documents, from the weights that lie beside.

How they came about is `tools.models.writer_training`; how they become ONNX lives in `engine.export`.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load as load_safetensors

from engine.export.decoder import DecoderConfig, export_decoder
from tools.models.place import ROOT, digest_of, place, say

__all__ = ["CONTEXT", "FOLDER", "MODEL", "prepare_docs_writer"]

MODEL = "docs-writer"
CONTEXT = 1024
FOLDER = Path(__file__).parent / "docs-writer"

MANIFEST = f"""\
# A decoder of 0.7 million weights that learned this repository's documents: ask it what an RPC or a setting does.
# Trained from nothing by tools/models/writer_training.py. It knows what it was taught, and makes up all else.
name: {MODEL}
kind: text-generation
context: {CONTEXT}
bos: <|begin|>
eos: [<|end|>]
chat_template: chat_template.jinja
sampling: {{temperature: 0}}
"""

TEMPLATE = """\
{{- bos_token -}}
{%- if tools -%}
<|system|>tools: [
{%- for tool in tools -%}
{{ {"name": tool.function.name, "description": tool.function.description, "parameters": tool.function.parameters} \
| tojson }}{{ ", " if not loop.last }}
{%- endfor -%}
]<|end|>
{%- endif -%}
{%- for message in messages -%}
<|{{ message.role }}|>{{ message.content }}
{%- for call in message.tool_calls or [] -%}
<tool_call>{{ call.function | tojson }}</tool_call>
{%- endfor -%}
<|end|>
{%- endfor -%}
{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}
"""


def prepare_docs_writer(dest: Path) -> Path:
    """Prepare `dest/docs-writer/1`; a second time returns at once."""
    own = [*FOLDER.iterdir(), *(ROOT / "engine" / "export").glob("*.py")]
    return place(dest, MODEL, {"made-of": digest_of(own, MANIFEST + TEMPLATE)}, _make)


def _make(folder: Path) -> None:
    say(f"{MODEL}: writing its graph")
    config = DecoderConfig(**json.loads((FOLDER / "text.json").read_text(encoding="utf-8"))["config"])
    weights = load_safetensors((FOLDER / "weights.safetensors").read_bytes())
    graph = export_decoder({k: v.astype(np.float32) for k, v in weights.items()}, config, positions=CONTEXT)
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    (folder / "tokenizer.json").write_bytes((FOLDER / "tokenizer.json").read_bytes())
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    (folder / "model.yaml").write_text(MANIFEST, encoding="utf-8")
