"""Small graphs that read tokens, whose right answers are known, and tokenizers for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from tests.unit.engine.graphs import folder, model

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_IDS = {"input_ids": (TensorProto.INT64, ["n", "s"]), "attention_mask": (TensorProto.INT64, ["n", "s"])}


def tokenizer(words: Sequence[str], pieces: bool = False) -> Tokenizer:
    """A tokenizer that knows these words, or pieces of words (`##ing`), and puts [CLS] and [SEP] around a text."""
    known = {word: at for at, word in enumerate([*SPECIAL, *words])}
    kind = models.WordPiece(known, unk_token="[UNK]") if pieces else models.WordLevel(known, unk_token="[UNK]")
    made = Tokenizer(kind)
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = [("[CLS]", known["[CLS]"]), ("[SEP]", known["[SEP]"])]
    made.post_processor = TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", special)
    return made


def lookup(
    vocabulary: Mapping[str, int], rows: Mapping[str, Sequence[float]], otherwise: Sequence[float]
) -> np.ndarray:
    """A table with a row a token: those of these words, all others `otherwise`."""
    table = np.tile(np.array(otherwise, np.float32), (len(vocabulary), 1))
    for word, row in rows.items():
        table[vocabulary[word]] = row
    return table


def tagging(table: np.ndarray) -> bytes:
    """Each token's logits are its row of the table."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["logits"]),
        helper.make_node("Identity", ["attention_mask"], ["unused"]),
    ]
    outputs = {"logits": (TensorProto.FLOAT, ["n", "s", table.shape[1]]), "unused": (TensorProto.INT64, ["n", "s"])}
    return model(nodes, _IDS, outputs, {"table": table})


def summing(table: np.ndarray, last: str = "") -> bytes:
    """A text's logits are the sum of its tokens' rows; `last` is put on them, Softmax or Sigmoid."""
    name = "sum" if last else "logits"
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["rows", "column"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "middle"], [name], keepdims=0),
    ]
    if last:
        nodes.append(helper.make_node(last, ["sum"], ["logits"]))
    weights = {"table": table, "last": np.array([2], np.int64), "middle": np.array([1], np.int64)}
    return model(nodes, _IDS, {"logits": (TensorProto.FLOAT, ["n", table.shape[1]])}, weights)


def entailing(vocabulary: Mapping[str, int], like: Mapping[str, str]) -> bytes:
    """Of a pair: [-c, 0, c], c being how many words of the first text are `like` words of the second, less a half."""
    size = len(vocabulary)
    first, second = np.zeros((size, size), np.float32), np.zeros((size, size), np.float32)
    for word, other in like.items():
        first[vocabulary[word], vocabulary[other]] = second[vocabulary[other], vocabulary[other]] = 1
    nodes = [helper.make_node("Cast", ["token_type_ids"], ["of_second"], to=TensorProto.FLOAT)]
    nodes += [helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT)]
    nodes += [helper.make_node("Mul", ["of_second", "mask"], ["m2"]), helper.make_node("Sub", ["mask", "m2"], ["m1"])]
    for at in ("1", "2"):
        nodes += [
            helper.make_node("Gather", [f"t{at}", "input_ids"], [f"rows{at}"]),
            helper.make_node("Unsqueeze", [f"m{at}", "last"], [f"column{at}"]),
            helper.make_node("Mul", [f"rows{at}", f"column{at}"], [f"masked{at}"]),
            helper.make_node("ReduceSum", [f"masked{at}", "middle"], [f"bag{at}"], keepdims=0),
        ]
    nodes += [
        helper.make_node("Mul", ["bag1", "bag2"], ["both"]),
        helper.make_node("ReduceSum", ["both", "middle"], ["count"], keepdims=1),
        helper.make_node("Sub", ["count", "half"], ["c"]),
        helper.make_node("MatMul", ["c", "signs"], ["logits"]),
    ]
    weights = {"t1": first, "t2": second, "last": np.array([2], np.int64), "middle": np.array([1], np.int64)}
    weights |= {"half": np.array([0.5], np.float32), "signs": np.array([[-6, 0, 6]], np.float32)}
    inputs = {**_IDS, "token_type_ids": (TensorProto.INT64, ["n", "s"])}
    return model(nodes, inputs, {"logits": (TensorProto.FLOAT, ["n", 3])}, weights)


def text_folder(where: Path, manifest: str, made: Tokenizer, graph: bytes) -> Path:
    """A folder with manifest, tokenizer and graph."""
    folder(where, manifest, model=graph)
    made.save(str(where / "tokenizer.json"))
    return where
