"""What a decoder needs besides its graph: tokenizer, ends, chat template, defaults.

They come from the manifest, or from the files that Hugging Face's exports have beside the graph.

How text becomes a prompt with them is `engine.generation.prompts`'.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from engine.errors import ManifestError, ModelFileError
from engine.manifest import GenerationManifest

__all__ = ["TextAssets", "read_assets"]

_MAX_BYTES = 64 << 20
_MAX_TEMPLATE_BYTES = 64 * 1024
_TEMPLATE_FILES = ("chat_template.jinja", "chat_template.j2")
_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length")


@dataclass(frozen=True, slots=True)
class TextAssets:
    """What is known of a model's texts.

    Attributes:
        tokenizer: makes tokens of texts and texts of tokens.
        ends: tokens that end an answer; may be empty.
        begin: the text of the token that begins a text; empty where there is none.
        end: the text of the first of `ends`.
        template: makes a text of a conversation; empty where there is none.
        template_file: the file that it is in; empty where model.yaml has it, or there is none.
        context: how many tokens prompt and answer may have together.
        temperature: where a caller says none.
        top_p: as above.
        top_k: as above.
        inferred: what the manifest left out, as lines of it.
    """

    tokenizer: Tokenizer
    ends: tuple[int, ...]
    begin: str
    end: str
    template: str
    template_file: str
    context: int
    temperature: float
    top_p: float
    top_k: int
    inferred: tuple[str, ...]


def read_assets(folder: Path, manifest: GenerationManifest) -> TextAssets:
    """Read the files.

    Raises:
        ModelFileError: one is not what it should be.
        ManifestError: what cannot be found anywhere; the message has the line to add.
    """
    tokenizer = _tokenizer(folder / manifest.tokenizer)
    config, generation, texts = (
        _json(folder / name) for name in ("config.json", "generation_config.json", "tokenizer_config.json")
    )
    lines: list[str] = []
    context = manifest.context or next((config[key] for key in _CONTEXT_KEYS if _is_count(config.get(key))), 0)
    if not context:
        raise ManifestError("how many tokens the model can read is not known; add the line `context: 2048`")
    if not manifest.context:
        lines.append(f"context: {context}")
    ends = _ends(tokenizer, manifest, generation, texts, lines)
    begin = manifest.bos or _token_text(texts.get("bos_token"))
    if begin and not manifest.bos:
        lines.append(f"bos: {json.dumps(begin)}")
    said = manifest.sampling
    defaults: dict[str, float] = {}
    for key, plain in (("temperature", 1.0), ("top_p", 1.0), ("top_k", 0)):
        value = getattr(said, key)
        if value is None and _is_number(generation.get(key)) and generation.get("do_sample", True):
            value = generation[key]
            lines.append(f"sampling.{key}: {value}")
        defaults[key] = plain if value is None else value
    template, template_file = _template(folder, manifest, texts, lines)
    end = str(tokenizer.id_to_token(ends[0])) if ends else ""
    return TextAssets(
        tokenizer,
        ends,
        begin,
        end,
        template,
        template_file,
        context,
        defaults["temperature"],
        defaults["top_p"],
        int(defaults["top_k"]),
        tuple(lines),
    )


def _tokenizer(path: Path) -> Tokenizer:
    if not path.is_file():
        raise ModelFileError(f"{path.name}: is missing; push the tokenizer together with model.yaml", file=path.name)
    if path.stat().st_size > _MAX_BYTES:
        raise ModelFileError(f"{path.name}: is larger than {_MAX_BYTES >> 20} MiB", file=path.name)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 -- the library raises plain Exception
        raise ModelFileError(f"{path.name}: is no tokenizer ({str(error)[:200]})", file=path.name) from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _json(path: Path) -> dict[str, Any]:
    """A file's object; empty where there is no file."""
    if not path.is_file():
        return {}
    if path.stat().st_size > _MAX_BYTES:
        raise ModelFileError(f"{path.name}: is larger than {_MAX_BYTES >> 20} MiB", file=path.name)
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ModelFileError(f"{path.name}: is no JSON object", file=path.name)
    return found


def _ends(
    tokenizer: Tokenizer,
    manifest: GenerationManifest,
    generation: dict[str, Any],
    texts: dict[str, Any],
    lines: list[str],
) -> tuple[int, ...]:
    """The tokens that end an answer."""
    if manifest.eos:
        return tuple(_token(tokenizer, text) for text in manifest.eos)
    said = generation.get("eos_token_id")
    found = [token for token in (said if isinstance(said, list) else [said]) if type(token) is int and token >= 0]
    text = _token_text(texts.get("eos_token"))
    if not found and text:
        found = [_token(tokenizer, text)]
    names = [tokenizer.id_to_token(token) for token in found]
    if not found or None in names:
        raise ManifestError('which token ends an answer is not known; add the line `eos: ["</s>"]`')
    lines.append(f"eos: {json.dumps(names)}")
    return tuple(found)


def _token(tokenizer: Tokenizer, text: str) -> int:
    """The id of a token that ends answers.

    Raises:
        ManifestError: the tokenizer has no such token.
    """
    token = tokenizer.token_to_id(text)
    if token is None:
        raise ManifestError(f"eos: {text!r} is no token of the tokenizer")
    return int(token)


def _template(folder: Path, manifest: GenerationManifest, texts: dict[str, Any], lines: list[str]) -> tuple[str, str]:
    """The chat template, and the file that it is in; both empty where there is none."""
    said = manifest.chat_template
    if said is not None and "{" in said:
        return said, ""
    names: Sequence[str] = (said,) if said else _TEMPLATE_FILES
    for name in names:
        path = folder / name
        if path.is_file():
            if path.stat().st_size > _MAX_TEMPLATE_BYTES:
                raise ModelFileError(f"{name}: is larger than {_MAX_TEMPLATE_BYTES >> 10} KiB", file=name)
            if not said:
                lines.append(f"chat_template: {name}")
            return path.read_text(encoding="utf-8", errors="replace"), name
    if said:
        raise ManifestError(f"chat_template: there is no file {said!r}; write the file's name, or the template itself")
    found = texts.get("chat_template")
    if isinstance(found, list):  # several, by name
        found = next(
            (each.get("template") for each in found if isinstance(each, dict) and each.get("name") == "default"), None
        )
    if isinstance(found, str) and found:
        lines.append("chat_template: the one of tokenizer_config.json")
        return found, "tokenizer_config.json"
    return "", ""


def _token_text(said: object) -> str:
    """A token's text, as it is or as an object that describes it."""
    text = said.get("content") if isinstance(said, dict) else said
    return text if isinstance(text, str) else ""


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
