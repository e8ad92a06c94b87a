"""Texts labelled by a trained graph, by entailment, and by a comparison of vectors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine.errors import LabelsError, ManifestError, ModelFileError, WarmUpError
from engine.manifest import Candidate, parse_manifest
from engine.repository.warm_up import warm_up
from engine.scheduler.policy import BatchPolicy
from engine.servables import Embedder, EncoderZeroShot, PairZeroShot, TextClassifier
from engine.servables.calibration import MINILM, calibrate
from tests.unit.engine.graphs import context_of
from tests.unit.engine.text_graphs import entailing, lookup, summing, text_folder, tokenizer

LIMITS = BatchPolicy(4, 64)
MOODS = {"good": [3, 0], "fine": [1, 0], "bad": [0, 3], "awful": [0, 5]}
GRAPH = "name: m\nkind: text-classification\n"


def classifier(where: Path, manifest: str, last: str = "") -> TextClassifier:
    made = tokenizer([*MOODS, "not", "words"])
    text_folder(where, manifest, made, summing(lookup(made.get_vocab(), MOODS, [0, 0]), last))
    return TextClassifier(context_of(where, parse_manifest(manifest.encode(), model="m"), LIMITS))


async def test_a_trained_graph_labels_texts_of_every_length_together_as_alone(tmp_path):
    made = classifier(tmp_path, GRAPH + "labels: [happy, sad]\nscores: logits\n")
    texts = ["good good", "bad", "", "fine " * 30 + "awful " * 7, "awful", "good bad", "fine"]
    found = await made.classify(texts)
    assert found.labels == ["happy", "sad", "happy", "sad", "sad", "happy", "happy"]
    logits = np.array([[6, 0], [0, 3], [0, 0], [30, 35], [0, 5], [3, 3], [1, 0]])
    wanted = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.allclose(found.all_scores, wanted, atol=1e-5)
    for text, row in zip(texts, found.all_scores, strict=True):
        assert np.allclose((await made.classify([text])).all_scores[0], row, atol=1e-6)
    answer = await made.infer({"text": np.array([b"good", b"bad"], object)})
    assert answer.outputs["label"].tolist() == [b"happy", b"sad"]
    assert answer.tokens == 6
    assert (await made.classify([])).all_scores.shape == (0, 2)
    made.close()


async def test_labels_that_stand_alone_get_a_sigmoid_each(tmp_path):
    made = classifier(tmp_path, GRAPH + "labels: [happy, sad]\nscores: logits\nmulti_label: true\n")
    found = await made.classify(["good awful"])
    assert np.allclose(found.all_scores, 1 / (1 + np.exp(-np.array([[3.0, 5.0]]))), atol=1e-5)
    made.close()


async def test_probabilities_and_names_are_seen_in_the_files(tmp_path):
    tmp_path.joinpath("config.json").write_text(json.dumps({"id2label": {"0": "happy", "1": "sad"}}))
    made = classifier(tmp_path, GRAPH, "Softmax")
    assert {"scores: probabilities", "labels: [happy, sad]", "file: model.onnx"} <= set(made.inferred)
    assert (await made.classify(["good"])).all_scores.sum() == pytest.approx(1)
    made.close()


@pytest.mark.parametrize("config", ["{", "[]", '{"id2label": {"0": "a", "2": "b"}}', '{"id2label": 5}'])
def test_a_config_that_cannot_be_read_is_named(tmp_path, config):
    tmp_path.joinpath("config.json").write_text(config)
    with pytest.raises(ModelFileError, match=r"^config\.json: `id2label` is no object"):
        classifier(tmp_path, GRAPH, "Softmax")


def test_what_cannot_be_seen_is_asked_for(tmp_path):
    with pytest.raises(ManifestError, match=r"`labels: \[label-0, label-1\]`"):
        classifier(tmp_path, GRAPH, "Softmax")
    with pytest.raises(ManifestError, match="`scores: logits`"):
        classifier(tmp_path, GRAPH + "labels: [happy, sad]\n")


SUBJECTS = {"striker": "sport", "goal": "sport", "vote": "politics", "minister": "politics", "soup": "food"}
PAIRS = "name: m\nkind: zero-shot-classification\nhypothesis: this is about {}\n"


def pairs(where: Path, manifest: str) -> PairZeroShot:
    made = tokenizer([*SUBJECTS, *dict.fromkeys(SUBJECTS.values()), "the", "and", "this", "is", "about"])
    text_folder(where, manifest, made, entailing(made.get_vocab(), SUBJECTS))
    return PairZeroShot(context_of(where, parse_manifest(manifest.encode(), model="m"), LIMITS))


async def test_entailment_finds_the_label_whose_statement_follows(tmp_path):
    made = pairs(tmp_path, PAIRS + "labels: [sport, politics, food]\nentailment: 2\ncontradiction: 0\n")
    texts = ["the striker and the goal", "the minister", "the vote and the soup"]
    found = await made.classify(texts)
    assert found.labels[:2] == ["sport", "politics"]
    assert np.allclose(found.all_scores.sum(axis=1), 1, atol=1e-5)
    assert np.allclose(found.all_scores[2], [0.0012, 0.4994, 0.4994], atol=1e-3)
    alone = await made.classify_among(texts, (), True)
    assert (alone.all_scores > 0.5).tolist() == [[True, False, False], [False, True, False], [False, True, True]]
    said = await made.classify_among(["the soup"], [Candidate("eating", "food"), Candidate("sport")], None)
    assert said.labels == ["eating"]
    made.close()


@pytest.mark.parametrize("said", ["", "warm_up: [{texts: [the vote]}]\nlabels: [food]\n"], ids=["none", "one"])
async def test_a_model_whose_labels_come_with_each_request_is_warmed_up_without_any(tmp_path, said):
    text = PAIRS + "entailment: 2\ncontradiction: 0\n" + said
    made = pairs(tmp_path, text)
    await warm_up(made, parse_manifest(text.encode(), model="m"))
    assert (await made.classify_among(["the soup"], [Candidate("sport"), Candidate("food")], None)).labels == ["food"]
    made.close()


async def test_words_that_a_manifest_without_labels_is_warmed_up_with_are_refused(tmp_path):
    text = PAIRS + "entailment: 2\ncontradiction: 0\nwarm_up: [{texts: [the vote]}]\n"
    made = pairs(tmp_path, text)
    with pytest.raises(WarmUpError, match=r"warm_up\[0\]: labels: is empty"):
        await warm_up(made, parse_manifest(text.encode(), model="m"))
    made.close()


async def test_a_premise_longer_than_the_model_reads_is_cut_and_the_statement_is_not(tmp_path):
    made = pairs(tmp_path, PAIRS + "max_tokens: 12\nentailment: 2\ncontradiction: 0\n")
    found = await made.classify_among(["soup " + "the " * 500], [Candidate("sport"), Candidate("food")], None)
    assert found.labels == ["food"]
    assert found.tokens == 24
    made.close()


def test_the_columns_of_entailment_are_read_from_the_config_or_asked_for(tmp_path):
    with pytest.raises(ManifestError, match="`entailment: 0` and `contradiction: 2`"):
        pairs(tmp_path / "a", PAIRS)
    (tmp_path / "b").mkdir()
    names = {"0": "CONTRADICTION", "1": "NEUTRAL", "2": "ENTAILMENT"}
    (tmp_path / "b" / "config.json").write_text(json.dumps({"id2label": names}))
    made = pairs(tmp_path / "b", PAIRS)
    assert {"entailment: 2", "contradiction: 0"} <= set(made.inferred)
    made.close()


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([], "labels: is empty; send the labels"),
        (["a", "a"], "labels: holds 'a' twice"),
        ([str(at) for at in range(257)], "labels: holds 257 labels; at most 256"),
        ([str(at) for at in range(200)], "labels: holds 200 labels for 21 texts, 4200 pairs; at most 4096"),
    ],
)
async def test_labels_that_cannot_be_asked_about_are_refused(tmp_path, labels, words):
    made = pairs(tmp_path, PAIRS + "entailment: 2\ncontradiction: 0\n")
    with pytest.raises(LabelsError) as caught:
        await made.classify_among(["the"] * 21, [Candidate(label) for label in labels], None)
    assert words in caught.value.message
    assert caught.value.violations[0].field == "labels"
    made.close()


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (PAIRS.replace("{}", "it"), "hypothesis: must hold `{}` once"),
        (PAIRS + "labels: [a, {label: a}]\n", "labels: `a` is there twice"),
        (PAIRS + "labels: [{labl: a}]\n", "unknown key `labels[0].labl`; did you mean `label`?"),
        (PAIRS + "entailment: 1\ncontradiction: 1\n", "contradiction: is the same column"),
        (
            "name: m\nkind: zero-shot-classification\nbackbone: b\nexamples: [{text: x, label: y}]\n",
            "examples[0].label: `y` is none of `labels`",
        ),
    ],
)
def test_manifests_that_contradict_themselves_are_refused(manifest, words):
    with pytest.raises(ManifestError) as caught:
        parse_manifest(manifest.encode(), model="m")
    assert words in caught.value.message


MINILM_FOLDER = Path(__file__).parents[3] / ".models" / "all-minilm-l6-v2" / "1"
SENTENCES = {
    "sport": ["The striker scored twice in the final", "He won the tennis match in straight sets"],
    "politics": ["Parliament passed the budget after a long debate", "Voters go to the polls on Sunday"],
    "cooking": ["Simmer the onions until they are soft", "Whisk the eggs with sugar"],
    "health": ["The vaccine prevents most infections", "High blood pressure harms the heart"],
}


@pytest.fixture(scope="module")
def encoder():
    manifest = parse_manifest((MINILM_FOLDER / "model.yaml").read_bytes(), model="all-minilm-l6-v2")
    made = Embedder(context_of(MINILM_FOLDER, manifest))
    yield made
    made.close()


async def zero_shot(encoder, more: str = "") -> EncoderZeroShot:
    manifest = f"name: m\nkind: zero-shot-classification\nbackbone: b\n{more}"
    return await EncoderZeroShot.build(parse_manifest(manifest.encode(), model="m"), lambda: encoder)


async def test_an_encoder_finds_topics_that_nobody_trained_it_for(encoder):
    made = await zero_shot(encoder)
    texts = [text for group in SENTENCES.values() for text in group]
    wanted = [label for label, group in SENTENCES.items() for _ in group]
    found = await made.classify_among(texts, [Candidate(label) for label in SENTENCES], None)
    assert found.labels == wanted
    assert np.allclose(found.all_scores.sum(axis=1), 1, atol=1e-5)
    apart = await made.classify_among([*texts, "The ballot was held in the stadium"], [Candidate("sport")], True)
    assert apart.all_scores[:2, 0].mean() > 3 * apart.all_scores[2:, 0].mean()
    assert apart.labels == ["sport"] * 9
    again = await made.classify_among(texts, [Candidate(label) for label in SENTENCES], None)
    assert again.tokens < found.tokens  # the labels' vectors are known by now
    described = await made.classify_among(
        ["I was charged twice"],
        [Candidate("a", "a question about an invoice or a payment"), Candidate("b", "a recipe")],
        None,
    )
    assert described.labels == ["a"]


async def test_examples_sharpen_the_scores_and_leave_the_order_alone(encoder):
    labels = ", ".join(SENTENCES)
    lines = [f"  - {{label: {label}, text: {text}}}" for label, group in SENTENCES.items() for text in group]
    plain = await zero_shot(encoder, f"labels: [{labels}]\n")
    fitted = await zero_shot(encoder, f"labels: [{labels}]\nexamples:\n" + "\n".join(lines) + "\n")
    texts = [
        "She ran the marathon in under three hours",
        "Bake the bread at 220 degrees",
        "The senate rejected the bill",
    ]
    one, other = await plain.classify(texts), await fitted.classify(texts)
    assert one.labels == other.labels == ["sport", "cooking", "politics"]
    assert (other.scores > one.scores).all()


def test_a_calibration_is_the_likeliest_one():
    random = np.random.default_rng(5)
    cosines = random.normal(0.2, 0.15, (4000, 5)).astype(np.float32)
    weights = np.exp(cosines / 0.08)
    weights /= weights.sum(axis=1, keepdims=True)
    truths = np.array([random.choice(5, p=row / row.sum()) for row in weights.astype(np.float64)])
    found = calibrate(cosines, truths)
    assert found.temperature == pytest.approx(0.08, rel=0.15)
    assert MINILM.scores(np.array([[0.15, 0.9]], np.float32), multi_label=True)[0, 0] == pytest.approx(0.5)
