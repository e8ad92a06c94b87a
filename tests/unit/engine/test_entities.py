"""Token classification: tags become entities with the right characters, in texts of any length."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from engine.errors import ManifestError, NoLabelsError, TensorError, TextsTooLongError
from engine.manifest import parse_manifest
from engine.scheduler.policy import BatchPolicy
from engine.servables import TokenClassifier
from engine.servables.spans import TokenSpans, entities_of
from engine.servables.token_windows import SpecialTokens, merged, windows_of
from tests.unit.engine.graphs import context_of
from tests.unit.engine.text_graphs import lookup, tagging, text_folder, tokenizer

TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
MANIFEST = f"name: m\nkind: token-classification\nlabels: [{', '.join(TAGS)}]\n"
WORDS = ("anna", "smith", "lives", "in", "new", "york", "and", "ben", ",", "##sson", "##in", "carl", "zürich")
ROWS = {
    "anna": [0, 8, 0, 0, 0],
    "smith": [0, 0, 6, 0, 0],
    "new": [0, 0, 0, 9, 0],
    "york": [0, 0, 0, 0, 9],
    "zürich": [0, 0, 0, 5, 0],
    "ben": [0, 7, 0, 0, 0],
    "carl": [0, 7, 0, 0, 0],
}


def opened(where: Path, manifest: str = MANIFEST) -> TokenClassifier:
    made = tokenizer(WORDS, pieces=True)
    graph = tagging(lookup(made.get_vocab(), ROWS, [4, 0, 0, 0, 0]))
    text_folder(where, manifest, made, graph)
    parsed = parse_manifest(manifest.encode(), model="m")
    return TokenClassifier(context_of(where, parsed, BatchPolicy(4, 64)))


def said(text: str, entities) -> list[tuple[str, str]]:
    return [(each.label, text[each.start : each.end]) for each in entities]


async def test_people_and_places_are_found_with_their_characters(tmp_path):
    made = opened(tmp_path)
    texts = ["Anna Smith lives in New York and Zürich, ben", "", "in and in", "🙂 Zürich  é Carl Smith"]
    found = await made.extract(texts)
    assert said(texts[0], found.entities[0]) == [
        ("PER", "Anna Smith"), ("LOC", "New York"), ("LOC", "Zürich"), ("PER", "ben"),
    ]  # fmt: skip
    assert found.entities[1:3] == [[], []]
    assert said(texts[3], found.entities[3]) == [("LOC", "Zürich"), ("PER", "Carl Smith")]
    softmax = [np.exp(logit) / (np.exp(logit) + 4) for logit in (8, 6)]
    assert found.entities[0][0].score == pytest.approx(np.mean(softmax), abs=1e-4)
    made.close()


async def test_a_tensor_of_texts_gives_a_list_in_json_for_each(tmp_path):
    made = opened(tmp_path)
    answer = await made.infer({"text": np.array(["in Zürich".encode(), b""], object)})
    lists = [json.loads(each) for each in answer.outputs["entities"]]
    assert lists[1] == []
    assert {key: lists[0][0][key] for key in ("label", "start", "end", "text")} == {
        "label": "LOC", "start": 3, "end": 9, "text": "Zürich",
    }  # fmt: skip
    assert answer.tokens == 4
    with pytest.raises(NoLabelsError, match="ExtractEntities"):
        await made.classify(["a"])
    with pytest.raises(TensorError, match="no such input"):
        await made.infer({"words": np.array([b"a"], object)})
    made.close()


async def test_a_long_text_is_read_in_windows_as_if_it_were_read_whole(tmp_path):
    long = opened(tmp_path / "long", MANIFEST + "max_tokens: 4096\n")
    short = opened(tmp_path / "short", MANIFEST + "max_tokens: 16\noverlap: 5\n")
    text = " ".join(["Anna Smith lives in New York and Zürich, ben Carl Smith and anna"] * 40)
    whole, parts = await long.extract([text, "in ben"]), await short.extract([text, "in ben"])
    assert said(text, whole.entities[0]) == said(text, parts.entities[0])
    assert len(whole.entities[0]) == 240
    assert parts.entities[1] == whole.entities[1]
    long.close()
    short.close()


async def test_a_words_pieces_are_one_word_by_its_first_piece_or_each_its_own(tmp_path):
    text = "Bensson in Berlin bensson"
    words, pieces = opened(tmp_path / "w"), opened(tmp_path / "p", MANIFEST + "aggregation: simple\n")
    assert said(text, (await words.extract([text])).entities[0]) == [("PER", "Bensson"), ("PER", "bensson")]
    assert said(text, (await pieces.extract([text])).entities[0]) == [("PER", "Ben"), ("PER", "ben")]
    words.close()
    pieces.close()


async def test_what_the_model_is_less_sure_of_is_left_out(tmp_path):
    made = opened(tmp_path)
    found = await made.extract(["Anna in Zürich"], min_score=0.98)
    assert [each.label for each in found.entities[0]] == ["PER"]
    made.close()


async def test_more_than_a_request_may_hold_is_refused_before_it_is_computed(tmp_path):
    made = opened(tmp_path, MANIFEST + "max_tokens: 16\noverlap: 5\n")
    with pytest.raises(TextsTooLongError, match=r"texts: come to 20000 tokens, which are .* windows"):
        await made.extract(["in " * 10_000] * 2)
    made.close()


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (MANIFEST.replace(", I-LOC", ""), "labels: 4 names, but `logits` has 5 columns"),
        ("name: m\nkind: token-classification\n", "`labels: [label-0, label-1, label-2, …]`"),
        (MANIFEST + "outside: X\n", "`outside: O`"),
        (MANIFEST + "output: unused\n", "name the output with the tags"),
        (MANIFEST + "max_tokens: 16\noverlap: 9\n", "overlap: 9 is more than half"),
    ],
)
def test_what_does_not_go_together_is_said_at_load(tmp_path, manifest, words):
    with pytest.raises(ManifestError) as caught:
        opened(tmp_path, manifest)
    assert words in caught.value.message


def test_names_come_from_the_exporters_config(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"id2label": dict(enumerate(TAGS))}))
    made = opened(tmp_path, "name: m\nkind: token-classification\n")
    assert f"labels: [{', '.join(TAGS)}]" in made.inferred
    assert "scores: logits" in made.inferred
    made.close()


def table_of(tags: list[str], names: tuple[str, ...]) -> np.ndarray:
    made = np.full((len(tags), len(names)), 0.01, np.float32)
    for row, tag in enumerate(tags):
        made[row, names.index(tag)] = 0.9
    return made


def read(tags: list[str], names: tuple[str, ...] = TAGS, **how) -> list[tuple[str, int, int]]:
    """Entities of words of one letter each, `a b c`."""
    text = " ".join("abcdefghijkl"[: len(tags)])
    spans = TokenSpans([(2 * at, 2 * at + 1) for at in range(len(tags))], list(range(len(tags))))
    found = entities_of(table_of(tags, names), names, spans, text, **how)
    return [(each.label, each.start // 2, each.end // 2 + 1) for each in found]


BILOU = ("O", "B-X", "I-X", "L-X", "U-X")


@pytest.mark.parametrize(
    ("tags", "names", "wanted"),
    [
        (["B-PER", "I-PER", "O"], TAGS, [("PER", 0, 2)]),
        (["B-PER", "B-PER"], TAGS, [("PER", 0, 1), ("PER", 1, 2)]),
        (["I-PER", "I-LOC", "I-LOC"], TAGS, [("PER", 0, 1), ("LOC", 1, 3)]),
        (["O", "I-PER"], TAGS, [("PER", 1, 2)]),
        (["U-X", "U-X", "B-X", "L-X", "I-X"], BILOU, [("X", 0, 1), ("X", 1, 2), ("X", 2, 4), ("X", 4, 5)]),
        (["name", "name", "O", "name"], ("O", "name"), [("name", 0, 2), ("name", 3, 4)]),
        (["B-A-B", "I-A-B"], ("O", "B-A-B", "I-A-B"), [("A-B", 0, 2)]),
        ([], TAGS, []),
    ],
)
def test_tags_of_every_scheme_become_entities(tags, names, wanted):
    assert read(tags, names) == wanted


@given(st.lists(st.sampled_from(TAGS), max_size=12))
def test_entities_cover_exactly_what_is_tagged_and_never_overlap(tags):
    found = read(tags)
    covered = [at for _, start, end in found for at in range(start, end)]
    assert covered == [at for at, tag in enumerate(tags) if tag != "O"]
    for label, start, end in found:
        assert {tag[2:] for tag in tags[start:end]} == {label}
        assert all(tag.startswith("I-") for tag in tags[start + 1 : end])


@pytest.mark.parametrize(
    ("aggregation", "wanted"), [("first", "A"), ("max", "B"), ("average", "B"), ("simple", "A B C")]
)
def test_the_pieces_of_a_word_are_made_one_as_asked(aggregation, wanted):
    table = np.array([[0, 0.5, 0.4, 0.1], [0, 0.1, 0.9, 0], [0, 0.1, 0.35, 0.55]], np.float32)
    spans = TokenSpans([(0, 1), (1, 2), (2, 3)], [0, 0, 0])
    found = entities_of(table, ("O", "A", "B", "C"), spans, "xyz", aggregation=aggregation)
    assert " ".join(each.label for each in found) == wanted


@given(st.integers(0, 200), st.integers(1, 40), st.data())
def test_windows_cover_a_text_and_every_token_is_answered_once_where_it_has_most_around_it(count, size, data):
    overlap = data.draw(st.integers(0, size - 1))
    windows = list(windows_of(count, size, overlap))
    assert {at for each in windows for at in range(each.start, each.end)} == set(range(count))
    assert all(each.end - each.start <= size for each in windows)
    if not windows:
        return
    answers = [np.stack([np.arange(w.start, w.end), np.full(w.end - w.start, at)], 1) for at, w in enumerate(windows)]
    made = merged(windows, [answer.astype(np.float32) for answer in answers])
    assert made[:, 0].tolist() == list(range(count))

    def around(at: int, window: int) -> int:
        w = windows[window]
        before = at - w.start if w.start else count
        return min(before, w.end - 1 - at if w.end < count else count)

    for at in range(count):
        best = max(around(at, n) for n, w in enumerate(windows) if w.start <= at < w.end)
        assert around(at, int(made[at, 1])) == best


@given(st.text(max_size=60))
def test_offsets_of_a_byte_tokenizer_are_characters_too(text):
    made = byte_tokenizer()
    encoded = made.encode(text, add_special_tokens=False)
    table = np.tile(np.array([[0.1, 0.9]], np.float32), (len(encoded.ids), 1))
    spans = TokenSpans(encoded.offsets, encoded.word_ids)
    for each in entities_of(table, ("O", "X"), spans, text):
        assert text[each.start : each.end] == text[each.start : each.end].strip() != ""
    assert SpecialTokens.of(made).count == 0


def byte_tokenizer() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(["hello world"], trainers.BpeTrainer(initial_alphabet=alphabet, show_progress=False))
    return made
