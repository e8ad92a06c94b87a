"""The model that ships: it learned the documents, and answers what it was taught, in company as alone."""

import asyncio
import json
from collections import Counter

import numpy as np
import pytest
from tokenizers import Tokenizer

from engine.generation.base import Message, Piece, Prompt, Sampling, Tool
from engine.runtime.sessions import SessionSettings, open_session
from engine.servables import TextGenerator
from mesh.sandbox import SandboxPool
from tests.fakes.decoders import open_generator
from tools.models.docs_writer import CONTEXT, FOLDER, prepare_docs_writer
from tools.models.writer_network import Network, fresh_weights
from tools.models.writer_training import CONFIG

TEXT = json.loads((FOLDER / "text.json").read_text())
RPC = "What does PredictionService.Embed do?"
TOOLS = tuple(
    Tool(name, says, {"type": "object", "properties": {key: {"type": "string"}}, "required": [key]})
    for name, says, key in (
        ("track_parcel", "Where a parcel is.", "parcel"),
        ("get_weather", "The weather in a city.", "city"),
    )
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return prepare_docs_writer(tmp_path_factory.mktemp("models"))


@pytest.fixture
async def writer(folder):
    pool = SandboxPool()
    model = open_generator(folder, renderer=pool, waiting=512)
    yield model
    await asyncio.to_thread(model.close)
    await pool.close()


async def asked(model: TextGenerator, question: str, **more) -> tuple[str, Piece]:
    prompt = Prompt(messages=(Message("user", question),), **more)
    pieces = [piece async for piece in model.generate(prompt, Sampling(max_tokens=200))]
    return "".join(piece.text for piece in pieces), pieces[-1]


def nats(folder, texts: list[str]) -> tuple[float, float]:
    """How surprising a token of these texts is to the model, and to whoever knows only how often each token comes."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    session = open_session(folder / "model.onnx", SessionSettings())
    learned = [*TEXT["paragraphs"], *(answer for _, answer in TEXT["pairs"])]
    often = Counter(token for text in learned for token in tokenizer.encode(text).ids)
    total = sum(often.values()) + CONFIG.vocab_size
    by_model, by_share, count = 0.0, 0.0, 0
    for text in texts:
        ids = np.array([tokenizer.encode(f"<|begin|>{text}<|end|>").ids[:256]])
        feeds = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "position_ids": np.arange(ids.shape[1])[None],
        }
        for spec in session.inputs:
            if spec.name.startswith("past"):
                feeds[spec.name] = np.zeros((1, CONFIG.kv_heads, 0, CONFIG.head_dim), np.float32)
        logits = session.run(feeds, ["logits"])["logits"][0, :-1].astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        told = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        by_model -= told[np.arange(ids.shape[1] - 1), ids[0, 1:]].sum()
        by_share -= sum(np.log((often[token] + 1) / total) for token in ids[0, 1:].tolist())
        count += ids.shape[1] - 1
    session.close()
    return by_model / count, by_share / count


def test_what_was_held_out_surprises_it_far_less_than_who_knows_only_how_often_tokens_come(folder):
    assert len(TEXT["held_out"]) >= 20
    by_model, by_share = nats(folder, TEXT["held_out"])
    assert np.exp(by_model) < 80
    assert np.exp(by_model) < np.exp(by_share) / 4


def test_what_it_learned_hardly_surprises_it_at_all(folder):
    by_model, by_share = nats(folder, TEXT["paragraphs"])
    assert np.exp(by_model) < 4
    assert np.exp(by_share) > 150


async def test_it_answers_most_of_what_it_was_taught_word_for_word(writer):
    pairs = TEXT["pairs"]
    found = await asyncio.gather(*(asked(writer, question) for question, _ in pairs))
    right = [answer == taught for (answer, _), (_, taught) in zip(found, pairs, strict=True)]
    assert sum(right) / len(right) > 0.85
    assert (await asked(writer, RPC))[0] == "Turns texts into vectors, with a model of the kind `text-embedding`."


async def test_it_answers_in_company_what_it_answers_alone(writer):
    questions = [question for question, _ in TEXT["pairs"][::20]]
    together = [text for text, _ in await asyncio.gather(*(asked(writer, question) for question in questions))]
    assert [(await asked(writer, question))[0] for question in questions] == together


@pytest.mark.parametrize(
    ("question", "tool"),
    [("Where is my parcel 48213?", "track_parcel"), ("What is the weather in Oslo?", "get_weather")],
)
async def test_it_calls_the_tool_that_the_question_is_about(writer, question, tool):
    text, last = await asked(writer, question, tools=TOOLS)
    assert (text, last.finish) == ("", "tool_calls")
    [call] = last.tool_calls
    assert call.name == tool
    assert list(json.loads(call.arguments)) == ["parcel" if tool == "track_parcel" else "city"]


def test_its_context_is_what_its_positions_are(writer):
    assert writer.context == CONTEXT


def test_the_gradients_that_it_was_trained_with_are_those_of_its_loss():
    random = np.random.default_rng(0)
    weights = {name: value.astype(np.float64) for name, value in fresh_weights(CONFIG, random).items()}
    network = Network(CONFIG, 6)
    network._cos, network._sin = network._cos.astype(np.float64), network._sin.astype(np.float64)
    ids, targets = random.integers(0, CONFIG.vocab_size, (2, 2, 6))
    _, gradients = network.gradients(weights, ids, targets)
    for name, value in weights.items():
        at = tuple(random.integers(0, length) for length in value.shape)
        if name == "embedding":
            at = (int(ids[0, 0]), at[1])
        kept, losses = value[at], []
        for step in (1e-5, -1e-5):
            value[at] = kept + step
            losses.append(network.loss(weights, ids, targets))
        value[at] = kept
        assert gradients[name][at] == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-3, abs=1e-8)
