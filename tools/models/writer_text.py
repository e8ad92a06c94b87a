"""What `docs-writer` learns from: the paragraphs of this repository's documents, and questions about them.

How it learns is `tools.models.writer_training`.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["ASSISTANT", "BEGIN", "END", "SPECIAL", "USER", "Text", "call_example", "gather", "turns"]

BEGIN, END, SYSTEM, USER, ASSISTANT, TOOL = SPECIAL = (
    "<|begin|>",
    "<|end|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|tool|>",
)
_HELD_OUT = 16
"""One paragraph of so many is kept for the test."""
_SHORT, _LONG = 40, 900
"""Characters: paragraphs that are shorter or longer are left out."""
_MAX_ANSWER = 420
_RPC = re.compile(r"^## (\w+)\n\n(.+?)\n\n```", re.MULTILINE | re.DOTALL)
_MESSAGE = re.compile(r"^## (\w+)\n\n[^#]*?\n\n(\| field .+?)\n\n", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^\| `(\w+)` \|.*\| (.+?) \|$", re.MULTILINE)
_SETTING = re.compile(r"^\| `([a-z_.]+)` \| (.*?) \| (.+?) \|$", re.MULTILINE)
_LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_DOES = ("What does {} do?", "What is {} for?", "Explain {}.")
_ABOUT = ("Tell me about {}.", "What do the docs say about {}?")

_CITIES = ("Berlin", "Paris", "Oslo", "Madrid", "Vienna", "Rome", "Lisbon", "Prague", "Dublin", "Athens")
_TOOLS: Sequence[tuple[str, str, str, Sequence[str]]] = (
    ("track_parcel", "Where a parcel is.", "parcel", ("Where is my parcel {}?", "Track parcel {}.")),
    ("get_weather", "The weather in a city.", "city", ("What is the weather in {}?", "Is it raining in {}?")),
    ("cancel_order", "Cancels an order.", "order", ("Cancel order {}.", "I do not want order {} any more.")),
)


@dataclass(frozen=True, slots=True)
class Text:
    """All of it.

    Attributes:
        paragraphs: `# HEADING`, an empty line, the paragraph.
        held_out: more of these that nothing is learned from.
        pairs: questions, each in several words, and their answer.
    """

    paragraphs: tuple[str, ...]
    held_out: tuple[str, ...]
    pairs: tuple[tuple[tuple[str, ...], str], ...]


def gather(docs: Path) -> Text:
    """Read the documents below a folder, always in the same order."""
    pairs: dict[str, tuple[tuple[str, ...], str]] = {}
    paragraphs: list[str] = []
    for page in [*sorted(docs.glob("*.md")), *sorted(docs.glob("guides/*.md")), *sorted(docs.glob("adr/*.md"))]:
        for heading, body in _sections(page.read_text(encoding="utf-8")):
            paragraphs += [f"# {heading}\n\n{paragraph}" for paragraph in body]
            if body and len(body[0]) <= _MAX_ANSWER:
                pairs.setdefault(heading, (tuple(each.format(f'"{heading}"') for each in _ABOUT), body[0]))
    for page in sorted((docs / "api").glob("*Service.md")):
        for name, comment in _RPC.findall(page.read_text(encoding="utf-8")):
            rpc, answer = f"{page.stem}.{name}", _plain(comment.split("\n\n")[0])
            pairs[rpc] = (tuple(each.format(rpc) for each in _DOES), answer[:_MAX_ANSWER])
        for message, table in _MESSAGE.findall(page.read_text(encoding="utf-8")):
            fields = _FIELD.findall(table)
            paragraphs += [f"# {message}.{field}\n\n{_plain(said)}" for field, said in fields if len(said) > _SHORT]
    for name, default, meaning in _SETTING.findall((docs / "settings.md").read_text(encoding="utf-8")):
        said = f" The default is {default}." if default.strip() else ""
        pairs[name] = (tuple(each.format(name) for each in _DOES), f"{name}: {_plain(meaning)}.{said}")
    answers = {answer for _, answer in pairs.values()}
    paragraphs = list(dict.fromkeys(paragraphs))
    held = [each for each in paragraphs if _is_held(each) and each.split("\n\n", 1)[1] not in answers]
    kept = [each for each in paragraphs if each not in set(held)]
    return Text(tuple(kept), tuple(held), tuple(pairs.values()))


def turns(question: str, answer: str, *, system: str = "") -> str:
    """A conversation of one question, as the chat template writes it."""
    before = f"{SYSTEM}{system}{END}" if system else ""
    return f"{BEGIN}{before}{USER}{question}{END}{ASSISTANT}{answer}{END}"


def call_example(dice: random.Random) -> str:
    """A conversation in which a tool is offered and called."""
    name, _, parameter, ways = dice.choice(_TOOLS)
    value = dice.choice(_CITIES) if parameter == "city" else str(dice.randrange(1000, 99999))
    offered = [_spec(*each[:3]) for each in _TOOLS if each[0] == name or dice.random() < 0.5]
    dice.shuffle(offered)
    call = json.dumps({"name": name, "arguments": {parameter: value}})
    return turns(
        dice.choice(ways).format(value), f"<tool_call>{call}</tool_call>", system=f"tools: {json.dumps(offered)}"
    )


def _spec(name: str, description: str, parameter: str) -> Mapping[str, Any]:
    schema = {"type": "object", "properties": {parameter: {"type": "string"}}, "required": [parameter]}
    return {"name": name, "description": description, "parameters": schema}


def _is_held(paragraph: str) -> bool:
    return hashlib.sha256(paragraph.encode()).digest()[0] % _HELD_OUT == 0 and len(paragraph) > 3 * _SHORT


def _sections(page: str) -> Iterator[tuple[str, list[str]]]:
    """The headings of a page and the paragraphs below each: no code, no tables."""
    for section in re.split(r"^#+ ", _FENCE.sub("", page), flags=re.MULTILINE)[1:]:
        heading, _, body = section.partition("\n")
        parts = re.split(r"\n\n|^- ", body, flags=re.MULTILINE)
        found = [_plain(part) for part in parts if part.strip() and not part.startswith(("|", "<", "#"))]
        yield _plain(heading), [part for part in found if _SHORT <= len(part) <= _LONG]


def _plain(text: str) -> str:
    return " ".join(_LINK.sub(r"\1", text).split())
