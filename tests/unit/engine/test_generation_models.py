"""Decoders as exporters write them: what is what is found out, what cannot be found out is asked for."""

import asyncio
import json
from typing import NoReturn

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from prometheus_client import CollectorRegistry

from engine.errors import EngineError, ManifestError, ModelFileError
from engine.generation.base import Message, Prompt, Sampling, Tool
from engine.generation.decoder import Decoder
from engine.generation.device_cache import DeviceCaches
from engine.generation.figures import GenerationMetrics
from engine.generation.form import read_form
from engine.metrics import EngineMetrics
from engine.repository.opening import Opener
from engine.runtime.kept import Kept
from engine.runtime.sessions import SessionSettings
from engine.scheduler.policy import BatchPolicy
from engine.servables import TextGenerator
from engine.tensor import TensorSpec
from mesh.sandbox import ImagePool, SandboxPool, TemplateInvalidError
from tests.fakes.decoders import MANIFEST, decoder_folder, open_generator

GREEDY = Sampling(max_tokens=10, temperature=0)
NAMES = {
    "optimum": ("past_key_values.{}.{}", "present.{}.{}"),
    "both long": ("past_key_values.{}.{}", "present_key_values.{}.{}"),
    "underlines": ("past_key_values_{}_{}", "present_{}_{}"),
    "short": ("past.{}.{}", "present.{}.{}"),
}


async def text_of(model: TextGenerator, prompt: Prompt, sampling: Sampling = GREEDY) -> str:
    return "".join([piece.text async for piece in model.generate(prompt, sampling)])


def specs(past: str, present: str, **changed) -> tuple[list[TensorSpec], list[TensorSpec]]:
    shape = changed.get("shape", (-1, 2, -1, 8))
    kind = changed.get("kind", "FP32")
    inputs = [TensorSpec(name, "INT64", (-1, -1)) for name in ("input_ids", "attention_mask", "position_ids")]
    outputs = [TensorSpec("logits", "FP32", (-1, -1, 99))]
    for layer in range(12):
        for part in ("key", "value"):
            inputs.append(TensorSpec(past.format(layer, part), kind, shape))
            outputs.append(TensorSpec(present.format(layer, part), kind, shape))
    return inputs, outputs


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_the_names_of_several_exporters_are_understood(names):
    form = read_form("m.onnx", *specs(*names))
    assert (form.layers, form.vocabulary, form.positions) == (12, 99, "position_ids")
    assert [each.past for each in form.cache][:3] == [
        names[0].format(0, "key"),
        names[0].format(0, "value"),
        names[0].format(1, "key"),
    ]
    assert form.cache[22].present == names[1].format(11, "key")


def test_half_precision_and_graphs_that_work_out_positions_are_understood():
    inputs, outputs = specs(*NAMES["optimum"], kind="FP16")
    form = read_form("m.onnx", [each for each in inputs if each.name != "position_ids"], outputs)
    assert form.positions is None
    assert form.dtype == np.float16
    assert form.token_bytes == 24 * 2 * 8 * 2


def test_measures_that_the_graph_leaves_open_are_asked_for():
    open_ones = specs(*NAMES["optimum"], shape=(-1, -1, -1, -1))
    with pytest.raises(ManifestError, match="add the line `kv_heads: 8`"):
        read_form("m.onnx", *open_ones)
    with pytest.raises(ManifestError, match="add the line `head_dim: 64`"):
        read_form("m.onnx", *open_ones, kv_heads=2)
    assert read_form("m.onnx", *open_ones, kv_heads=2, head_dim=4).cache[0].width == 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda i, o: (i[:3], o), "is no decoder"),
        (lambda i, o: (i, o[:-1]), "is no decoder"),
        (lambda i, o: (i, o[1:]), "give `logits`"),
        (lambda i, o: (i[1:], o), "take `input_ids`"),
        (lambda i, o: ([*i, TensorSpec("encoder_hidden_states", "FP32", (-1, -1, 8))], o), "encoder_hidden_states"),
        (lambda i, o: (i, [TensorSpec("logits", "FP32", (-1, -1, -1)), *o[1:]]), "how many tokens"),
    ],
)
def test_what_is_no_decoder_is_refused_with_what_it_lacks(change, words):
    with pytest.raises(ModelFileError, match=words):
        read_form("m.onnx", *change(*specs(*NAMES["optimum"])))


def without_positions(graph: onnx.ModelProto) -> None:
    """Let the graph work positions out of the mask, as some exporters do."""
    inner = graph.graph
    given = next(each for each in inner.input if each.name == "position_ids")
    inner.input.remove(given)
    inner.initializer.append(numpy_helper.from_array(np.array(1, np.int64), "one_axis"))
    inner.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "the_axis"))
    inner.initializer.append(numpy_helper.from_array(np.array([0], np.int64), "the_first"))
    inner.initializer.append(numpy_helper.from_array(np.array([2**40], np.int64), "the_last"))
    nodes = [
        helper.make_node("CumSum", ["attention_mask", "one_axis"], ["counted"]),
        helper.make_node("Sub", ["counted", "attention_mask"], ["all_positions"]),
        helper.make_node("Shape", ["input_ids"], ["new_length"], start=1, end=2),
        helper.make_node("Neg", ["new_length"], ["new_begins"]),
        helper.make_node("Slice", ["all_positions", "new_begins", "the_last", "the_axis"], ["position_ids"]),
    ]
    for node in reversed(nodes):
        inner.node.insert(0, node)


def mask_as_length(graph: onnx.ModelProto) -> None:
    """Let the graph read padding as tokens: what it takes from the mask is how long it is."""
    inner = graph.graph
    inner.node.insert(0, helper.make_node("Mul", ["attention_mask", "nothing"], ["zeros"]))
    inner.node.insert(1, helper.make_node("Add", ["zeros", "one_more"], ["all_ones"]))
    for name, value in (("nothing", 0), ("one_more", 1)):
        inner.initializer.append(numpy_helper.from_array(np.array(value, np.int64), name))
    for node in list(inner.node)[2:]:
        for at, name in enumerate(node.input):
            if name == "attention_mask":
                node.input[at] = "all_ones"


def half_precision(graph: onnx.ModelProto) -> None:
    """Let the cache be FP16 outside of the graph."""
    inner = graph.graph
    pasts = [each for each in inner.input if each.name.startswith("past")]
    renamed = {each.name: f"{each.name}_32" for each in pasts}
    for node in inner.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        if node.output[0].startswith("present"):
            node.op_type = "Cast"
            node.attribute.append(helper.make_attribute("to", TensorProto.FLOAT16))
    for name, inside in renamed.items():
        inner.node.insert(0, helper.make_node("Cast", [name], [inside], to=TensorProto.FLOAT))
    for each in [*pasts, *(output for output in inner.output if output.name.startswith("present"))]:
        each.type.tensor_type.elem_type = TensorProto.FLOAT16


@pytest.mark.parametrize("change", [None, half_precision], ids=["FP32", "FP16"])
async def test_a_cache_that_stays_where_it_was_computed_gives_the_same_answers(tmp_path, monkeypatch, change):
    """As on a device: kept there from one step to the next, and when rows join or leave."""
    folder = decoder_folder(tmp_path / "m", change=change)
    plain = open_generator(folder)
    monkeypatch.setattr(
        "engine.servables.text_generator.Decoder",
        lambda session, form, device: Decoder(session, form, device=device or DeviceCaches(form, SessionSettings())),
    )
    model = open_generator(folder)
    assert model.inferred == plain.inferred
    kept = []
    run_keeping = model._session.run_keeping

    def noted(feeds, *arguments, **named):
        if feeds["attention_mask"].shape[1] > feeds["input_ids"].shape[1]:
            kept.append(sum(isinstance(each, Kept) for each in feeds.values()))
        return run_keeping(feeds, *arguments, **named)

    monkeypatch.setattr(model._session, "run_keeping", noted)
    prompts = ["x", "hello there", "abc" * 20]
    lengths = [Sampling(max_tokens=length, temperature=0) for length in (4, 12, 25)]
    expected = [await text_of(plain, Prompt(each), wish) for each, wish in zip(prompts, lengths, strict=True)]
    asked = [text_of(model, Prompt(each), wish) for each, wish in zip(prompts, lengths, strict=True)]
    assert await asyncio.gather(*asked) == expected
    assert len(kept) > 15
    assert set(kept) == {2 * 2}
    plain.close()
    model.close()


async def test_a_cache_of_half_precision_is_kept_as_such(tmp_path):
    plain = open_generator(decoder_folder(tmp_path / "a"))
    half = open_generator(decoder_folder(tmp_path / "b", change=half_precision))
    assert half._loop._rows.cache.tensors[0].dtype == np.float16
    prompts = ["x", "hello there", "abc" * 20]
    expected = [await text_of(plain, Prompt(each)) for each in prompts]
    found = await asyncio.gather(*(text_of(half, Prompt(each)) for each in prompts))
    assert [each[:3] for each in found] == [each[:3] for each in expected]
    plain.close()
    half.close()


async def test_a_graph_that_works_out_positions_answers_as_one_that_takes_them(tmp_path):
    plain = open_generator(decoder_folder(tmp_path / "a"))
    other = open_generator(decoder_folder(tmp_path / "b", change=without_positions))
    prompts = ["x", "hello there", "abc" * 20]
    expected = [await text_of(plain, Prompt(each)) for each in prompts]
    assert await asyncio.gather(*(text_of(other, Prompt(each)) for each in prompts)) == expected
    plain.close()
    other.close()


async def test_a_graph_that_reads_padding_gets_its_rows_one_at_a_time(tmp_path):
    model = open_generator(decoder_folder(tmp_path / "m", change=mask_as_length))
    assert "max_running: 1" in model.inferred
    prompts = ["x", "hello there", "abc" * 20]
    alone = [await text_of(model, Prompt(each)) for each in prompts]
    assert await asyncio.gather(*(text_of(model, Prompt(each)) for each in prompts)) == alone
    model.close()


def test_what_the_manifest_leaves_out_is_read_from_the_files_beside(tmp_path):
    folder = decoder_folder(tmp_path / "m", manifest="name: m\nkind: text-generation\n")
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 128}))
    (folder / "generation_config.json").write_text(
        json.dumps({"eos_token_id": [257], "temperature": 0.6, "top_k": 20, "top_p": 0.9})
    )
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": {"content": "<|begin|>"}, "chat_template": "{{ bos_token }}{{ messages[0].content }}"})
    )
    model = open_generator(folder)
    assert model.context == 128
    assert model.inferred == (
        "file: model.onnx",
        "context: 128",
        'eos: ["<|end|>"]',
        'bos: "<|begin|>"',
        "sampling.temperature: 0.6",
        "sampling.top_p: 0.9",
        "sampling.top_k: 20",
        "chat_template: the one of tokenizer_config.json",
    )
    model.close()


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ("name: m\nkind: text-generation\n", r"add the line `context: 2048`"),
        ("name: m\nkind: text-generation\ncontext: 64\n", r"add the line `eos:"),
        ("name: m\nkind: text-generation\ncontext: 64\neos: [nothing]\n", r"'nothing' is no token"),
        (MANIFEST.replace("tiny", "m") + "chat_template: no.jinja\n", r"there is no file 'no.jinja'"),
        (MANIFEST.replace("tiny", "m") + "tokenizer: none.json\n", r"none.json: is missing"),
    ],
)
def test_what_cannot_be_found_out_is_asked_for_with_the_line_to_add(tmp_path, manifest, words):
    with pytest.raises(EngineError, match=words):
        open_generator(decoder_folder(tmp_path / "m", manifest=manifest))


TEMPLATE = (
    'chat_template: "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}'
    '{% for t in tools or [] %}{{ t.function.name }}{% endfor %}[assistant]"\n'
)


@pytest.fixture(scope="module")
def chatting(tmp_path_factory):
    return decoder_folder(tmp_path_factory.mktemp("chat"), manifest=MANIFEST + TEMPLATE)


@pytest.fixture
async def chat(chatting):
    pool = SandboxPool()
    model = open_generator(chatting, renderer=pool)
    yield model
    model.close()
    await pool.close()


async def test_a_conversation_becomes_the_text_that_the_template_makes_of_it(chat):
    said = Prompt(messages=(Message("user", "hi"),))
    assert await text_of(chat, said) == await text_of(chat, Prompt("<|begin|>[user]hi[assistant]"))


async def test_a_template_that_fails_or_runs_for_ever_is_an_error_of_that_request(tmp_path):
    pool = SandboxPool(deadline_s=0.5)
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    for name, template in (("a", "{{ raise_exception('not so') }}"), ("b", loop)):
        folder = decoder_folder(tmp_path / name, manifest=MANIFEST + f'chat_template: "{template}"\n')
        model = open_generator(folder, renderer=pool)
        with pytest.raises(Exception, match=r"not so|0\.5 s") as failed:
            await text_of(model, Prompt(messages=(Message("user", "hi"),)))
        assert isinstance(failed.value, TemplateInvalidError) == (name == "a")
        assert await text_of(model, Prompt("still here"))
        model.close()
    await pool.close()


def find_nothing(*wanted: str) -> NoReturn:
    raise AssertionError(wanted)


@pytest.mark.parametrize(
    ("manifest", "files", "words"),
    [
        ('chat_template: "{{ unclosed"\n', {}, "model.yaml: chat_template: the chat template makes no text of a plain"),
        ("", {"chat_template.jinja": "a\n{% for m in messages %}"}, "chat_template.jinja: the .* line 2: "),
        (
            "",
            {"tokenizer_config.json": '{"chat_template": "{{ f(1) }}"}'},
            "tokenizer_config.json: the .* 'f' is",
        ),
        ('chat_template: "{{ messages[7].content }}"\n', {}, "model.yaml: chat_template: "),
    ],
    ids=["unclosed", "a file", "a function", "a long talk"],
)
async def test_a_template_that_makes_no_text_is_refused_when_the_model_is_loaded(tmp_path, manifest, files, words):
    folder = decoder_folder(tmp_path / "m", manifest=MANIFEST.replace("tiny", "m") + manifest)
    for name, text in files.items():
        (folder / name).write_text(text)
    pool, registry = SandboxPool(), CollectorRegistry()
    opener = Opener(
        EngineMetrics(registry), SessionSettings(), BatchPolicy(8, 64), ImagePool(), GenerationMetrics(registry), pool
    )
    with pytest.raises(EngineError, match=words):
        await opener.open("tenants/t/models/m/versions/1", folder, find_nothing)
    await opener.close()
    await pool.close()


@pytest.mark.parametrize(
    "template",
    [
        "{% if messages[0].role != 'system' %}{{ raise_exception('no system') }}{% endif %}{{ messages[1].content }}",
        "{{ messages[0].content + '' }}{{ tools[0].name if tools }}",
    ],
    ids=["that wants a system", "plain"],
)
async def test_a_template_that_takes_one_kind_of_conversation_is_taken(chatting, tmp_path, template):
    pool = SandboxPool()
    folder = decoder_folder(tmp_path / "m", manifest=MANIFEST + f'chat_template: "{template}"\n')
    model = open_generator(folder, renderer=pool)
    await model.try_template("t")
    model.close()
    await pool.close()


async def test_a_template_for_which_there_is_no_time_is_not_judged(tmp_path):
    pool = SandboxPool(deadline_s=0.2)
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    model = open_generator(
        decoder_folder(tmp_path / "m", manifest=MANIFEST + f'chat_template: "{loop}"\n'), renderer=pool
    )
    await model.try_template("t")
    model.close()
    await pool.close()


SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["x", "y"]}, "count": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["name", "count"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("temperature", [0, 2])
async def test_an_answer_with_a_schema_is_json_that_it_allows(chat, temperature):
    answers = await asyncio.gather(
        *(
            text_of(chat, Prompt("x"), Sampling(max_tokens=100, temperature=temperature, seed=seed, json_schema=SCHEMA))
            for seed in range(6)
        )
    )
    for answer in answers:
        found = json.loads(answer)
        assert list(found) == ["name", "count"]
        assert found["name"] in ("x", "y")
        assert found["count"] in range(10)


TOOLS = (
    Tool(
        "find",
        "Finds.",
        {"type": "object", "properties": {"id": {"enum": [1, 2]}}, "required": ["id"], "additionalProperties": False},
    ),
    Tool("stop", "Stops.", {"type": "object", "properties": {}, "additionalProperties": False}),
)


@pytest.mark.parametrize(("choice", "names"), [("required", {"find", "stop"}), ("find", {"find"})])
async def test_a_call_that_must_be_made_is_made(chat, choice, names):
    prompt = Prompt(messages=(Message("user", "go"),), tools=TOOLS, tool_choice=choice)
    [*_, last] = [piece async for piece in chat.generate(prompt, Sampling(max_tokens=120, temperature=0))]
    assert last.finish == "tool_calls"
    [call] = last.tool_calls
    assert call.name in names
    assert call.id.startswith("call_")
    assert json.loads(call.arguments) in ({"id": 1}, {"id": 2}, {})
    assert last.text == ""
